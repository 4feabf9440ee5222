"""Answers that answer nothing, and the planted students of docs/evaluation.md."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from distill.evaluation.answer_fit import LEVEL, measure_fit, measure_sameness
from distill.evaluation.comparison import ItemText
from quality.tasks.benchmark import Item
from tests.support.broken_students import (
    COUNTRIES,
    STUDENTS,
    answers_of,
    base,
    right,
    style_and_facts,
    table,
    teacher,
)
from warehouse.inputs.rows import Row


def test_the_table_of_the_docs_is_what_is_measured():
    page = Path(__file__).parents[2] / "docs" / "evaluation.md"
    assert table() in page.read_text(), "run `python -m tests.support.broken_students`"


@pytest.mark.parametrize("name", STUDENTS)
def test_only_answers_that_answer_have_a_share_of_style(name):
    told = style_and_facts(STUDENTS[name])
    broken = name.startswith("always") or "to other items" in name
    assert (told.style is None) == broken
    if broken:
        assert told.outcome in ("collapsed", "answers do not fit their questions")
        assert {measure.share for measure in told.measures} == {None}
        assert told.badge == "bad" and "student's answers" in told.no_style
        assert told.sentence.casefold().startswith(told.no_style)


@pytest.mark.parametrize("shift", range(2, 60, 7))
def test_answers_of_other_items_are_told_whichever_they_are(shift):
    for says in (teacher, base):
        told = style_and_facts(lambda n, says=says: says(n + shift))
        assert told.outcome == "answers do not fit their questions"
        assert told.sentence.startswith("The student's answers fit other items as well as")


def test_shuffled_answers_rarely_pass_for_answers():
    """At the level of the test: of 200 orders about two."""
    answers, passed = answers_of("student", teacher), 0
    for rng in map(random.Random, range(200)):
        order = rng.sample(range(60), 60)
        shuffled = answers_of("student", lambda n, order=order: teacher(order[n]))
        passed += measure_fit(shuffled, answers, seed=1).p_value < LEVEL
    assert passed <= 6


def test_a_wrong_answer_of_its_own_question_fits():
    """Neither right nor the teacher's, but about what was asked."""
    told = style_and_facts(lambda n: f"It is the largest city of {COUNTRIES[n]}, I suppose")
    assert told.outcome == "got worse" and told.style is not None


def test_what_the_teacher_and_the_references_repeat_is_no_collapse():
    """Yes is right nine times in ten, and the teacher says so in many ways."""
    yes = answers_of("student", lambda n: "Yes.")
    varied = answers_of("teacher", lambda n: f"{'No' if n % 10 == 0 else 'Yes'}, since {n}")
    assert measure_sameness(yes, varied).collapsed
    texts = [ItemText(f"i{n}", "?", None, ["no" if n % 10 == 0 else "yes"]) for n in range(60)]
    assert measure_sameness(yes, varied).student == 60
    always = [ItemText(f"i{n}", "?", None, ["yes" if n else "no"]) for n in range(60)]
    assert measure_sameness(yes, varied, texts).collapsed  # six of sixty are another answer
    assert not measure_sameness(yes, varied, always).collapsed
    assert not measure_sameness(yes, answers_of("teacher", lambda n: "yes")).collapsed


def test_few_items_or_a_teacher_that_repeats_itself_show_no_fit():
    short = [answers_of(name, right)[:9] for name in ("student", "teacher")]
    assert not measure_fit(*short).is_known
    same = [answers_of(name, lambda n: "Red.") for name in ("student", "teacher")]
    fit = measure_fit(*same)
    assert not (fit.is_known or fit.is_clear or fit.is_missing) and fit.own == 0.0


def test_a_passage_is_shown_where_it_stands_in_the_messages():
    def item(content, passage="The  sky\nis blue."):
        return Item("i", Row("q", [], ["blue"], passage), [{"role": "user", "content": content}])

    assert item("The sky is blue.\n\nQuestion: q").passage
    assert not item("q").passage
    assert not item("q", None).passage
