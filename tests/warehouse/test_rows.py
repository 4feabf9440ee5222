"""Rows: three formats, malformed lines named, a split that shares no passage."""

import json

import polars as pl
import pytest

from tests.support.plans import rows, write_rows
from warehouse.errors import DataError
from warehouse.inputs.rows import question_messages, read_rows


def test_the_three_formats_give_the_same_rows(tmp_path):
    made = rows(0, 6)
    write_rows(tmp_path / "a.jsonl", made)
    pl.DataFrame(made).write_csv(tmp_path / "a.csv")
    pl.DataFrame(made).write_parquet(tmp_path / "a.parquet")
    jsonl, csv, parquet = (
        [(row.prompt, row.reference, row.passage) for row in read_rows(name, tmp_path)]
        for name in ("a.jsonl", "a.csv", "a.parquet")
    )
    assert jsonl == csv == parquet
    assert len(jsonl) == 6


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not an object"),
        (r'{"prompt": "cut \ud83d"}', "line 2 has half a character"),
        ('{"promt": "x"}', "line 2 needs"),
        ('{"prompt": ""}', "line 2 needs"),
        ('{"prompt": "x", "messages": []}', "line 2 needs"),
        ('{"messages": [{"role": "king", "content": "x"}]}', "line 2: 'messages'"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "ends with a user"),
        ('{"prompt": "x", "reference": {"a": 1}}', "line 2: 'reference'"),
        ('{"prompt": "x", "passage": 3}', "line 2: 'passage'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, told):
    (tmp_path / "a.jsonl").write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=told):
        list(read_rows("a.jsonl", tmp_path))


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", "\n"), ("a.csv", ""), ("a.parquet", "x")]
)
def test_an_empty_or_broken_file_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        list(read_rows(name, tmp_path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_strange_kind(tmp_path):
    with pytest.raises(DataError, match="no data file"):
        list(read_rows("none.jsonl", tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="allowed"):
        list(read_rows("a.txt", tmp_path))


def test_the_split_shares_no_passage_and_does_not_depend_on_order(tmp_path):
    made = [{**row, "passage": row["passage"].upper() if n % 2 else row["passage"]}
            for n, row in enumerate(rows(0, 200) * 2)]  # fmt: skip
    write_rows(tmp_path / "a.jsonl", made)
    write_rows(tmp_path / "b.jsonl", made[::-1])
    sides = {
        (name, split): {row.split_key for row in read_rows(name, tmp_path, split, 0.3)}
        for name in ("a.jsonl", "b.jsonl")
        for split in ("train", "held_out")
    }
    assert sides["a.jsonl", "train"] == sides["b.jsonl", "train"]
    assert not sides["a.jsonl", "train"] & sides["a.jsonl", "held_out"]
    assert 30 < len(sides["a.jsonl", "held_out"]) < 90


def test_the_passage_stands_before_the_last_message(tmp_path):
    row = {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "why?"},
        ],
        "passage": "Because.",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (read,) = read_rows("a.jsonl", tmp_path)
    said = question_messages(read)
    assert said[0]["content"] == "hello"
    assert said[2]["content"].startswith("Because.")
    assert question_messages(read, passage=False)[2]["content"] == "why?"
