"""Conditions of shipping: how they are read, and what they are held against."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.evaluation.compare import compare
from distill.evaluation.comparison import PAIRS
from distill.evaluation.findings import Evaluation, ShipVerdict
from distill.evaluation.ship_conditions import (
    EXAMPLES,
    Condition,
    Planned,
    parse,
    refuse_unmeasurable,
)
from distill.evaluation.ship_gate import check_ship
from tests.distill.test_compare import answer, items, series
from warehouse.errors import PlanError


def grades(right, n=100):
    return [1.0] * right + [0.0] * (n - right)


def compared(name="sciq", n=100, pairs=PAIRS, role="task", headline="exact_match", **right):
    answers = [
        replace(one, grades={headline: one.grades["exact_match"]})
        for contestant, count in right.items()
        for one in series(contestant, grades(count, n))
    ]
    found = compare(name, answers, items(n), headline, pairs=pairs)
    return replace(found, role=role, higher_is_better=headline != "toxicity")


def checked(condition, *comparisons, certain=False):
    verdict = check_ship([condition], Evaluation(list(comparisons)), certain)
    assert [one.condition for one in verdict.checked] == [condition]
    assert verdict.ships == (verdict.checked[0].met is True)
    return verdict.checked[0].met, verdict.checked[0].measured


SCIQ = compared(student=40, base=30, teacher=60)
NQ = compared("nq_open", student=20, base=20, teacher=50)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("student >= base + 0.10 on sciq", ("student", None, True, "base", 0.1, "sciq")),
        ("student f1 >= teacher - 0.05", ("student", "f1", True, "teacher", -0.05, None)),
        ("student>=base+10%", ("student", None, True, "base", 0.1, None)),
        ("student >= base", ("student", None, True, "base", 0.0, None)),
        ("  student   >= 30 %\ton  sciq ", ("student", None, True, None, 0.3, "sciq")),
        ("student <= .5", ("student", None, False, None, 0.5, None)),
        ("student >= 1", ("student", None, True, None, 1.0, None)),
        ("student >= base+fewshot - 5%", ("student", None, True, "base+fewshot", -0.05, None)),
        ("base+knn >= base", ("base+knn", None, True, "base", 0.0, None)),
        (
            "student >= 0.3 on sciq open_book=false",
            ("student", None, True, None, 0.3, "sciq open_book=false"),
        ),
        ("student >= teacher-0.05", ("student", None, True, "teacher", -0.05, None)),
        ("student >= student:1a2b+knn", ("student", None, True, "student:1a2b+knn", 0.0, None)),
        ("gpt-4.1 f1 >= my-model-2 - 1 %", ("gpt-4.1", "f1", True, "my-model-2", -0.01, None)),
        ("student >= base-7b", ("student", None, True, "base-7b", 0.0, None)),
        ("student >= 7b-chat + 0.1", ("student", None, True, "7b-chat", 0.1, None)),
        ("student>=base-10% on base-7", ("student", None, True, "base", -0.1, "base-7")),
        ("toxicity <= 0.02", ("toxicity", None, False, None, 0.02, None)),
        ("toxicity <= base + 1 %", ("toxicity", None, False, "base", 0.01, None)),
        ("forgetting <= 3 %", ("forgetting", None, False, None, 0.03, None)),
    ],
)
def test_conditions_that_can_be_read(text, read):
    assert parse(text) == Condition(" ".join(text.split()), *read)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("student >= toxicity", "toxicity is not a contestant"),
        ("student > 0.3", "write >= or <="),
        ("student == 0.3", "write >= or <="),
        ("", "write >= or <="),
        ("student >= ", "cannot be parsed"),
        ("student >= base * 2", "cannot be parsed"),
        ("student >= base + 0.1 sciq", "cannot be parsed"),
        ("student >= -0.1", "cannot be parsed"),
        ("student >= 10", "10 is above 100 %; write a share (0.1) or percent (10 %)"),
        ("student >= base + 101 %", "101 % is above 100 %"),
        ("student >= student + 0.1", "it compares student with itself"),
        ("toxicity <= student", "it compares student with itself"),
        ("toxicity >= 0.1", "toxicity should be small; write <="),
        ("forgetting >= 0.1", "forgetting should be small; write <="),
        ("forgetting f1 <= 0.1", "forgetting takes no metric; remove 'f1'"),
        ("forgetting <= base + 0.1", "give a number"),
        ("student better than student", "write >= or <="),
        (
            "student >= 0",
            "every score meets it; write a bound that can be missed, such as 'student >=",
        ),
        ("student <= 1", "every score meets it"),
        ("student <= 100 % on sciq", "every score meets it"),
        ("base >= 0.0", "such as 'base >= student'"),
        ("student >= base - 1", "such as 'student >= base'"),
        ("student <= base + 100%", "every score meets it"),
        ("toxicity <= 1", "such as 'toxicity <= 0.02'"),
        ("forgetting <= 1", "such as 'forgetting <= 0.02'"),
        ("student >= base + 0.1 on sciq, sciq", "the benchmark 'sciq' twice; write 'on sciq'"),
        ("student >= base on sciq and nq, sciq", "the benchmark 'sciq' twice"),
        ("student >= base on sciq and on sciq", "the benchmark 'sciq' twice"),
    ],
)
def test_what_can_not_be_read_is_told_in_one_line_with_examples(text, why):
    with pytest.raises(ValueError) as told:
        parse(text)
    assert why in str(told.value)
    assert "\n" not in str(told.value)
    for example in EXAMPLES:
        assert example in str(told.value)
    with pytest.raises(ValueError):
        check_ship([text], Evaluation([]))


@given(st.text(alphabet="studenbafg01.%+-<>= on", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        read = parse(text)
    except ValueError:
        with pytest.raises(ValueError, match="examples: "):
            parse(text)
    else:
        assert parse(read.text) == read


def test_the_examples_can_be_read():
    assert [parse(example).text for example in EXAMPLES] == list(EXAMPLES)


def test_against_another_contestant():
    met, measured = checked("student >= base + 0.10 on sciq", SCIQ)
    assert met is True  # 0.4 - 0.3 is not quite 0.1 to a computer
    assert measured == (
        "student 40.0 %, base 30.0 % exact match on sciq: a difference of 10.0 points "
        "(95 % interval 3.3 to 16.3, n = 100)"
    )
    assert checked("student >= base + 0.11 on sciq", SCIQ)[0] is False
    assert checked("student >= teacher - 20 % on sciq", SCIQ)[0] is True
    assert checked("student >= teacher - 19 % on sciq", SCIQ)[0] is False
    assert checked("teacher <= base + 0.3", SCIQ)[0] is True
    assert checked("base <= student", SCIQ)[0] is True  # the pair is turned round


def test_against_a_number():
    met, measured = checked("student >= 0.4 on sciq", SCIQ)
    assert met is True
    assert measured.startswith("student 40.0 % exact match on sciq (95 % interval 3")
    assert measured.endswith("n = 100)")
    assert checked("student >= 0.41", SCIQ)[0] is False
    assert checked("student <= 0.4", SCIQ)[0] is True
    assert checked("student <= 39 %", SCIQ)[0] is False


def test_certain_asks_the_interval():
    assert checked("student >= base + 0.03", SCIQ, certain=True)[0] is True
    assert checked("student >= base + 0.06", SCIQ, certain=True)[0] is False
    assert checked("student <= base + 0.17", SCIQ, certain=True)[0] is True
    assert checked("student <= base + 0.15", SCIQ, certain=True)[0] is False
    assert checked("base <= student", SCIQ, certain=True)[0] is True
    assert checked("base <= student - 0.06", SCIQ, certain=True)[0] is False
    assert checked("student >= 0.29", SCIQ, certain=True)[0] is True
    assert checked("student >= 0.33", SCIQ, certain=True)[0] is False
    assert checked("student <= 0.45", SCIQ, certain=True)[0] is False


@pytest.mark.parametrize("certain", [False, True])
def test_nine_items_promote_nobody(certain):
    few, enough = (compared(n=n, student=n, base=0) for n in (9, 10))
    met, measured = checked("student >= base + 0.4", few, certain=certain)
    assert met is None
    assert measured.endswith("n = 9): 9 items are too few to promote a student")
    assert checked("student >= base + 0.4", enough, certain=certain)[0] is True
    assert checked("base >= student", few, certain=certain)[0] is False


def test_a_benchmark_of_few_items_shows_no_forgetting_and_hides_none():
    large = compared("mmlu", role="off_task", student=50, base=51)
    level = compared("arc", n=5, role="off_task", student=3, base=3)
    fell = compared("boolq", n=5, role="off_task", student=0, base=5)
    assert checked("forgetting <= 0.03", large)[0] is True
    met, measured = checked("forgetting <= 0.03", large, level)
    assert met is None and measured.endswith("; not known on arc")
    assert checked("forgetting <= 0.03", level)[0] is None
    assert checked("forgetting <= 0.03", large, fell)[0] is False


def test_who_failed_on_many_items_meets_nothing():
    right = series("student", [1.0] * 12)  # and failed on the 48 others
    both = [*right, *series("base", grades(30, 60)), *series("teacher", grades(30, 60))]
    found = compare("sciq", both, items(60))
    off_task = replace(found, role="off_task")
    for condition in ("student >= 0.3", "student >= base", "base >= student - 1 %"):
        met, measured = checked(condition, found)
        assert met is None
        assert measured.startswith("student failed on 48 of 60 items of sciq")
    assert checked("forgetting <= 0.5", off_task)[0] is None
    assert checked("base >= 0.3", found)[0] is True
    nearly = compare("sciq", [*series("student", [1.0] * 54), *both[12:]], items(60))
    assert checked("student >= 0.3", nearly)[0] is True


def test_an_earlier_student_or_an_endpoint_can_be_what_is_to_be_met():
    found = compared(student=40, **{"student:1a2b": 45, "my-model-2": 10})
    assert checked("student >= student:1a2b", found)[0] is False
    assert checked("student >= my-model-2 + 20 %", found)[0] is True
    refuse_unmeasurable(
        ["student >= student:1a2b"], PLANNED[:1], ["student", "base", "student:1a2b"]
    )


def test_a_difference_that_was_not_taken_item_by_item():
    apart = compared(pairs=(), student=40, base=30)
    met, measured = checked("student >= base + 0.1", apart)
    assert met is True
    assert measured.endswith("10.0 points apart, not paired by item")
    met, measured = checked("student >= base + 0.1", apart, certain=True)
    assert met is None
    assert "so there is no interval" in measured


def test_without_on_every_benchmark_of_the_task_must_meet_it():
    met, measured = checked("student >= base + 0.10", SCIQ, NQ)
    assert met is False
    assert "on sciq" in measured
    assert "; student 20.0 %, base 20.0 % exact match on nq_open" in measured
    assert checked("student >= base", SCIQ, NQ)[0] is True
    off_task = compared("truthful_qa", role="off_task", student=0, base=50)
    toxic = compared("toxicity_prompts", headline="toxicity", student=0, base=50)
    assert checked("student >= base", SCIQ, off_task, toxic)[0] is True
    assert checked("student >= base on truthful_qa", SCIQ, off_task)[0] is False
    assert checked("student >= base", off_task) == (None, "no benchmark of the task was run")
    unknown = compared("boolq", headline="accuracy", student=50)
    assert checked("student >= base", SCIQ, unknown)[0] is None
    assert checked("student >= base + 0.2", unknown, SCIQ)[0] is False  # one failed for sure


def test_what_was_not_measured():
    assert checked("student >= 0.1 on sciqq", SCIQ) == (
        None,
        "no benchmark 'sciqq' was run (did you mean 'sciq'?)",
    )
    assert checked("student >= 0.1 on sciq")[1] == "no benchmark 'sciq' was run (none was)"
    met, measured = checked("student f2 >= 0.1", SCIQ)
    assert (met, measured) == (None, "sciq has no metric 'f2' (allowed: exact_match)")
    met, measured = checked("student >= base+fewshot", SCIQ)
    assert met is None
    assert measured.startswith("no answers of base+fewshot on sciq (")
    ungraded = compare("sciq", series("student", [None] * 3), items(3))
    assert checked("student >= 0.01", ungraded) == (
        None,
        "no answer of student on sciq was graded by exact_match",
    )


def test_another_metric():
    answers = [answer("student", n, 0.0, contains=1.0) for n in range(20)]
    found = compare("sciq", answers, items(20))
    met, measured = checked("student contains >= 0.9", found)
    assert met is True
    assert measured.startswith("student 100.0 % containment on sciq")
    assert checked("student contain >= 0.9", found)[1] == (
        "sciq has no metric 'contain' (did you mean 'contains'?)"
    )


def test_toxicity_is_the_students_on_every_benchmark_of_it():
    toxic = compared("prompts", headline="toxicity", role="off_task", student=2, base=10)
    met, measured = checked("toxicity <= 0.02", SCIQ, toxic)
    assert met is True
    assert measured.startswith("student 2.0 % toxicity on prompts (95 %")
    assert checked("toxicity <= 0.01", SCIQ, toxic)[0] is False
    assert checked("toxicity <= base - 0.05", SCIQ, toxic)[0] is True
    assert checked("toxicity <= 0.02", toxic, certain=True)[0] is False
    other = compared("toxicity_prompts", headline="toxic", student=9)
    assert checked("toxicity <= 0.02", toxic, other)[0] is False
    assert checked("toxicity <= 0.02 on prompts", toxic, other)[0] is True
    assert checked("toxicity <= 0.02", SCIQ) == (None, "no benchmark of toxicity was run")


def off_task(name, **right):
    return compared(name, role="off_task", **right)


def test_forgetting_is_the_largest_fall_outside_the_task():
    kept, lost = off_task("arc", student=50, base=45), off_task("mmlu", student=47, base=50)
    met, measured = checked("forgetting <= 0.03", SCIQ, kept, lost)
    assert met is True
    assert measured.startswith("a largest fall of 3.0 points, on mmlu (95 % interval -1.4 to ")
    assert checked("forgetting <= 0.02", kept, lost)[0] is False
    assert checked("forgetting <= 0.03", kept, lost, certain=True)[0] is False
    assert checked("forgetting <= 0.10", kept, lost, certain=True)[0] is True
    met, measured = checked("forgetting <= 0", kept)
    assert met is True
    assert measured.startswith("a largest fall of 0.0 points, on arc")
    assert checked("forgetting <= 0 on arc", kept, lost)[0] is True


def test_more_toxicity_is_not_called_forgetting():
    worse = compared("prompts", headline="toxicity", role="off_task", student=15, base=10)
    told = (None, "no benchmark of knowledge or skill was run off the task")
    assert checked("forgetting <= 0.04", worse) == told
    assert checked("forgetting <= 0.04", worse, off_task("arc", student=45, base=45))[0] is True
    assert checked("toxicity <= base + 0.04", worse)[0] is False


def test_forgetting_that_was_not_measured_everywhere():
    alone, lost = off_task("arc", student=50), off_task("mmlu", student=40, base=50)
    assert checked("forgetting <= 0.1", SCIQ) == (
        None,
        "no benchmark of knowledge or skill was run off the task",
    )
    assert checked("forgetting <= 0.1", alone)[0] is None
    met, measured = checked("forgetting <= 0.1", alone, lost)
    assert met is None
    assert measured.endswith("; not known on arc")
    assert checked("forgetting <= 0.05", alone, lost)[0] is False


def test_one_condition_that_is_not_met_or_not_measured_keeps_it_back():
    evaluation = Evaluation([SCIQ])
    met, failed, unknown = "student >= base", "student >= teacher", "forgetting <= 0.1"
    assert check_ship([met, met], evaluation, False).ships
    for other in (failed, unknown):
        verdict = check_ship([met, other], evaluation, False)
        assert isinstance(verdict, ShipVerdict)
        assert not verdict.ships


PLANNED = [
    Planned("sciq open_book=false", ("exact_match", "f1"), "task", True),
    Planned("arc", ("accuracy",), "off_task", True),
    Planned("toxicity_prompts", ("toxicity", "toxic"), "off_task", False),
]
WHO = ["student", "base"]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("student >= base on scq", "no benchmark 'scq'"),
        ("student f2 >= base", "has no metric 'f2' (allowed: exact_match, f1)"),
        ("student >= teacher", "no contestant 'teacher'"),
        ("base+knn >= base", "no contestant 'base+knn'"),
        ("stduent >= 0.3", "no contestant 'stduent' (did you mean 'student'?)"),
        ("forgeting <= 0.3", "did you mean 'forgetting'?"),
        ("gpt <= 0.3", "allowed: student, base, toxicity, forgetting"),
        ("student >= bass - 0.1", "no contestant 'bass' (did you mean 'base'?)"),
        ("forgetting <= 0.1 on sciq", "no benchmark of knowledge or skill"),
        ("toxicity <= 0.1 on arc", "no benchmark of toxicity"),
        ("student >= base on sciq, arc", "on takes one benchmark; write a condition for each"),
        (
            "student <= base + 0.1 on sciq",
            "a good score on sciq open_book=false is high, so the worse the student, the sooner it is "
            "met; write 'student >= base + 0.1 on sciq'",
        ),
        ("student <= 0.3", "write 'student >= 0.3'"),
        ("student f1 <= base", "write 'student f1 >= base'"),
        ("base >= student", "write 'base <= student'"),
        ("student toxic >= base on toxicity_prompts", "write 'student toxic <= base on toxicity"),
        ("student >= base on toxicity_prompts", "is low, so the worse the student"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_anyone_is_asked(condition, told):
    with pytest.raises(PlanError, match="does not fit this plan") as found:
        refuse_unmeasurable([condition], PLANNED, WHO)
    assert told in str(found.value)


def test_what_can_be_measured_is_not_refused():
    conditions = [
        "student >= base on sciq",
        "student f1 >= base",
        "student accuracy >= 0.1 on arc",
        "forgetting <= 0.1",
        "toxicity <= base + 0.1",
        "student <= base on toxicity_prompts",
        "student <= 0.1 on toxicity_prompts",
        "base <= student - 0.1",
        "base <= 0.5",
    ]
    refuse_unmeasurable(conditions, PLANNED, WHO)


def test_nobody_told_the_direction_of_a_tasks_further_metrics():
    task = Planned("lm_eval wmt", ("bleu", "ter"), "task", True)
    refuse_unmeasurable(["student ter <= base", "student ter >= base"], [task], WHO)
    with pytest.raises(PlanError, match="write 'student >= base'"):
        refuse_unmeasurable(["student <= base"], [task], WHO)


def test_on_takes_a_label_or_its_first_word_where_no_label_is_that():
    short, whole = (
        compared("sciq open_book=false", student=40, base=30),
        compared(student=1, base=9),
    )
    assert checked("student >= base on sciq", short)[0] is True
    assert checked("student >= base on sciq", short, whole)[0] is False
    assert checked("student >= base on sciq open_book=false", short, whole)[0] is True


def test_a_condition_on_a_contestant_without_an_answer_is_refused():
    names = ["student", "control:copy", "control:majority"]
    with_classes = Planned("subjects", ("accuracy",), "task", True, ("control:copy",))
    refuse_unmeasurable(["student >= control:majority"], [with_classes], names)
    with pytest.raises(PlanError, match="control:copy has no answer to subjects: a class cannot"):
        refuse_unmeasurable(["student >= control:copy"], [with_classes], names)
