"""Graders: what is read from an answer, figures per class, and agreement with the harness."""

import json
import random

import pytest

from quality.benchmarks.nq_open import NqOpen
from quality.benchmarks.trivia_qa import TriviaQa
from quality.tasks.graders import (
    class_figures,
    grade_choice,
    grade_class,
    grade_numeric,
    harness_exact_match,
    macro_f1,
    read_choice,
    read_class,
)
from warehouse.errors import AssetError
from warehouse.text.lettered import right_letters

ANIMALS = ["fish", "deep sea fish", "a mammal", "the sea"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("b) deep sea fish", "B"),
        ("B: deep sea fish", "B"),
        ("B, since they live there", "B"),
        ("B because they live there", "B"),
        ("Option C", "C"),
        ("\n\nD. the sea\n", "D"),
        ("The answer is B", "B"),
        ("The correct answer is **(C)**.", "C"),
        ("Answer: D", "D"),
        ("The right choice is option A.", "A"),
        ("The answer is A because it swims", "A"),
        ("The answer is A. No, the answer is C.", "C"),
        ("A. is wrong, D. too, so the answer is B", "B"),
        ("Fish", "A"),
        ("They are deep sea fish.", "B"),
        ("The answer is a mammal", "C"),
        ("The answer is A mammal", "C"),
        ("A mammal", "C"),
        ("\\boxed{D}", "D"),
        ("A. fish\nB. deep sea fish\nC. a mammal\nD. the sea", None),
        ("fish or a mammal", None),
        ("E", None),
        ("I do not know", None),
        ("A good question", None),
        ("B, C and D", None),
        ("", None),
        ("\x00 \ud800", None),
    ],
)
def test_a_choice_is_read(answer, said):
    assert read_choice(answer, ANIMALS) == said


def test_options_that_differ_in_signs_only_are_told_apart_by_the_whole_text():
    assert read_choice("5%", ["5", "5%", "-5"]) == "B"
    assert read_choice("it is -5", ["5", "+5", "-5"]) == "C"
    assert read_choice("it is x", ["<x", ">x"]) is None


def test_a_choice_that_can_not_be_read_is_wrong_and_not_answered():
    right, wrong, none = (grade_choice(ANIMALS, ["the sea"], said) for said in ("D", "A", "?"))
    assert right.values == {"accuracy": 1.0, "answered": 1.0}
    assert wrong.values == {"accuracy": 0.0, "answered": 1.0}
    assert none.values == {"accuracy": 0.0, "answered": 0.0}
    assert none.details == {"said": None, "right": "D"}
    assert none.abstained is None


def test_equal_options_are_equally_right_and_a_reference_may_be_a_letter():
    assert grade_choice(["x", "y", "x"], ["x"], "C").values["accuracy"] == 1.0
    assert right_letters(["x", "y"], ["B"]) == ["B"]
    assert right_letters(["A", "B"], ["A"]) == ["A"]
    assert grade_choice(["x", "y"], ["z"], "A").abstained == "no reference among the choices"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes.", "yes"),
        ("no, it does not", "no"),
        ("Yes, there is no doubt", "yes"),
        ("**No**", "no"),
        ("The answer is yes", "yes"),
        ("it is neither yes nor no", None),
        ("nobody knows", None),
        ("", None),
    ],
)
def test_a_class_is_read(answer, said):
    assert read_class(answer, ["yes", "no"]) == said


def test_the_longer_class_goes_before_one_within_it():
    assert read_class("Very positive!", ["positive", "very positive"]) == "very positive"
    assert read_class("I say very positive", ["positive", "very positive"]) == "very positive"


def test_a_class_is_graded_whatever_its_case():
    assert grade_class(["Yes", "No"], ["yes"], "YES").values["accuracy"] == 1.0
    assert grade_class(["Yes", "No"], ["maybe"], "yes").abstained is not None


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", 1.0),
        ("9 + 9 = 18.", 1.0),
        ("$18.00", 1.0),
        ("eighteen", 1.0),
        ("18, not 20", 1.0),
        ("1.8", 0.0),
        ("none", 0.0),
        ("", 0.0),
    ],
)
def test_the_last_number_counts(answer, value):
    assert grade_numeric(["6 * 3 = 18"], answer).values == {"numeric": value}


def test_a_reference_without_a_number_is_abstained_on():
    assert grade_numeric(["many"], "18").abstained == "no number in the reference"


def test_figures_per_class_by_hand():
    pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), (None, "b"), ("c", "a")]
    figures = class_figures(pairs)
    assert figures["a"].precision == pytest.approx(2 / 3)
    assert figures["a"].recall == pytest.approx(2 / 3)
    assert (figures["b"].precision, figures["b"].recall) == (1.0, pytest.approx(1 / 3))
    assert (figures["c"].precision, figures["c"].recall, figures["c"].f1) == (0.0, None, 0.0)
    assert macro_f1(figures) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert class_figures([("a", "b")])["b"].precision is None
    assert (class_figures([]), macro_f1({})) == ({}, None)


def test_figures_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    chance = random.Random(0)
    right = [chance.choice("abc") for _ in range(200)]
    said = [chance.choice(["a", "b", "c", None]) for _ in range(200)]
    figures = class_figures(list(zip(said, right, strict=True)))
    told = metrics.precision_recall_fscore_support(
        right, [name or "?" for name in said], labels=["a", "b", "c"]
    )
    ours = [[getattr(figures[name], figure) for name in "abc"]
            for figure in ("precision", "recall", "f1", "n")]  # fmt: skip
    for mine, theirs in zip(ours, told, strict=True):
        assert mine == pytest.approx(list(theirs))
    assert macro_f1(figures) == pytest.approx(sum(told[2]) / 3)


def _variants(references, others, chance):
    """Answers near to and far from a question's references, in many forms."""
    one = chance.choice(references)
    yield from (one, one.upper(), one.lower(), one.title(), f"  {one}\n", f"{one}.", f'"{one}"')
    for article in ("the ", "The ", "THE ", "a ", "An ", "an"):
        yield article + one
    words = one.split()
    yield " the ".join(words)
    yield "  ".join(words)
    yield "-".join(words)
    yield from (one[:-1], one[1:], f"{one}s", " ".join(words[::-1]), one.replace("e", "é"))
    yield from (f"It is {one}", f"{one}, a place", chance.choice(others), "", " ", "the ", "ß İ ½")


def _harness_task(name, docs, folder):
    """The harness's own task over local documents."""
    lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
    from lm_eval.tasks._yaml_loader import load_yaml

    manager = lm_eval_tasks.TaskManager()
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    config = load_yaml(manager.task_index[name].yaml_path)
    config.pop("dataset_name", None)
    data = {"data_files": {"train": str(file), "validation": str(file)}, "cache_dir": str(folder)}
    config |= {"dataset_path": "json", "dataset_kwargs": data}
    return manager.load([config])["tasks"][name]


@pytest.fixture(scope="module")
def no_bar():
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.parametrize(
    ("benchmark", "name", "doc_of"),
    [
        (
            NqOpen(limit=40),
            "nq_open",
            lambda row: {"question": row.prompt, "answer": row.reference},
        ),
        (
            TriviaQa(limit=40),
            "triviaqa",
            lambda row: {"question": row.prompt, "answer": {"aliases": row.reference}},
        ),
    ],
)
def test_exact_match_is_that_of_the_harness(benchmark, name, doc_of, tmp_path, no_bar):
    from lm_eval.api.instance import Instance

    try:
        items = list(benchmark.items(tmp_path))
    except AssetError as error:
        pytest.skip(str(error))
    chance = random.Random(1)
    task = _harness_task(name, [doc_of(item.row) for item in items], tmp_path)
    others = [text for item in items for text in item.row.reference]
    ours, theirs = [], []
    for item, doc in zip(items, task.eval_docs, strict=True):
        for answer in _variants(item.row.reference, others, chance):
            asked = Instance("generate_until", doc, ("", {}), 0)
            asked.resps = [answer]
            for rule in task._filters:
                rule.apply([asked])
            (filtered,) = asked.filtered_resps.values()
            theirs.append(task.process_results(doc, [filtered])["exact_match"])
            ours.append(benchmark.grade(item, answer).values["exact_match"])
    assert ours == theirs
    assert len(ours) > 800
    assert 0.2 < sum(ours) / len(ours) < 0.8


def test_the_harness_keeps_what_squad_would_fold():
    assert harness_exact_match("The Beatles", ["Beatles"], articles=True) == 1.0
    assert harness_exact_match("The Beatles", ["Beatles"], articles=False) == 0.0
    assert harness_exact_match("New  York", ["New York"], articles=True) == 0.0
