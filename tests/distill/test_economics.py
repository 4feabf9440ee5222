"""What answers cost, and when a student has paid for itself."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.evaluation.compare import compare
from distill.evaluation.economics import (
    Economy,
    find_break_even,
    gather_advice,
    price_answers,
    total_cost,
)
from distill.evaluation.statistics import Interval
from tests.distill.test_compare import answer, items, series

CALL = {"call_id": "c"}


def costs(contestant, values, **changes):
    return [answer(contestant, n, 1.0, cost_usd=v, **changes) for n, v in enumerate(values)]


def economies(answers, usd_per_hour=None, n=4, contestants=()):
    found = compare("quiz", answers, items(n), contestants=contestants)
    return {one.contestant: one for one in price_answers("quiz", found, answers, usd_per_hour)}


def of(contestant="student", usd=None, score=None):
    return Economy("quiz", contestant, 10, score, usd, "tokens", 0.5, 10, 2)


def test_a_paid_reply_costs_what_it_cost():
    teacher = economies(costs("teacher", [0.001, 0.003, 0.002, 0.002], settings=CALL), 3.6)[
        "teacher"
    ]
    assert teacher.usd_per_1000 == pytest.approx(2.0)
    assert (teacher.priced_by, teacher.n) == ("tokens", 4)
    assert (teacher.latency_s, teacher.tokens_in, teacher.tokens_out) == (0.5, 10, 2)
    assert (teacher.score.value, teacher.score.high) == (1.0, 1.0)


@pytest.mark.parametrize("cost", [0.0, None])
def test_a_local_model_costs_the_time_of_its_machine(cost):
    local = costs("student", [cost] * 4)
    priced = economies(local, 7.2)["student"]
    assert priced.usd_per_1000 == pytest.approx(1000 * 0.5 / 3600 * 7.2)
    assert priced.priced_by == "machine time"
    unpriced = economies(local)["student"]
    assert (unpriced.usd_per_1000, unpriced.priced_by) == (None, "not known")


def test_a_reply_of_unknown_price_is_not_taken_for_a_local_one():
    calls = costs("teacher", [None] * 4, settings=CALL)
    assert economies(calls, 7.2)["teacher"].priced_by == "not known"
    some = economies(costs("teacher", [0.1, None, 0.1, 0.1], settings=CALL), 7.2)["teacher"]
    assert (some.usd_per_1000, some.priced_by) == (None, "not known")


def test_a_free_reply_from_elsewhere_costs_nothing_and_one_from_here_its_time():
    free = costs("teacher", [0.0] * 4, settings=CALL)
    elsewhere = economies(free, 7.2)["teacher"]
    assert (elsewhere.usd_per_1000, elsewhere.priced_by) == (0.0, "tokens")
    found = compare("quiz", free, items(4))
    (here,) = price_answers("quiz", found, free, 7.2, {"teacher": 1})
    assert here.priced_by == "machine time" and here.usd_per_1000 > 0


def test_a_server_that_answers_four_at_once_took_a_quarter_of_the_latencies():
    answers = costs("teacher", [0.0] * 4, settings=CALL) + costs("student", [0.0] * 4)
    found = compare("quiz", answers, items(4))
    teacher, student = (
        {one.contestant: one for one in price_answers("quiz", found, answers, 7.2, {"teacher": 4})}[
            name
        ]
        for name in ("teacher", "student")
    )
    assert teacher.usd_per_1000 == pytest.approx(student.usd_per_1000 / 4)
    assert teacher.latency_s == student.latency_s


def batched(contestant, batches, named=True, at=0):
    """Answers of a model on this machine; `batches` holds (rows, seconds)."""
    answers = []
    for number, (rows, seconds) in enumerate(batches):
        details = {"batch": f"{contestant} {number}"} if named else None
        for _ in range(rows):
            one = answer(contestant, at + len(answers), 1.0, cost_usd=0.0, details=details)
            answers.append(replace(one, latency_s=seconds / rows))
    return answers


def test_machine_times_that_overlap_are_not_told_apart():
    varied = [0.2, 0.9, 0.4, 0.5, 0.5]
    answers = [
        one
        for name, longer in (("student", 0.0), ("base", 0.05), ("teacher", 9.0))
        for one in batched(name, [(1, seconds + longer) for seconds in varied])
    ]
    found = economies(answers, 3.6, 5)
    level = find_break_even(found["student"], found["base"], 0.0, 0.1, 3.6)
    assert level.answers is None
    itself = find_break_even(
        found["student"], replace(found["student"], contestant="base"), 0.0, 0.1, 3.6
    )
    assert "are not clearly different" in itself.sentence
    assert level.sentence.startswith(
        "The costs of the student and base are not clearly different: "
    )
    low, high = found["student"].usd_interval.low, found["student"].usd_interval.high
    assert (low, high) == pytest.approx((0.1834, 0.8166), abs=1e-4)  # 0.5 -+ t(4) sd / sqrt(5)
    assert found["student"].usd_per_1000 == pytest.approx(0.5)
    assert find_break_even(found["student"], found["teacher"], 0.0, 0.1, 3.6).answers is not None


def break_even(student, base, usd_per_hour=3.6, named=True):
    answers = batched("student", student, named) + batched("base", base, named)
    n = sum(rows for rows, _ in student)
    found = economies(answers, usd_per_hour, n)
    return found, find_break_even(found["student"], found["base"], 0.0, 0.1, usd_per_hour)


@pytest.mark.parametrize("named", [True, False])
def test_fewer_than_five_batches_claim_nothing(named):
    slow, fast = [(30, 60.0 + n) for n in range(4)], [(30, 1.0 + n) for n in range(4)]
    found, told = break_even(fast, slow, named=named)
    assert (found["student"].batches, found["student"].usd_interval) == (4, None)
    assert found["student"].usd_per_1000 == pytest.approx(10 / 120)
    assert told.answers is None
    assert told.sentence.startswith(
        "There are too few batches to compare prices: 1,000 answers cost 0.0833 USD of the student, "
        "timed in 4 batches, and 2.05 USD of base, timed in 4 batches; 5 are needed."
    )
    assert told.advice == (
        "More held-out items, or a smaller evaluate.batch_size, give more batches."
    )
    assert "held-out" not in told.sentence
    more = [[*batches, (30, batches[-1][1] + 1)] for batches in (fast, slow)]
    found, told = break_even(*more, named=named)
    assert found["student"].batches == 5
    assert told.answers is not None


def test_a_machine_that_costs_nothing_needs_no_batches():
    found, told = break_even([(30, 1.0)], [(30, 2.0)], usd_per_hour=0.0)
    assert found["student"].usd_per_1000 == 0.0
    assert "too few batches" not in told.sentence


def test_a_batch_is_one_measurement_however_many_rows_it_has():
    batches = [(1, 1.0), (2, 2.4), (3, 2.7), (40, 49.0), (4, 4.1), (10, 9.5)]
    found, _ = break_even(batches, batches)
    named, _ = break_even(batches, batches, named=False)
    assert found["student"] == named["student"]
    assert found["student"].batches == 6
    assert found["student"].usd_per_1000 == pytest.approx(sum(s for _, s in batches) / 60)
    each = economies([replace(one, details={"batch": one.answer_id}) for one in
                      batched("student", batches)], 3.6, 60)["student"]  # fmt: skip
    width = found["student"].usd_interval.high - found["student"].usd_interval.low
    assert width > 3 * (each.usd_interval.high - each.usd_interval.low)


@pytest.mark.parametrize(("batches", "rows"), [(5, 6), (8, 4), (15, 2)])
def test_two_equally_fast_models_are_seldom_declared_apart(batches, rows):
    draw, apart, times = random.Random(1), 0, 400
    compared = None
    for _ in range(times):
        answers = [
            one
            for name in ("student", "base")
            for one in batched(name, [(rows, draw.lognormvariate(0, 0.7)) for _ in range(batches)])
        ]
        compared = compared or compare("quiz", answers, items(batches * rows))
        base, student = price_answers("quiz", compared, answers, 3.6)
        told = find_break_even(student, base, 0.0, 0.1, 3.6)
        apart += "not clearly different" not in told.sentence
    assert apart / times <= 0.05


def test_what_a_student_cost_so_far_by_hand():
    bought = [
        answer("teacher", n, 1.0, settings={"call_id": f"c{n}"}, cost_usd=0.5) for n in (0, 1)
    ]
    again = replace(bought[0], contestant="teacher+knn", answer_id="other")
    here = batched("student", [(2, 1800.0)]) + batched("base", [(2, 1800.0)])
    server = [replace(one, contestant="judge", settings={"call_id": f"s{n}"}, latency_s=3600.0)
              for n, one in enumerate(bought)]  # fmt: skip
    answers = [*bought, again, *here, *server]
    cost = total_cost(answers, 2.0, 0.5, 4.0, {"judge": 2}, 0.25)
    assert cost.hours == pytest.approx(0.5 + 1.0 + 1.0)
    assert cost.total_usd == cost.known_usd == pytest.approx(2.0 + 1.0 + 10.0)
    assert (cost.usd_per_1000, cost.missing) == (0.25, "")
    assert cost.sentence == (
        "So far this student cost 13.00 USD and took 2.5 hours of this machine; 1,000 of its "
        "answers cost 0.2500 USD."
    )
    unpriced = total_cost(answers, 2.0, 0.5, None, {"judge": 2}, None)
    assert (unpriced.total_usd, unpriced.known_usd) == (None, pytest.approx(3.0))
    assert unpriced.missing == "evaluate.usd_per_hour, the price of this machine"
    assert unpriced.sentence.startswith("So far this student cost 3.00 USD or more and took 2.5 h")
    unknown = total_cost([replace(bought[0], cost_usd=None)], None, 0.0, None, {}, 0.25)
    assert (unknown.total_usd, unknown.hours) == (None, 0.0)
    assert unknown.missing.startswith("input_usd_per_million")
    free = total_cost([], 0.0, 0.0, None, {}, None)
    assert (free.total_usd, free.sentence) == (0.0, "So far this student cost 0.00 USD.")


def test_each_contestant_has_its_own_and_one_without_answers_has_none():
    answers = costs("teacher", [0.001] * 4) + series("student", [1.0, None, 0.0, 0.0])
    found = economies(answers + answers[:3], 3.6, contestants=["teacher", "base", "student"])
    assert list(found) == ["base", "student", "teacher"]
    assert (found["base"].n, found["base"].score, found["base"].latency_s) == (0, None, None)
    assert found["base"].usd_per_1000 is None
    assert found["student"].n == found["teacher"].n == 4
    assert found["student"].score.value == pytest.approx(1 / 3)


def test_break_even_by_hand():
    found = find_break_even(of(usd=0.5), of("teacher", 2.5), 3.0, 0.5, 2.0)
    assert (found.fixed_usd, found.saved_usd_per_1000, found.answers) == (4.0, 2.0, 2000)
    assert found.sentence == (
        "The student pays off against teacher after 2,000 answers: making it cost 4.00 USD, and it "
        "saves 2.00 USD per 1,000 answers."
    )
    scored = find_break_even(
        of(usd=0.5, score=Interval(0.31, 0, 1)),
        of("teacher", 2.5, Interval(0.62, 0, 1)),
        3.0,
        0.5,
        2.0,
    )
    assert scored.sentence.endswith("Of 100 points the student scores 31.0, teacher 62.0.")


def test_a_student_that_is_not_cheaper_never_pays_whatever_it_cost():
    for dearer, fixed in ((2.0, 0.0), (3.0, None)):
        found = find_break_even(of(usd=dearer), of("base", 2.0), fixed, 1.0, None)
        assert found.answers is None
        assert "never pays off against base" in found.sentence
        assert "unknown" not in found.sentence


def test_at_once_where_making_it_cost_nothing():
    found = find_break_even(of(usd=0.00001), of("teacher", 0.00004), 0.0, 0.0, None)
    assert (found.answers, found.fixed_usd) == (0, 0.0)
    assert "pays off at once" in found.sentence
    assert "less than 0.0001 USD" in found.sentence


@pytest.mark.parametrize(
    ("student", "other", "data", "per_hour", "told", "advice"),
    [
        (None, 2.0, 1.0, None, "no price of student.", "Set evaluate.usd_per_hour"),
        (None, None, 1.0, None, "no price of student and teacher.", "Set evaluate.usd_per_hour"),
        (0.1, None, 1.0, 2.0, "no price of teacher.", "Set input_usd_per_million"),
        (0.1, 2.0, 1.0, None, "the cost of the training is unknown.", "Set evaluate.usd_per_hour"),
        (0.1, 2.0, None, 2.0, "the cost of the data is unknown.", "Set input_usd_per_million"),
    ],
)
def test_what_is_not_known_and_what_would_tell(student, other, data, per_hour, told, advice):
    found = find_break_even(of(usd=student), of("teacher", other), data, 1.0, per_hour)
    assert found.answers is None
    assert "unknown" in found.sentence
    assert told in found.sentence and "; set " not in found.sentence
    assert found.advice.startswith(advice) and found.advice.endswith(".")
    assert (found.fixed_usd is None) == (data is None or per_hour is None)


def test_advice_is_given_once_and_not_where_the_cost_has_it():
    student, dear = of(usd=0.1), of("teacher", 2.0)
    lines = [
        find_break_even(student, of(name), 1.0, 1.0, 2.0) for name in ("teacher", "base", "rival")
    ]
    (prices,) = gather_advice(lines, None)
    assert prices.startswith("Set input_usd_per_million and output_usd_per_million of teacher")
    lines.append(find_break_even(student, dear, 1.0, 1.0, None))
    assert gather_advice(lines, None) == [
        prices, "Set evaluate.usd_per_hour, the price of this machine."
    ]  # fmt: skip
    unpriced = total_cost([], 1.0, 1.0, None, {}, None)
    assert gather_advice(lines, unpriced) == [prices]
    assert gather_advice([find_break_even(student, dear, 1.0, 1.0, 2.0)], None) == []


def test_training_that_took_no_time_needs_no_price():
    assert find_break_even(of(usd=1.0), of("teacher", 2.0), 1.0, 0.0, None).answers == 1000


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e3), st.floats(0.01, 1e3))
def test_the_first_answer_at_which_it_pays(fixed, ours, saved):
    found = find_break_even(of(usd=ours), of("teacher", ours + saved), fixed, 0.0, None)
    spared = found.saved_usd_per_1000 / 1000
    assert found.answers * spared >= fixed * (1 - 1e-6)
    assert (found.answers - 1) * spared <= fixed * (1 + 1e-6)
    assert not math.isnan(found.answers)


def test_order_changes_nothing():
    answers = costs("teacher", [0.1, 0.2, 0.4, 0.7]) + costs("student", [0.0] * 4)
    again = [replace(one) for one in reversed(answers)]
    assert economies(answers, 1.0) == economies(again, 1.0)
