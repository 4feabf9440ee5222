"""Data files: every kind, encoding and separator gives the same records, or one sentence."""

from __future__ import annotations

import gzip
import json
import sys

import polars as pl
import pytest

from warehouse.errors import DataError, MissingExtraError
from warehouse.inputs.files import read_records

ROWS = [{"prompt": "Wie heißt er?", "reference": "Jürgen"}, {"prompt": "Wo?", "reference": "hier"}]
CSV = "prompt,reference\nWie heißt er?,Jürgen\nWo?,hier\n"
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def values(folder, name, raw, notes=None):
    (folder / name).write_bytes(raw)
    return [value for _, value in read_records(folder / name, [] if notes is None else notes)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", CSV), ("a.jsonl", JSONL), ("a.json", json.dumps(ROWS))]
)
def test_every_encoding_gives_the_same_records(tmp_path, name, text, encoding):
    notes: list[str] = []
    assert values(tmp_path, name, text.encode(encoding), notes) == ROWS
    assert notes == []


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.jsonl", JSONL)])
def test_windows_1252_is_read_and_told(tmp_path, name, text):
    notes: list[str] = []
    assert values(tmp_path, name, text.encode("cp1252"), notes) == ROWS
    (note,) = notes
    assert "Windows-1252" in note


@pytest.mark.parametrize(
    "raw",
    [
        "prompt\n你好世界你好\n".encode("gbk"),
        "prompt\nПривет мир\n".encode("cp1251"),
        "prompt\nüber\n".encode() + b"\xff\n",  # UTF-8 but for one line
    ],
)
def test_an_encoding_that_cannot_be_told_is_not_guessed(tmp_path, raw):
    with pytest.raises(DataError, match=r"a.csv line \d is not UTF-8; save the file as UTF-8"):
        values(tmp_path, "a.csv", raw)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found_in_the_header(tmp_path, separator):
    text = f'prompt{separator}"reference"\n"a,;|\tb"{separator}c\n'
    expected = [{"prompt": "a,;|\tb", "reference": "c"}]
    assert values(tmp_path, "a.csv", text.encode()) == expected
    assert values(tmp_path, "a.csv", f"sep={separator}\n{text}".encode()) == expected


def test_a_comma_is_the_separator_where_it_makes_a_prompt(tmp_path):
    assert values(tmp_path, "a.csv", b"prompt,a;b;c\nx,y\n") == [{"prompt": "x", "a;b;c": "y"}]
    assert values(tmp_path, "a.tsv", b"prompt\treference\na, b\tc\n") == [
        {"prompt": "a, b", "reference": "c"}
    ]


def test_blanks_around_a_columns_name_are_no_part_of_it(tmp_path):
    found = values(tmp_path, "a.csv", b"prompt, reference\n padded ,  4\n")
    assert found == [{"prompt": " padded ", "reference": "4"}]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '[{"prompt": "a"}, {"prompt": "b"}]', ["a", "b"]),
        ("a.json", '{"version": 1, "data": [{"prompt": "a"}]}', ["a"]),
        ("a.json", '{"prompt": "a", "choices": [{"text": "x"}]}', ["a"]),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
        ("a.ndjson", '\n{"prompt": "a"}\r\n\r\n{"prompt": "b"}', ["a", "b"]),
    ],
)
def test_json_in_its_shapes(tmp_path, name, text, expected):
    assert [row["prompt"] for row in values(tmp_path, name, text.encode())] == expected


def test_nan_is_no_value(tmp_path):
    raw = b'{"prompt": "a", "reference": NaN, "n": -Infinity}'
    assert values(tmp_path, "a.jsonl", raw) == [{"prompt": "a", "reference": None, "n": None}]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_compressed_files(tmp_path, name):
    raw = gzip.compress((CSV if "csv" in name else JSONL).encode())
    assert values(tmp_path, name, raw) == ROWS
    with pytest.raises(DataError, match="cannot be read"):
        values(tmp_path, name, raw[:30])
    with pytest.raises(DataError, match="cannot be read"):
        values(tmp_path, name, b"not compressed")


def test_a_compressed_parquet_file(tmp_path):
    pl.DataFrame(ROWS).write_parquet(tmp_path / "plain")
    raw = gzip.compress((tmp_path / "plain").read_bytes())
    assert values(tmp_path, "a.parquet.gz", raw) == ROWS


def test_the_first_sheet_of_an_excel_file(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in ([], [" prompt", "reference", None], ["When?", 1999.0, "x"], [None], ["Pi?", 3.5]):
        book.active.append(row)
    book.create_sheet("more")
    book.save(tmp_path / "b.xlsx")
    notes: list[str] = []
    assert values(tmp_path, "a.xlsx", (tmp_path / "b.xlsx").read_bytes(), notes) == [
        {"prompt": "When?", "reference": "1999"},
        {"prompt": None, "reference": None},
        {"prompt": "Pi?", "reference": "3.5"},
    ]
    assert "only its first sheet" in notes[0]
    with pytest.raises(DataError, match="cannot be read as an Excel file"):
        values(tmp_path, "a.xlsx", b"PK\x03\x04 no archive")


def test_excel_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r"stillhouse\[excel\]"):
        values(tmp_path, "a.xlsx", b"")


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("a.json", b"[" * 100_000, "a.json is not JSON"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        ("a.json", b"", "a.json is not JSON"),
        ("a.json", b"3", "neither a JSON array nor an object"),
        ("a.json", b'{"a": [{"x": 1}], "b": [{"y": 1}]}', "several lists of objects"),
        ("a.json", rb'[{"a": "\uD83D"}]', "a.json item 1 has half a character"),
        ("a.jsonl", b"[1, 2", "line 1 is not JSON"),
        ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}", "line 1 is not JSON"),
        ("a.csv", b'a,b\n"1,2\n', "a.csv cannot be read as CSV"),
        ("a.csv", b"", "a.csv cannot be read as CSV"),
        ("a.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", "a.parquet cannot be read as PARQUET"),
        ("a.doc", b"x", "unknown kind of file"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, raw, why):
    with pytest.raises(DataError, match=why) as caught:
        values(tmp_path, name, raw)
    assert len(str(caught.value).splitlines()) == 1


def test_with_a_list_for_faults_a_broken_line_costs_only_itself(tmp_path):
    raw = JSONL + '{bad\n{"prompt": "\\ud800"}\n' + JSONL
    (tmp_path / "a.jsonl").write_text(raw, encoding="utf-8")
    faults: list[str] = []
    found = [value for _, value in read_records(tmp_path / "a.jsonl", [], faults=faults)]
    assert found == [*ROWS, *ROWS]
    assert [fault.split(" (")[0] for fault in faults] == [
        "a.jsonl line 3 is not JSON",
        "a.jsonl line 4 has half a character",
    ]
    with pytest.raises(DataError, match="line 3"):
        list(read_records(tmp_path / "a.jsonl", []))
