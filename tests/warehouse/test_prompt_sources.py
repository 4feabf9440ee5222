"""Sources of prompts: mixtures by weights, and data sets of the hub, streamed."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import pytest

from warehouse.errors import DataError
from warehouse.inputs.hub_rows import HubSource
from warehouse.inputs.prompt_sources import interleave, read_prompts
from warehouse.inputs.rows import is_held_out, read_rows


def mixed(sizes, weights, wanted=None):
    rows = [iter([name] * size) for name, size in sizes.items()]
    return "".join(islice(interleave(rows, weights), wanted))


def test_any_beginning_has_the_shares():
    text = mixed({"a": 600, "b": 600, "c": 600}, [5, 3, 2], 500)
    for length in (10, 50, 137, 500):
        counts = Counter(text[:length])
        for name, weight in zip("abc", (5, 3, 2), strict=True):
            assert abs(counts[name] - length * weight / 10) < 1.01
    assert text[:10] == "abcaabacba"


def test_equal_weights_alternate_and_weights_are_shares():
    assert mixed({"a": 3, "b": 3}, [1, 1]) == "ababab"
    assert mixed({"a": 30, "b": 30}, [0.3, 0.1], 8) == mixed({"a": 30, "b": 30}, [3, 1], 8)


def test_a_source_that_ends_leaves_the_rest_to_the_others():
    text = mixed({"a": 2, "b": 7, "c": 3}, [1, 1, 1])
    assert Counter(text) == {"a": 2, "b": 7, "c": 3}
    assert text.endswith("bbbb")


def test_nothing_is_read_before_it_is_needed():
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    assert list(islice(interleave([endless(), endless()], [2, 1]), 6)) == [0, 0, 1, 2, 1, 3]


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("hf:org/name", ("org/name", None, "train", None)),
        ("hf:org/name/main", ("org/name", "main", "train", None)),
        ("hf:org/name/main/test", ("org/name", "main", "test", None)),
        ("hf:org/name/main/test[:10%]@v1.0", ("org/name", "main", "test[:10%]", "v1.0")),
    ],
)
def test_how_a_plan_names_a_data_set_of_the_hub(source, parsed):
    assert HubSource.parse(source) == parsed


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set in a folder; `datasets` reads it as it reads one of the hub."""
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [{"frage": f"{split} {n}?", "antwort": f"{n}."} for n in range(20)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


COLUMNS = {"prompt": "frage", "reference": "antwort"}


@pytest.mark.usefixtures("hub")
def test_a_data_set_of_the_hub_is_read_with_columns_and_without_what_is_held_out():
    rows = list(read_rows("hf:org/name", Path(), columns=COLUMNS))
    assert [row.prompt for row in rows] == [f"train {n}?" for n in range(20)]
    assert rows[3].reference == ["3."] and rows[3].source == "org/name/train row 4"
    test = read_rows("hf:org/name/default/test", Path(), columns=COLUMNS)
    assert next(test).prompt == "test 0?"
    asked = list(read_prompts("hf:org/name", Path(), holdout=0.4, columns=COLUMNS))
    assert 0 < len(asked) < 20
    assert not any(is_held_out(row.split_key, 0.4) for row in asked)


@pytest.mark.usefixtures("hub")
def test_the_hub_beside_a_file(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"prompt": "mine {n}?"}}\n' for n in range(9)))
    sources = [{"path": "a.jsonl", "weight": 2}, {"path": "hf:org/name", "columns": COLUMNS}]
    rows = list(islice(read_prompts(sources, tmp_path), 9))
    assert sum(row.prompt.startswith("train") for row in rows) == 3


@pytest.mark.usefixtures("hub")
def test_a_split_or_a_column_that_is_not_there_is_one_line():
    with pytest.raises(DataError, match="'org/name/default/dev' could not be read from the hub"):
        list(read_rows("hf:org/name/default/dev", Path(), columns=COLUMNS))
    with pytest.raises(DataError, match="row 1 needs a non-empty text 'prompt'"):
        list(read_rows("hf:org/name", Path()))


def test_no_network_is_one_line_that_says_what_to_do(monkeypatch):
    seen = {}

    def unreachable(*args, **options):
        seen.update(options)
        raise ConnectionError("Couldn't reach 'org/other' on the Hub\nfor many reasons")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError) as refused:
        next(read_rows("hf:org/other@abc", Path()))
    assert str(refused.value) == (
        "data set 'org/other/train' could not be read from the hub (Couldn't reach 'org/other' on "
        "the Hub); check its name, config and split, the network, and HF_TOKEN where it is gated, or "
        "save it as a file and name that"
    )
    assert seen == {
        "split": "train",
        "revision": "abc",
        "streaming": True,
        "trust_remote_code": False,
    }


def test_a_stream_that_breaks_is_one_line(monkeypatch):
    def broken(*args, **options):
        yield {"prompt": "one?"}
        raise OSError("connection reset")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    rows = read_rows("hf:org/other", Path())
    assert next(rows).prompt == "one?"
    with pytest.raises(DataError, match="could not be read from the hub .connection reset."):
        next(rows)
