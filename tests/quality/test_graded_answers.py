"""How often the graders are wrong, on answers that were labelled by hand in seven languages."""

import json
from collections import Counter
from pathlib import Path

import pytest

from quality.tasks.benchmark import grade_text
from quality.tasks.graders import grade_numeric, read_choice, read_class

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "evaluation.md"
GRADERS = ("text", "choice", "class", "numeric")
LANGUAGES = ("en", "zh", "ja", "de", "fr", "es", "hi")


def load_cases():
    lines = (HERE / "data" / "graded_answers.jsonl").read_text(encoding="utf-8").splitlines()
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
    assert wrong / sum(answers[grader, language] for language in LANGUAGES) <= 0.02


def test_the_docs_state_the_errors(counts):
    answers, errors = counts
    docs = DOCS.read_text(encoding="utf-8")
    for grader in GRADERS:
        cells = [f"{errors[grader, each]}/{answers[grader, each]}" for each in LANGUAGES]
        wrong = sum(errors[grader, each] for each in LANGUAGES)
        n = sum(answers[grader, each] for each in LANGUAGES)
        row = f"| {grader} | {' | '.join(cells)} | {wrong}/{n} ({100 * wrong / n:.1f} %) |"
        assert row in docs
