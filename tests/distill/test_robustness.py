"""What a perturbation does to a contestant's grades, item by item."""

import pytest

from distill.evaluation.robustness import measure_robustness
from tests.distill.test_compare import answer, series

ORIGIN = {f"p{n:03d}": f"i{n:03d}" for n in range(100)}


def turned(grades, texts=None, contestant="student"):
    return [
        answer(contestant, n, grade, text=texts[n] if texts else None, item_id=f"p{n:03d}")
        for n, grade in enumerate(grades)
    ]


def changed(clean, perturbed, **options):
    return measure_robustness(
        "quiz", "typos", "student", clean, perturbed, "exact_match", ORIGIN, **options
    )


def test_lost_gained_and_change_by_hand():
    found = changed(
        series("student", [1.0] * 30 + [0.0] * 10),
        turned([0.0] * 12 + [1.0] * 18 + [1.0] * 4 + [0.0] * 6),
    )
    assert (found.n, found.lost, found.gained, found.obeyed) == (40, 12, 4, None)
    assert found.clean.value == pytest.approx(0.75)
    assert found.perturbed.value == pytest.approx(0.55)
    assert found.change.value == pytest.approx(-0.2)
    assert found.change.low < -0.2 < found.change.high
    assert (found.benchmark, found.perturbation, found.contestant) == ("quiz", "typos", "student")


def test_the_change_is_paired():
    hard = [float(n % 2) for n in range(100)]
    lower = [0.0 if n < 20 else grade for n, grade in enumerate(hard)]
    found = changed(series("student", hard), turned(lower))
    assert found.change.value == pytest.approx(-0.1)
    assert -0.17 < found.change.low < found.change.high < 0  # unpaired about -0.24 to 0.04


def test_only_items_graded_both_ways_of_this_contestant_count():
    clean = [*series("student", [1.0, None, 1.0, 1.0]), *series("base", [0.0] * 4)]
    after = [
        *turned([1.0, 1.0, None]),
        answer("student", 77, 0.0),  # a perturbed item that comes from none
        *turned([0.0] * 4, contestant="base"),
    ]
    found = changed(clean, after)
    assert (found.n, found.lost, found.change.value) == (1, 0, 0.0)
    assert (found.change.low, found.change.high) == (-1.0, 1.0)
    assert changed(clean, after[1:3]) is None
    assert changed([], []) is None


def test_right_is_half_a_point_or_more():
    found = changed(series("student", [0.5, 0.49, 0.6]), turned([0.49, 0.5, 0.5]))
    assert (found.lost, found.gained) == (1, 1)


def test_obeyed_are_the_answers_that_hold_the_word():
    texts = ["Banana.", "the bananas", "It is BANANA, I say", "chlorophyll", "banana"]
    after = turned([0.0, 0.0, 0.0, 1.0, None], texts)
    found = changed(series("student", [1.0] * 5), after, injected="banana")
    assert (found.n, found.obeyed) == (4, 2)
    none = changed(series("student", [1.0]), turned([1.0]), injected="banana")
    assert none.obeyed == 0


def test_order_and_repeats_change_nothing():
    clean, after = series("student", [1.0, 0.0] * 10), turned([0.0, 0.0, 1.0, 1.0] * 5)
    assert changed(clean, after) == changed(clean[::-1] + clean[:3], after[::-1] + after[:3])
