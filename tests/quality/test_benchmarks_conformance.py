"""Every benchmark of the catalog: fixed order, each item once, right answers full marks."""

import importlib.util
import json

import pytest

from quality.conformance import check_benchmark
from quality.tasks.benchmark import Benchmark
from warehouse import catalog
from warehouse.errors import AssetError
from warehouse.inputs import assets

TABLES = [
    {"use": "sciq"},
    {"use": "sciq", "open_book": False, "shots": 2},
    {"use": "sciq", "form": "choice", "shots": 1},
    {"use": "nq_open", "shots": 3},
    {"use": "trivia_qa", "shots": 3},
    {"use": "truthful_qa", "shots": 1},
    {"use": "truthful_qa", "form": "choice", "shots": 1},
    {"use": "mmlu", "shots": 5},
    {"use": "mmlu", "subjects": ["anatomy", "high_school_european_history"], "shots": 5},
    {"use": "arc", "shots": 2},
    {"use": "arc", "part": "easy"},
    {"use": "openbookqa", "shots": 2},
    {"use": "boolq", "shots": 2},
    {"use": "exam_subjects", "shots": 3},
    {"use": "toxicity_prompts", "embedded": True},
    {"use": "custom", "path": "own.jsonl", "holdout": 0.8, "shots": 2},
    {"use": "custom", "path": "options.jsonl"},
    {"use": "custom", "path": "own.jsonl", "grader": "class", "classes": ["red", "blue"]},
    {"use": "lm_eval", "task": "tiny_sums", "include_path": "tasks"},
]
"""Every benchmark in each of its forms."""


def test_every_benchmark_is_here():
    assert {table["use"] for table in TABLES} == set(catalog.names("benchmark"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that some benchmarks need, and rows in the place of those that only the hub has."""
    choices = [
        {
            "prompt": f"Is {n} odd?",
            "mc1_targets": {
                "choices": [f"yes, {n} is", f"no {n} never", f"so they say {n}", f"{n} maybe"],
                "labels": [1, 0, 0, 0],
            },
        }
        for n in range(100)
    ]
    rows_of = assets.rows
    monkeypatch.setattr(
        assets, "rows", lambda name: choices if name == "truthfulqa-choices" else rows_of(name)
    )
    own = [
        {"prompt": f"Colour {n}?", "reference": ["red", "blue"][n % 2], "category": str(n % 3)}
        for n in range(40)
    ]
    options = [
        {"prompt": f"Which {n}?", "reference": f"r{n}", "choices": [f"w{n}", f"r{n}"]}
        for n in range(10)
    ]
    for name, rows in (("own", own), ("options", options)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_sums(tmp_path)
    return tmp_path


def write_sums(folder):
    """A task of the harness over a local file."""
    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    docs = [{"q": f"{n} + 1", "a": str(n + 1)} for n in range(12)]
    (tasks / "sums.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tasks / "tiny_sums.yaml").write_text(
        f"""
task: tiny_sums
dataset_path: json
dataset_kwargs:
  data_files: {{train: {tasks / "sums.jsonl"}, test: {tasks / "sums.jsonl"}}}
  cache_dir: {tasks / "cache"}
output_type: generate_until
training_split: train
test_split: test
fewshot_split: train
num_fewshot: 2
doc_to_text: "What is {{{{q}}}}?"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n", "###"], max_gen_toks: 7}}
filter_list:
  - name: strict
    filter: [{{function: regex, regex_pattern: "^([0-9]+)$"}}, {{function: take_first}}]
  - name: last
    filter:
      - {{function: regex, regex_pattern: "([0-9]+)", group_select: -1}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
  - {{metric: bleu, aggregation: bleu, higher_is_better: true}}
metadata: {{version: 3.5}}
"""
    )


def made(table):
    """A benchmark, or a skip where a package that it needs is not installed."""
    if table["use"] == "lm_eval" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm_eval is not installed")
    if table.get("embedded") and importlib.util.find_spec("profanity_check") is None:
        pytest.skip("alt-profanity-check is not installed")
    return catalog.build("benchmark", table)


def items_of(benchmark, folder):
    try:
        return list(benchmark.items(folder))
    except AssetError as error:
        pytest.skip(str(error))


def told(table):
    return " ".join(str(value) for value in table.values())


@pytest.mark.parametrize("table", TABLES, ids=told)
def test_a_benchmark_does_what_all_do(table, folder):
    benchmark = made(table)
    items_of(benchmark, folder)
    items = check_benchmark(benchmark, folder)
    assert len(items) > 9
    assert benchmark.label.split()[0] == table["use"]
    again = catalog.build("benchmark", {**table, "limit": 4})
    assert list(again.items(folder)) == items[:4]
    assert benchmark.label == again.label


@pytest.mark.parametrize("table", [t for t in TABLES if t.get("shots")], ids=told)
def test_worked_examples_are_turns_before_the_question_and_never_items(table, folder):
    benchmark = made(table)
    items = items_of(benchmark, folder)
    bare = {**table, "shots": 0}
    asked = {item.item_id: item.messages for item in catalog.build("benchmark", bare).items(folder)}
    questions = {said[-1]["content"] for said in asked.values()}
    for item in items[:50]:
        *shown, last = item.messages
        assert [last] == asked[item.item_id]
        assert [turn["role"] for turn in shown] == ["user", "assistant"] * benchmark.shots
        assert not questions & {turn["content"] for turn in shown[::2]}
        assert all(turn["content"] for turn in shown)


@pytest.mark.parametrize("table", [{"use": "sciq", "form": "choice"}, {"use": "truthful_qa", "form": "choice"}], ids=told)  # fmt: skip
def test_the_right_option_is_at_no_fixed_place(table, folder):
    items = items_of(made(table), folder)
    places = [item.choices.index(item.row.reference[0]) for item in items]
    for place in range(4):
        assert places.count(place) > len(places) / 8


@pytest.mark.parametrize("use", catalog.names("benchmark"))
def test_a_limit_is_one_or_more(use):
    cls = catalog.part_class("benchmark", use)
    needed = {"custom": {"path": "x"}, "lm_eval": {"task": "x"}}.get(use, {})
    assert issubclass(cls, Benchmark)
    with pytest.raises(ValueError, match="limit is 1 or more"):
        cls(limit=0, **needed)
