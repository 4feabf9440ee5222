"""The first lines of a report: better, how sure, at what cost, and better than last time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.controls import form_warning
from distill.evaluation.opening import BEFORE, NOW, LastTime, write_opening
from tests.distill.test_compare import answer, items

N = 60


def board(content="contains", n=N, benchmark="quiz", **right):
    """A comparison; each contestant has (exact matches, containments) of n items right."""
    answers = []
    for name, (exact, contained) in right.items():
        for i in range(n):
            answers.append(
                answer(
                    name.replace("__", ":").replace("_", "+"),
                    i,
                    float(i < exact),
                    contains=float(i < contained),
                )
            )
    comparison = compare(benchmark, answers, items(n))
    return replace(adjust_p_values([comparison])[0], content=content)


def opening(*boards, **more):
    return write_opening(list(boards), **more)


@pytest.mark.parametrize(
    ("student", "begins"),
    [
        ((40, 45), "Yes: the student has 75.0 % containment, its base 33.3 %."),
        (
            (40, 20),
            "In form only: the student has 33.3 % containment, its base 33.3 %; exact match, ",
        ),
        ((40, 5), "In form only, and at a price: the student has 8.3 % containment"),
        ((0, 5), "No, worse: the student has 8.3 % containment, its base 33.3 %."),
        ((0, 20), "No: the student has 33.3 % containment, its base 33.3 %."),
        (
            (0, 22),
            "Not shown: the student has 36.7 % containment, its base 33.3 %, and that may be",
        ),
    ],
)
def test_better_goes_by_right_answers_in_any_form(student, begins):
    told = opening(board(base=(0, 20), student=student, teacher=(20, 40)))
    assert told.better.startswith(begins)


def test_a_copy_of_the_base_is_not_better():
    told = opening(board(base=(12, 20), student=(12, 20)))
    assert told.better.startswith("No: the student has 33.3 %")
    assert "points above the base" in told.sure


def test_the_best_without_training_stands_beside_it():
    told = opening(
        board(base=(0, 20), student=(40, 45), base_fewshot=(30, 43), control__copy=(9, 9))
    )
    assert "The best without training, base+fewshot has 71.7 %: no clear difference." in told.better
    assert "points above base+fewshot" in told.sure
    script = opening(board(base=(0, 20), student=(40, 30), control__copy=(59, 59)))
    assert "control:copy, a script without a model, has 98.3 %: better than the student" in (
        script.better
    )
    alone = opening(board(base=(0, 20), student=(40, 45)))
    assert alone.better.endswith(
        "Whether a better prompt would have done as well was not measured."
    )


def test_how_sure_names_the_interval_of_the_content_metric():
    comparison = board(base=(0, 20), student=(40, 45))
    interval = comparison.difference("student", "base").metrics["contains"]
    low, high = (f"{100 * end:.1f}" for end in (interval.low, interval.high))
    assert opening(comparison).sure == (
        "With 95 % confidence, by 60 held-out items: the student's containment is "
        f"{low} to {high} points above the base. The student was trained once: another training seed may "
        "move its score by a few points."
    )


def test_few_items_claim_nothing():
    told = opening(board(base=(0, 0), student=(9, 9), n=9))
    assert told.better == "Unknown: 9 items are too few to say." and told.sure == ""


def test_several_benchmarks_are_named_and_those_off_the_task_left_aside():
    one, other = (board(base=(0, 20), student=(40, 45), benchmark=name) for name in ("a", "b"))
    told = opening(one, replace(other, role="off_task"))
    assert not told.better.startswith("a:") and "b:" not in told.better
    told = opening(one, other)
    assert told.better.startswith("a: Yes") and " b: Yes" in told.better


def test_only_lines_with_an_answer_are_shown():
    told = opening(board(base=(0, 20), student=(40, 45)), cost="So far this student cost 0.00 USD.")
    assert [question for question, _ in told.lines] == ["Better?", "How sure?", "At what cost?"]
    assert opening(board(base=(0, 20), teacher=(1, 1))).lines == []


@pytest.mark.parametrize(
    ("now", "said"), [(45, "better"), (20, "no clear difference"), (2, "worse")]
)
def test_tonight_against_last_time(now, said):
    answers = []
    for i in range(N):
        answers.append(answer(NOW, i, 0.0, contains=float(i < now)))
        answers.append(answer(BEFORE, i, 0.0, contains=float(i < 20)))
    comparison = replace(compare("quiz", answers, items(N)), content="contains")
    last = LastTime("run", "2026-11-28", "3a7b4592ffff", [comparison])
    told = opening(board(base=(0, 20), student=(0, now)), last_time=last).last_time
    assert f"now, 33.3 % then: {said} (" in told
    assert told.endswith("60 items). Last time was 2026-11-28, student 3a7b4592.")


def test_a_lead_over_answers_that_name_no_option_may_be_form():
    answers = []
    for i in range(N):
        for name, right, named in (("base", 9, 12), ("base+fewshot", 45, 48), ("student", 57, 60)):
            grades = {"accuracy": float(i < right), "answered": float(i < named)}
            answers.append(replace(answer(name, i, 0.0), grades=grades))
    comparison = replace(compare("quiz", answers, items(N), "accuracy"), content="accuracy")
    told = opening(comparison).better
    assert told.startswith("Yes, though perhaps mostly in form")
    assert "its base 15.0 % (75.0 of the 80.0 points between them may be form)." in told
    assert (
        "base+fewshot has 75.0 %: the student is better, though perhaps mostly in form (15.0 of the "
        in told
    )
    warned = form_warning(comparison)[1]
    assert warned.startswith(
        "15.0 of the 20.0 points between the student and base+fewshot are of items where one of them "
        "names none of the options, and may be form; where both name one (n = 48) the student is 6.2 "
        "points ahead ("
    )
    for one in answers:  # where both name one, the student is worse: no part is more than the whole
        one.grades["accuracy"] *= one.contestant != "student" or int(one.item_id[1:]) >= 12
    comparison = replace(compare("quiz", answers, items(N), "accuracy"), content="accuracy")
    told = opening(comparison).better
    assert told.startswith("Yes, though perhaps only in form: the student has 75.0 % accuracy")
    assert "(all of the 60.0 points between them may be form)" in told
    warned = form_warning(comparison)[0]
    assert warned.startswith("All of the 60.0 points between the student and base are of items")
    assert (
        "where both name one (n = 12) the student is 75.0 points behind (95 % interval -" in warned
    )
    read = [replace(a, grades={**a.grades, "answered": 1.0}) for a in answers]
    sound = replace(compare("quiz", read, items(N), "accuracy"), content="accuracy")
    assert form_warning(sound) == [] and "form" not in opening(sound).better


@pytest.mark.parametrize(
    ("outcome", "begins"),
    [
        ("learned facts", "Yes: the student has 75.0 % containment"),
        ("reads passages better", "Yes: the student has 75.0 % containment"),
        ("learned the task", "In form only: the student has 75.0 % containment"),
        ("collapsed", "No, its answers collapsed: the student has 75.0 %"),
        ("answers do not fit their questions", "No, its answers do not fit their questions: the"),
    ],
)
def test_the_first_line_says_no_more_than_what_was_learned(outcome, begins):
    comparison = board(base=(0, 20), student=(40, 45))
    told = opening(comparison, outcomes={"quiz": outcome})
    assert told.better.startswith(begins)
