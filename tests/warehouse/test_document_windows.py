"""Files become passages: in a fixed order, in windows, or with the faulty line named."""

from __future__ import annotations

import json

import polars as pl
import pytest

from warehouse.errors import DataError
from warehouse.inputs.documents import read_passages


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "b.md").write_text("\ufeff# Bees\n\nBees make honey.", encoding="utf-8")
    (tmp_path / "docs" / "a.txt").write_text("Ants are small.", encoding="utf-8")
    (tmp_path / "docs" / "deep" / "c.TXT").write_text("Cows eat grass.", encoding="utf-8")
    (tmp_path / "docs" / "picture.png").write_bytes(b"\x89PNG")
    rows = [{"text": "Dogs bark."}, {"text": "Elks\nroam.", "more": 1}]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    pl.DataFrame({"n": [1, 2], "text": ["Foxes, red", None]}).write_csv(tmp_path / "t.csv")
    pl.DataFrame({"text": ["Gnus graze."]}).write_parquet(tmp_path / "t.parquet")
    return tmp_path


def texts(*args, **options):
    return [passage.text for passage in read_passages(*args, **options)]


def test_every_kind_of_file_is_read(folder):
    found = read_passages(["docs", "rows.jsonl", "t.csv", "t.parquet"], folder)
    assert [(passage.text, passage.source) for passage in found] == [
        ("Ants are small.", "docs/a.txt, words 1-3"),
        ("# Bees\n\nBees make honey.", "docs/b.md, words 1-5"),
        ("Cows eat grass.", "docs/deep/c.TXT, words 1-3"),
        ("Dogs bark.", "rows.jsonl line 1, words 1-2"),
        ("Elks\nroam.", "rows.jsonl line 3, words 1-2"),
        ("Foxes, red", "t.csv row 1, words 1-2"),
        ("Gnus graze.", "t.parquet row 1, words 1-2"),
    ]
    assert found == read_passages(["docs", "rows.jsonl", "t.csv", "t.parquet"], folder)


def test_globs_and_files_named_twice(folder):
    assert texts("docs/*", folder) == ["Ants are small.", "# Bees\n\nBees make honey."]
    assert texts("docs/**/*.TXT", folder) == ["Cows eat grass."]
    assert texts(["docs/b.md", "docs/*.md"], folder) == ["# Bees\n\nBees make honey."]
    assert texts(str(folder / "docs" / "a.txt"), folder / "docs") == ["Ants are small."]


def test_a_file_whose_name_looks_like_a_pattern(folder):
    (folder / "a[1].txt").write_text("Hens.")
    assert texts("a[1].txt", folder) == ["Hens."]


def test_windows_overlap_and_the_last_is_whole(tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(map(str, range(1, 26))))
    found = texts("a.txt", tmp_path, words=10, overlap=3)
    assert [passage.split() for passage in found] == [
        list(map(str, range(first, first + 10))) for first in (1, 8, 15, 16)
    ]
    assert len(texts("a.txt", tmp_path, words=25, overlap=0)) == 1
    assert sum(len(text.split()) for text in texts("a.txt", tmp_path, words=5, overlap=0)) == 25
    ids = [passage.passage_id for passage in read_passages("a.txt", tmp_path, 10, 3)]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(("words", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_impossible_windows_are_refused(folder, words, overlap):
    with pytest.raises(ValueError, match="overlap"):
        read_passages("docs", folder, words, overlap)


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text": ', "x.jsonl line 2 is not JSON"),
        ("x.jsonl", b'{"text": "a"}\n{"txt": "b"}', "x.jsonl line 2 is not an object with a text"),
        ("x.jsonl", b'"a"', "x.jsonl line 1 is not an object"),
        ("x.jsonl", b'{"text": "\\ud83d"}', "x.jsonl line 1 has half a character"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\xff"}', "x.jsonl line 2 is not UTF-8"),
        ("x.txt", b"good\nbad \xff", "x.txt line 2 is not UTF-8"),
        ("x.csv", b"a,b\n1,2\n", r"x.csv has no column 'text' \(it has: a, b\)"),
        ("x.parquet", b"no parquet", "x.parquet cannot be read as PARQUET"),
        ("x.pdf", b"%PDF", "x.pdf is broken"),
        ("x.odt", b"PK", "x.odt: unknown kind of document"),
        ("x.txt", b" \n", "hold no words"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, name, raw, told):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=told):
        read_passages(name, tmp_path)


def test_a_pattern_without_a_file_is_named(folder):
    for pattern in ("nothing.txt", "docs/*.png", "no/**/*.md"):
        with pytest.raises(DataError, match="no document"):
            read_passages([pattern], folder)


def test_a_parquet_column_of_numbers_is_named(tmp_path):
    pl.DataFrame({"text": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="x.parquet row 1"):
        read_passages("x.parquet", tmp_path)


def test_documents_that_are_skipped_are_named_and_counted(tmp_path, caplog):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("some words")
    (tmp_path / "docs" / "empty.md").write_text(" \n")
    for n in range(7):
        (tmp_path / "docs" / f"scan{n}.pdf").write_text("%PDF")
    (tmp_path / "docs" / ".hidden").write_text("x")
    for _ in range(2):  # told once
        assert [p.source for p in read_passages("docs", tmp_path)] == ["docs/a.txt, words 1-2"]
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("7 documents skipped (only .txt, ")
    assert "docs/scan4.pdf and 2 more" in first and "hidden" not in first
    assert second == "1 document skipped (there are no words in them): docs/empty.md"


def test_a_name_in_another_script_does_not_change_how_a_document_is_cut(tmp_path):
    """Passages are shown with questions, and so are part of call ids."""
    (tmp_path / "trip.txt").write_text("we went to 東京タワー and then home again by train")
    (tmp_path / "zh.txt").write_text("北京是中国的首都。" * 3)
    first, *_ = read_passages("trip.txt", tmp_path, words=5, overlap=0)
    assert first.text == "we went to 東京タワー and"
    assert len(read_passages("zh.txt", tmp_path, words=9, overlap=0)) > 1
