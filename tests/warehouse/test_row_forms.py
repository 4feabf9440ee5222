"""Rows in the forms people have: read as what they are, or one sentence says what is wrong."""

from __future__ import annotations

import json

import pytest

from datagen.recipes.imitation import Imitation
from quality.benchmarks.custom import Custom
from warehouse.errors import DataError
from warehouse.inputs.rows import RowSource, read_rows, summarize_rows
from warehouse.records import Prompt


def write(folder, *rows):
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder, row, columns=None):
    write(folder, row)
    (found,) = read_rows("a.jsonl", folder, columns=columns)
    return found


def turns(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


SYSTEM = {"role": "system", "content": "s"}
SHARE = [
    {"from": "human", "value": "Hi?"},
    {"from": "gpt", "value": "Hello"},
    {"from": "human", "value": "Well?"},
    {"from": "gpt", "value": "Yes"},
]


@pytest.mark.parametrize(
    ("row", "messages", "reference"),
    [
        ({"conversations": SHARE}, turns("Hi?", "Hello", "Well?"), ["Yes"]),
        ({"conversations": SHARE[:1], "system": "s"}, [SYSTEM, *turns("Hi?")], []),
        ({"conversations": turns("a", "b")}, turns("a"), ["b"]),
        ({"messages": turns("a", "b", "c", "d")}, turns("a", "b", "c"), ["d"]),
        ({"instruction": "Add", "input": "2 and 2", "output": "4"}, turns("Add\n\n2 and 2"), ["4"]),
        ({"instruction": "Add", "input": "", "output": "4"}, turns("Add"), ["4"]),
        (
            {"instruction": "c", "history": [["a", "b"]], "system": "s", "output": "d"},
            [SYSTEM, *turns("a", "b", "c")],
            ["d"],
        ),
        ({"question": "q", "answer": 42}, turns("q"), ["42"]),
        ({"question": "q", "answers": {"text": ["a", "b", "a"]}}, turns("q"), ["a", "b"]),
        ({"question": "q", "answers": {"text": []}}, turns("q"), []),
        ({"question": "q", "answer": {"value": "a", "aliases": ["b"]}}, turns("q"), ["a", "b"]),
        ({"prompt": "q", "messages": turns("q", "a"), "prompt_id": "x"}, turns("q"), ["a"]),
        ({"prompt": turns("q")}, turns("q"), []),
        ({"messages": [{"role": "developer", "content": "s"}, *turns("q")]}, [SYSTEM, *turns("q")], []),
        (
            {"messages": [{"role": "User", "content": [{"type": "text", "text": "a"}, "b"]}]},
            turns("a\nb"),
            [],
        ),
        ({"Prompt": "q", "Reference": "a"}, turns("q"), ["a"]),
        ({"prompt": "q", "reference": 1999.0}, turns("q"), ["1999"]),
        ({"prompt": "q", "reference": [1.5, 2.0, None]}, turns("q"), ["1.5", "2"]),
        ({"prompt": "q", "reference": float("nan")}, turns("q"), []),
    ],
)  # fmt: skip
def test_each_form_is_read(tmp_path, row, messages, reference):
    found = read(tmp_path, row)
    assert found.messages == messages
    assert found.prompt == messages[-1]["content"]
    assert found.reference == reference


def test_squad_and_dolly_bring_their_passage(tmp_path):
    assert read(tmp_path, {"question": "q", "context": "c", "answers": ["a"]}).passage == "c"
    dolly = {"instruction": "i", "context": "c", "response": "r", "category": "k"}
    found = read(tmp_path, dolly)
    assert (found.prompt, found.passage, found.reference, found.category) == ("i", "c", ["r"], "k")


def test_squads_own_file_gives_a_row_for_each_question(tmp_path):
    questions = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Bob", "answer_start": 0}] * 2},
        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "Bob", "paragraphs": [{"context": "Bob swims.", "qas": questions}]}
    (tmp_path / "squad.json").write_text(json.dumps({"version": "v2.0", "data": [article]}))
    found = list(read_rows("squad.json", tmp_path))
    assert [(row.prompt, row.passage, row.reference) for row in found] == [
        ("Who?", "Bob swims.", ["Bob"]),
        ("When?", "Bob swims.", []),
    ]


ARC = {"text": ["x1", "x2"], "label": ["A", "B"]}


@pytest.mark.parametrize(
    ("choices", "reference", "right"),
    [
        (ARC, "B", "x2"),
        ({"text": ["x1", "x2"], "label": ["1", "2"]}, 1, "x1"),
        ([{"label": "A", "text": "x1"}, {"label": "B", "text": "x2"}], "b", "x2"),
        ({"A": "x1", "B": "x2"}, "A", "x1"),
        (["x1", "x2"], "b", "x2"),
        (["x1", "x2"], "(B)", "x2"),
        (["x1", "x2"], "B", "B"),  # as ever: graders take a capital letter
        (["x1", "x2"], 1, "x2"),
        (["x1", "x2"], 0.0, "x1"),
        (["x1", "x2"], "X2", "x2"),
        (["x1", "x2"], "none of them", "none of them"),
        (["3", "4", "5"], 4, "4"),
        (["1", "2", "3"], "2", "2"),  # a text that is a choice is that choice
        ('["x1", "x2"]', "b", "x2"),
        ("A) x1 B) x2", "b", "x2"),
        ("(a) x1; (b) x2", "B", "x2"),
        ("x1\nx2", "b", "x2"),
        (["A) x1", "B) x2"], "x2", "B) x2"),
    ],
)
def test_the_right_choice_is_found(tmp_path, choices, reference, right):
    row = read(tmp_path, {"prompt": "Pick", "choices": choices, "reference": reference})
    assert row.reference == [right]
    assert len(row.choices) >= 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "choices": ["1", "2", "3"], "reference": 2}, "may be the choice '2' or '3'"),
        ({"prompt": "q", "choices": ["B", "A"], "reference": "a"}, "may be the choice 'A' or 'B'"),
        ({"prompt": "q", "choices": ["x", "y"], "reference": 2}, "counted from 0"),
        ({"prompt": "q", "choices": "just one"}, "list of two texts or more"),
        ({"messages": turns("q", "a"), "reference": "b"}, "keep one of them"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "type 'image_url'"),
        ({"messages": [*turns("q"), {"role": "tool", "content": "3"}]}, "has a tool call"),
        ({"messages": [*turns("q"), {"role": "assistant", "tool_calls": [1]}]}, "has a tool call"),
        ({"conversations": [{"from": "observation", "value": "3"}]}, "has a tool call"),
        ({"conversations": ["q"]}, "list of {from, value}"),
        ({"instruction": " ", "output": "4"}, "empty 'instruction'"),
        ({"query": "q", "n": 1}, r'did you mean columns = \{ prompt = "query" \}'),
        ({"Frage": "q"}, "map them in the plan"),
        ({"prompt": " ", "reference": "a"}, "needs a non-empty text 'prompt'"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused_in_one_line(tmp_path, row, why):
    with pytest.raises(DataError, match=why) as caught:
        read(tmp_path, row)
    assert "a.jsonl line 1" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "near"),
    [("answer", "reference"), ("Output", "reference"), ("refrence", "reference"), ("label", "reference"),
     ("context", "passage"), ("options", "choices"), ("Passage", "passage")],
)  # fmt: skip
def test_a_column_that_nobody_reads_is_told(tmp_path, column, near):
    write(tmp_path, {"prompt": "Who?", column: "Bob"}, {"prompt": "Why?"})
    summary = summarize_rows(RowSource("a.jsonl"), tmp_path)
    assert summary.unread == [column]
    assert summary.notes == [
        f"a.jsonl: nobody reads the column '{column}'; did you mean '{near}'? "
        f'(write columns = {{ {near} = "{column}" }})'
    ]
    assert summary.references == 0


def test_columns_that_are_no_mistake_are_only_listed(tmp_path):
    write(
        tmp_path, {"prompt": "Who?", "reference": "Bob", "id": 7, "answer": "B.", "question": "?"}
    )
    summary = summarize_rows(RowSource("a.jsonl"), tmp_path)
    assert summary.unread == ["id", "answer", "question"]
    assert summary.notes == []


def test_columns_are_mapped(tmp_path):
    row = {"Frage": "q", "Antwort": "a", "prompt": "not this one", "id": 3}
    columns = {"prompt": "Frage", "reference": "Antwort"}
    found = read(tmp_path, row, columns)
    assert (found.prompt, found.reference) == ("q", ["a"])
    assert found.extra == {"prompt": "not this one", "id": 3}
    with pytest.raises(DataError, match="has no column 'Antwort'.*; it has Frage"):
        read(tmp_path, {"Frage": "q"}, columns)
    with pytest.raises(ValueError, match="'promt' is none of them"):
        Imitation(prompts="a.jsonl", columns={"promt": "Frage"})
    (prompt,) = Imitation(prompts="a.jsonl", columns={"prompt": "Frage"}).ask_all(tmp_path)
    assert prompt.question == "q"
    write(tmp_path, row)
    (item,) = Custom(path="a.jsonl", columns=columns).items(tmp_path)
    assert item.row.reference == ["a"]
    assert Custom(path="a.jsonl", columns=columns).label == Custom(path="a.jsonl").label


def test_other_columns_stay_with_the_prompt_and_change_no_id(tmp_path):
    write(tmp_path, {"prompt": "q", "id": 7, "tags": ["x"], "long": "y" * 5000})
    (prompt,) = Imitation(prompts="a.jsonl").ask_all(tmp_path)
    assert prompt.recipe_options["row"] == {"id": 7, "tags": ["x"]}
    write(tmp_path, {"prompt": "q"})
    (bare,) = Imitation(prompts="a.jsonl").ask_all(tmp_path)
    assert "row" not in bare.recipe_options
    assert bare.prompt_id == prompt.prompt_id == "23d420eae78c3c275c8638225b988a6e"
    assert Prompt.of(recipe="r", messages=[], question="q", row={"a": 1}).prompt_id == (
        Prompt.of(recipe="r", messages=[], question="q").prompt_id
    )


def test_counts_of_a_file(tmp_path):
    (tmp_path / "a.csv").write_text(
        'id;prompt;reference;passage;choices\n1;a;"[""x"", ""y""]";p;\n;;;;\n2;a;;p;\n3;b;x;;"[""x"",""y""]"\n'
    )
    summary = summarize_rows(RowSource("a.csv"), tmp_path, lambda row: row.prompt == "b")
    counts = (summary.rows, summary.references, summary.passages, summary.choices)
    assert counts == (3, 2, 2, 1)
    assert (summary.duplicates, summary.blank, summary.long) == (1, 1, 1)
    assert [row.source for row in read_rows("a.csv", tmp_path)] == [
        "a.csv row 2",
        "a.csv row 4",
        "a.csv row 5",
    ]


def test_a_huge_cell_and_a_deep_one_are_read(tmp_path):
    deep = "[" * 500 + "]" * 500
    rest = json.dumps({"prompt": "a " * 2_000_000, "nul": "\0"})[1:]
    (tmp_path / "a.jsonl").write_text(f'{{"deep": {deep}, {rest}')
    (row,) = read_rows("a.jsonl", tmp_path)
    assert len(row.prompt) == 4_000_000
    assert row.extra == {"nul": "\0"}
