"""The explorer keeps what tells most, within its limits, and says what it left out."""

from dataclasses import replace

import pytest

from distill.evaluation.compare import compare
from distill.evaluation.findings import Evaluation, Explored
from distill.report.explorer import LONGEST, OUTCOMES, explorer
from distill.report.report import render_html
from tests.distill.test_compare import items, series
from tests.support.reports import example_report


def item(number, student, base, teacher=1.0, benchmark="quiz", **changes):
    made = Explored(
        benchmark=benchmark,
        item_id=f"{benchmark}-{number}",
        question=f"question {number}?",
        passage=None,
        reference=["ref"],
        category=None,
        said={"student": "Ref.", "base": "b", "teacher": "the ref"},
        grades={"student": student, "base": base, "teacher": teacher},
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("student", "base", "teacher", "outcomes"),
    [
        (1.0, 0.0, 1.0, ["won", "right"]),
        (0.0, 1.0, 1.0, ["lost", "behind", "wrong"]),
        (0.0, 0.0, 0.0, ["wrong", "none"]),
        (1.0, 1.0, 1.0, ["right", "all"]),
        (1.0, 1.0, 0.0, ["ahead", "right"]),
        (None, 1.0, 1.0, ["all", "ungraded"]),
        (None, None, None, ["ungraded"]),
        (0.5, 0.4, None, ["won", "right"]),
    ],
)
def test_outcomes_are_facts_of_the_grades(student, base, teacher, outcomes):
    (entry,) = explorer(Evaluation([], explored=[item(0, student, base, teacher)])).entries
    assert entry.outcomes == outcomes
    assert entry.outcome_text == OUTCOMES[outcomes[0]]


def test_answers_that_differ_only_in_form_do_not_differ():
    same = item(0, 1.0, 1.0)
    other = item(1, 1.0, 1.0, said={"student": "one", "teacher": "two"})
    found = explorer(Evaluation([], explored=[same, other]))
    assert ["differs" in entry.outcomes for entry in found.entries] == [False, True]
    assert found.outcomes == {"right": 2, "all": 2, "differs": 1}


def test_lower_is_better_turns_right_and_wrong():
    comparison = compare("quiz", series("student", [0.9]), items(1), higher_is_better=False)
    (entry,) = explorer(Evaluation([comparison], explored=[item(0, 0.9, 0.1, 0.0)])).entries
    assert entry.outcomes[0] == "lost"


def test_what_tells_most_stays_in_its_order_and_each_benchmark_has_its_turn():
    dull = [item(n, 1.0, 1.0) for n in range(20)]
    telling = [item(100, 1.0, 0.0), item(101, 0.0, 1.0), item(0, 1.0, 0.0, benchmark="other")]
    found = explorer(Evaluation([], explored=[*dull, *telling]), most=4)
    assert [e.item.item_id for e in found.entries] == ["quiz-0", "quiz-100", "quiz-101", "other-0"]
    assert found.left_out == 19
    few = explorer(Evaluation([], explored=[*dull, *telling]), most=2)
    assert [e.item.item_id for e in few.entries] == ["quiz-100", "other-0"]


def test_long_texts_are_cut_and_counted():
    long = "x" * (LONGEST + 1)
    found = explorer(Evaluation([], explored=[item(0, 1.0, 0.0, question=long, passage=long)]))
    (entry,) = found.entries
    assert len(entry.item.question) <= LONGEST
    assert entry.item.passage.endswith(" …")
    assert found.cut == 2


def test_a_page_of_very_many_long_items_stays_below_three_megabytes():
    text = "<&\"' ü" * 400
    said = {name: text for name in ("student", "base", "teacher", "base+knn", "base+retrieval")}
    explored = [
        item(n, float(n % 2), float(n % 3 == 0), question=text, passage=text, said=said)
        for n in range(900)
    ]
    report = replace(example_report(), evaluation=Evaluation([], explored=explored))
    html = render_html(report)
    assert 1_000_000 < len(html.encode()) < 3_000_000
    assert "more were left out to keep this page small" in html
