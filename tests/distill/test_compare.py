"""Paired statistics against cases whose answer is known."""

import math
import random
from dataclasses import replace

import pytest

from distill.evaluation.compare import ABOVE, BELOW, adjust_p_values, compare
from distill.evaluation.comparison import ItemText
from distill.evaluation.findings import Evaluation
from distill.evaluation.statistics import sign_test_p_value
from distill.evaluation.verdict import verdict
from warehouse.records import Answer


def answer(contestant, item, grade, text=None, contains=None, **changes):
    grades = {"exact_match": grade}
    if contains is not None:
        grades["contains"] = contains
    made = Answer(
        answer_id=f"{contestant}-{item}",
        benchmark="quiz",
        benchmark_version="1",
        item_id=f"i{item:03d}",
        contestant=contestant,
        contestant_id=contestant,
        settings={},
        text=text or f"{contestant} says {grade}",
        grades=grades,
        abstained=None if grade is not None else "no reference",
        finish_reason="stop",
        prompt_tokens=10,
        completion_tokens=2,
        latency_s=0.5,
        cost_usd=0.0,
        run_id="r",
    )
    return replace(made, **changes)


def items(n):
    return [ItemText(f"i{i:03d}", f"question {i}?", None, ["ref"]) for i in range(n)]


def series(contestant, grades):
    return [answer(contestant, i, grade) for i, grade in enumerate(grades)]


def test_counts_means_and_exact_test():
    given = series("student", [1.0] * 6 + [0.0] * 4) + series("base", [0.0] * 9 + [1.0])
    found = compare("quiz", given, items(10))
    pair = found.difference("student", "base")
    assert (pair.wins, pair.losses, pair.ties, pair.n) == (6, 1, 3, 10)
    assert pair.p_value == pytest.approx(0.125)  # 2 * (C(7,0) + C(7,1)) / 2**7
    assert pair.metrics["exact_match"].value == pytest.approx(0.5)
    assert found.standing("student").metrics["exact_match"].value == pytest.approx(0.6)
    assert found.standing("student").prompt_tokens == 100
    assert [s.contestant for s in found.standings] == ["base", "student"]


def test_interval_of_a_mean_is_close_to_the_normal_one():
    found = compare("quiz", series("student", [1.0] * 120 + [0.0] * 280), items(400))
    interval = found.standing("student").metrics["exact_match"]
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert interval.low == pytest.approx(0.3 - half, abs=0.008)
    assert interval.high == pytest.approx(0.3 + half, abs=0.008)


def test_pairing_is_used():
    hard = [float(i % 2) for i in range(200)]
    better = [1.0 if i < 16 else grade for i, grade in enumerate(hard)]
    found = compare("quiz", series("student", better) + series("base", hard), items(200))
    interval = found.difference("student", "base").metrics["exact_match"]
    assert interval.value == pytest.approx(0.04)
    assert 0 < interval.low < interval.high < 0.08  # unpaired it would be about -0.06 to 0.14


def test_equal_answers_are_not_certain_to_be_equal():
    same = [1.0, 0.0] * 20
    found = compare("quiz", series("student", same) + series("base", same), items(40))
    interval = found.difference("student", "base").metrics["exact_match"]
    assert (interval.low, interval.value, interval.high) == (-interval.high, 0.0, interval.high)
    assert 0.04 < interval.high < 0.08  # a loss in 3 of 40 items would go unseen one time in twenty
    assert found.difference("student", "base").p_value == 1.0
    assert "No clear difference" in verdict(found)
    sure = compare("quiz", series("student", [1.0] * 5), items(5)).standing("student")
    assert sure.metrics["exact_match"].low < 0.5 and sure.metrics["exact_match"].high == 1.0


def test_abstained_and_failed_are_counted_and_never_zero():
    given = series("student", [1.0, None, 1.0]) + series("base", [0.0, 0.0])
    found = compare("quiz", given, items(4))
    standing = found.standing("student")
    assert (standing.n, standing.graded, standing.abstained, standing.failed) == (4, 2, 1, 1)
    assert standing.metrics["exact_match"].value == 1.0
    assert found.difference("student", "base").n == 1


def test_one_common_item_says_nothing():
    found = compare("quiz", series("student", [1.0]) + series("base", [0.0]), items(1))
    interval = found.difference("student", "base").metrics["exact_match"]
    assert (interval.low, interval.high) == (-1.0, 1.0)
    assert "No clear difference" in verdict(found)
    assert "n = 1 is small" in verdict(found)


def test_nothing_graded_is_said_and_not_nan():
    found = compare("quiz", series("student", [None]) + series("base", [1.0]), items(1))
    assert found.standing("student").metrics == {}
    assert verdict(found).startswith("The student cannot be compared with the base")
    assert "no answers of student and base" in verdict(compare("quiz", [], items(3)))


def three(student, base, teacher):
    return series("student", student) + series("base", base) + series("teacher", teacher)


def test_retention_and_gap_closed():
    base, student, teacher = ([1.0] * k + [0.0] * (100 - k) for k in (20, 50, 80))
    found = compare("quiz", three(student, base, teacher), items(100))
    assert found.retention.interval.value == pytest.approx(0.625)
    gap = found.gap_closed.interval
    assert gap.value == pytest.approx(0.5)
    assert 0.3 < gap.low < 0.5 < gap.high < 0.7
    assert "closes 50.0 % of the gap" in verdict(found)
    assert "30.0 points below the teacher" in verdict(found)


def test_no_share_of_a_gap_that_may_not_be_there():
    draw = random.Random(1)
    base, teacher, student = ([float(draw.random() < 0.3) for _ in range(60)] for _ in range(3))
    found = compare("quiz", three(student, base, teacher), items(60))
    assert found.gap_closed.interval is None
    assert "not clearly above zero" in found.gap_closed.reason
    nothing = compare("quiz", three([1.0] * 9, [0.0] * 9, [0.0] * 9), items(9))
    assert nothing.retention.interval is None
    assert "teacher's mean" in nothing.retention.reason
    alone = compare("quiz", series("student", [1.0, 0.0]), items(2))
    assert alone.retention.reason == "no answers of teacher"


def test_a_share_is_given_only_of_a_gap_that_means_something():
    """The margins: 5 points, and 2 at the interval's lower end."""

    def gap(n, base, student, teacher):
        grades = ([1.0] * k + [0.0] * (n - k) for k in (student, base, teacher))
        return compare("quiz", three(*grades), items(n)).gap_closed

    assert gap(2_000, 200, 240, 280).reason == (
        "the gap from base to teacher is not clearly above zero (4.0 points, 95 % interval 3.1 to 4.9, "
        "n = 2000; a share needs 5.0 points or more, and 2.0 at the lower end)"
    )
    assert gap(2_000, 200, 240, 300).interval.value == pytest.approx(0.4)
    assert "95 % interval 1.2 to" in gap(100, 10, 12, 17).reason  # 7 points, which may be 1
    assert gap(100, 10, 15, 20).interval.value == pytest.approx(0.5)
    assert gap(100, 10, 10, 20).interval.value == 0.0
    assert gap(100, 10, 20, 20).interval.value == 1.0


def test_no_percentage_above_the_teacher_or_below_the_base():
    def told(base, student, teacher):
        grades = ([1.0] * k + [0.0] * (100 - k) for k in (student, base, teacher))
        found = compare("quiz", three(*grades), items(100))
        return found, verdict(found)

    above, text = told(10, 41, 30)
    assert above.gap_closed.reason == above.retention.reason == ABOVE
    assert "11.0 points above the teacher" in text
    assert (
        "the share of the gap closed is not given: the student's score is above the teacher's."
    ) in text
    assert "% of the gap" not in text
    below, text = told(20, 12, 60)
    assert below.gap_closed.reason == BELOW
    assert below.retention.interval.value == pytest.approx(0.2)
    assert "is not given: the student's score is below the base's." in text


def test_nothing_is_retained_of_a_teacher_that_knows_hardly_anything():
    found = compare(
        "quiz", three([1.0] * 3 + [0.0] * 97, [0.0] * 100, [1.0] * 4 + [0.0] * 96), items(100)
    )
    assert found.retention.interval is None
    assert found.retention.reason.startswith(
        "the teacher's mean is not clearly above zero (4.0 points"
    )


def test_a_gap_that_is_not_clear_after_holm_has_no_share():
    given = three([1.0] * 3 + [0.0] * 17, [0.0] * 20, [1.0] * 6 + [0.0] * 14)
    alone = compare("quiz", given, items(20))
    assert alone.difference("teacher", "base").p_value == pytest.approx(0.03125)
    assert alone.gap_closed.interval is not None
    found, _ = adjust_p_values([alone, replace(alone, benchmark="other")])
    assert found.gap_closed.interval is None
    assert (
        found.gap_closed.reason == "teacher and base are not clearly different (p = 0.062, n = 20)"
    )


def test_the_mean_decides_and_not_the_number_of_wins():
    """Thirty large wins and seventy small losses: the mean rises, and so say test and interval."""
    student, base = [1.0] * 30 + [0.0] * 70, [0.0] * 30 + [0.1] * 70
    found = compare("quiz", series("student", student) + series("base", base), items(100))
    pair = found.difference("student", "base")
    assert (pair.wins, pair.losses) == (30, 70)
    assert sign_test_p_value(30, 70) < 0.001  # which alone would say that the base is better
    assert pair.metrics["exact_match"].low > 0 and pair.p_value < 0.001
    told = verdict(found)
    assert (
        told.startswith("The student beats the base by 23.0 points") and "permutation test" in told
    )
    turned = compare("quiz", series("student", base) + series("base", student), items(100))
    assert verdict(turned).startswith("The student is worse than the base by 23.0 points")


def test_items_of_one_passage_are_one_piece_of_evidence():
    """Ten of forty items won, all on two of eight passages, or on ten of forty."""
    student = [1.0] * 10 + [0.0] * 30
    given = series("student", student) + series("base", [0.0] * 40)
    told = compare("quiz", given, items(40))
    assert "The student beats the base" in verdict(told) and "McNemar" in verdict(told)
    texts = [replace(item, passage=f"Passage {i // 5}.") for i, item in enumerate(items(40))]
    found = compare("quiz", given, texts)
    pair = found.difference("student", "base")
    assert (pair.n, pair.groups, pair.p_value) == (40, 8, 0.5)  # 2 of 2^2 signs
    assert pair.metrics["exact_match"].low < 0
    assert "No clear difference" in verdict(found)
    assert "n = 40 in 8 groups, permutation test p = 0.500" in verdict(found)
    assert found.test == "permutation test"
    assert any(note.startswith("40 items of 8 passages: ") for note in found.notes)
    assert not any("passages" in note for note in told.notes)
    by_question = compare("quiz", given, [replace(item, question="Yes?") for item in items(40)])
    assert by_question.groups == 1
    assert any(note.startswith("40 items of 1 question: ") for note in by_question.notes)


def test_nothing_is_retained_of_what_should_be_small():
    answers = series("student", [0.2] * 20) + series("teacher", [0.4] * 20)
    found = compare("toxicity", answers, items(20), higher_is_better=False)
    assert (found.retention.interval, found.retention.reason) == (None, "lower is better")


def test_verdict_beats_worse_and_undecided():
    up, down = [1.0] * 20 + [0.0] * 20, [0.0] * 40
    better = compare("quiz", series("student", up) + series("base", down), items(40))
    assert verdict(better).startswith("The student beats the base by 50.0 points exact match (95 %")
    assert "n = 40, McNemar p < 0.001" in verdict(better)
    assert "small" not in verdict(better)
    worse = compare("quiz", series("student", down) + series("base", up), items(40))
    assert verdict(worse).startswith("The student is worse than the base by 50.0 points")
    few = compare("quiz", series("student", [1.0] * 5) + series("base", [0.0] * 5), items(5))
    assert few.difference("student", "base").metrics["exact_match"].value == 1.0
    assert "No clear difference" in verdict(few)
    assert "n = 5 is small" in verdict(few)


def test_verdict_says_when_containment_fell():
    given = [answer("student", i, 1.0, contains=0.0) for i in range(40)]
    given += [answer("base", i, 0.0, contains=1.0 if i < 10 else 0.0) for i in range(40)]
    assert "Containment of the reference fell by 25.0 points" in verdict(
        compare("quiz", given, items(40))
    )
    same = [replace(a, grades={**a.grades, "contains": 1.0}) for a in given]
    assert "Containment" not in verdict(compare("quiz", same, items(40)))


def test_examples_are_ordered_limited_and_prefer_differing_ties():
    given = [answer("student", i, 1.0 if i < 15 else 0.0, "s") for i in range(40)]
    given += [answer("base", i, 0.0, "s" if i < 38 else "b") for i in range(40)]
    found = compare("quiz", given, items(40))
    assert [e.item.item_id for e in found.wins] == [f"i{i:03d}" for i in range(10)]
    assert found.losses == []
    assert [e.item.item_id for e in found.ties][:3] == ["i038", "i039", "i015"]
    assert len(found.ties) == 10


def test_order_repeats_and_foreign_items_change_nothing():
    given = three([1.0, 0.0] * 10, [0.0] * 20, [1.0] * 20)
    found = compare("quiz", given, items(20))
    again = compare("quiz", given[::-1] + given[:7] + [answer("base", 99, 1.0)], items(20)[::-1])
    assert found == again


def test_unknown_price_stays_unknown():
    given = [answer("student", 0, 1.0, cost_usd=None), answer("student", 1, 1.0, cost_usd=2.0)]
    assert compare("quiz", given, items(2)).standing("student").cost_usd is None


def test_a_contestant_who_failed_on_every_item_is_shown():
    from distill.report.report import Report, render_html, render_markdown

    answers = [answer("base", n, 0.0) for n in range(4)]
    found = compare("b", answers, items(4), contestants=["teacher", "base"])
    assert found.standing("teacher").failed == 4
    assert found.standing("teacher").metrics == {}
    report = Report(
        "r",
        "p",
        "h",
        "now",
        {},
        {},
        {},
        Evaluation([found]),
        [],
        [],
        [],
        [],
        [],
        [],
        audit={},
        notes=[],
        protocol=[],
    )
    for text in (render_html(report), render_markdown(report)):
        assert "teacher" in text
        assert "nan" not in text.lower().replace("finance", "")
