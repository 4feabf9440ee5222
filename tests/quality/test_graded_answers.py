"""How often the graders are wrong, on answers that were labelled by hand in seven languages."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from quality.tasks.benchmark import grade_text
from quality.tasks.graders import grade_numeric, read_choice, read_class

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "evaluation.md"
GRADERS = ("text", "choice", "class", "numeric")
LANGUAGES = ("en", "zh", "ja", "de", "fr", "es", "hi")


def load_cases(name="graded_answers.jsonl"):
    lines = (HERE / "data" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def outcome(case):
    """What the grader makes of the answer: an option, a class, or 1 and 0."""
    if case["grader"] == "choice":
        return read_choice(case["answer"], case["choices"])
    if case["grader"] == "class":
        return read_class(case["answer"], case["classes"])
    if case["grader"] == "numeric":
        return grade_numeric([case["reference"]], case["answer"]).values["numeric"]
    return grade_text([case["reference"]], case["answer"]).values[case["metric"]]


@pytest.fixture(scope="module")
def counts():
    """(grader, language) -> answers, and errors."""
    answers, errors = Counter(), Counter()
    for case in load_cases():
        key = (case["grader"], case["language"])
        answers[key] += 1
        errors[key] += outcome(case) != case["right"]
    return answers, errors


def test_the_set_has_all_graders_in_all_languages(counts):
    answers, _ = counts
    assert sum(answers.values()) >= 300
    assert set(answers) == {(grader, language) for grader in GRADERS for language in LANGUAGES}
    assert min(answers.values()) >= 12


@pytest.mark.parametrize("grader", ["choice", "class", "numeric"])
def test_answers_are_read_rightly(counts, grader):
    answers, errors = counts
    wrong = sum(errors[grader, language] for language in LANGUAGES)
    assert wrong / sum(answers[grader, language] for language in LANGUAGES) <= 0.04


def test_the_docs_state_the_errors(counts):
    answers, errors = counts
    docs = DOCS.read_text(encoding="utf-8")
    for grader in GRADERS:
        cells = [f"{errors[grader, each]}/{answers[grader, each]}" for each in LANGUAGES]
        wrong = sum(errors[grader, each] for each in LANGUAGES)
        n = sum(answers[grader, each] for each in LANGUAGES)
        row = f"| {grader} | {' | '.join(cells)} | {wrong}/{n} ({100 * wrong / n:.1f} %) |"
        assert row in docs


@pytest.mark.parametrize(
    "case",
    load_cases("answer_kinds.jsonl"),
    ids=lambda case: f"{case['grader']}-{case['answer']!r}",
)
def test_each_kind_of_answer_is_read(case):
    assert outcome(case) == case["right"]


PIECES = [
    "A",
    "B",
    "b",
    "(A)",
    "not",
    "n't",
    "is",
    "wrong",
    "the",
    "answer",
    "is",
    ",",
    ".",
    ":",
    "\n",
    "1",
    "2",
    "1,000",
    "1.000",
    "/",
    "^",
    "-",
    "10:30",
    "½",
    "3√2",
    "π",
    "%",
    "$",
    "\\boxed{",
    "}",
    "\\frac{1}{0}",
    "####",
    "**",
    "<answer>",
    "</answer>",
    "不是",
    "正确",
    "答案是",
    "百",
    "万",
    "分之",
    "十",
    "零",
    "ではない",
    "नहीं",
    "१२",
    "e9999",
    "^9999",
    "^-1",
    "0^-1",
    "(-8)^(1/3)",
    "1/0",
    "\x00",
    "�",
    "yes",
    "no",
    "and",
    "²",
    "⁻",
    "−5",
    "25:99",
    "::",
    "thousand",
    "half",
]


def test_strange_answers_raise_nothing():
    chance = random.Random(3)
    for _ in range(1500):
        parts = [chance.choice([*PIECES, "9" * 99]) for _ in range(chance.randint(0, 14))]
        answer = chance.choice(["", " "]).join(parts)
        assert read_choice(answer, ["red", "blue"]) in ("A", "B", None)
        assert read_class(answer, ["yes", "no"]) in ("yes", "no", None)
        assert grade_numeric(["3/4"], answer).values["numeric"] in (0.0, 1.0)
        grade_numeric([answer], answer)
    for long in ("9" * 9000, "三" * 9000, "{" * 9000, "A, " * 9000, "1/" * 9000):
        assert read_choice(long, ["red", "blue"]) in ("A", "B", None)
        assert grade_numeric(["3"], long).values["numeric"] == 0.0


def test_what_a_quantity_says_is_shown_in_one_form():
    for answer, form in (
        ("3/4", "0.75"), ("2/3", "2/3"), ("1,000", "1000"), ("10:05 pm", "22:05"), ("5–7", "5-7"),
        ("50 %", "50%"), ("2^70", str(2**70)),
    ):  # fmt: skip
        assert grade_numeric(["1"], answer).details["said"] == form
