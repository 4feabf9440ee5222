"""Intervals against published values, and how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from distill.evaluation.intervals import (
    CHANGE,
    bounded_interval,
    difference_interval,
    mean_interval,
    ratio_interval,
    standard_error,
)
from distill.evaluation.statistics import Interval
from tests.bench import coverage

grades = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=60)


def right(number, n):
    return [1.0] * number + [0.0] * (n - number)


def test_a_share_of_many_items_has_wilsons_interval():
    interval = mean_interval(right(300, 1_000))
    wilson = stats.binomtest(300, 1_000).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx(tuple(wilson), abs=2e-4)


def test_a_paired_difference_of_many_items_has_the_interval_of_bonett_and_price():
    left, other = right(130, 1_000), [0.0] * 100 + right(60, 900)  # 100 wins, 30 losses
    interval = difference_interval(left, other)
    wins, losses, n = 101 / 1_002, 31 / 1_002, 1_002
    half = 1.959964 * ((wins + losses - (wins - losses) ** 2) / n) ** 0.5
    assert interval.value == pytest.approx(0.07)
    assert interval.low == pytest.approx(wins - losses - half, abs=1e-4)
    assert interval.high == pytest.approx(wins - losses + half, abs=1e-4)


@given(left=grades, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_interval_has_a_width_its_value_inside_and_mirrors(left, seed):
    other = np.random.default_rng(seed).permutation(left).tolist()
    groups = [str(number // 2) for number in range(len(left))]
    for by in (None, groups):
        share, change = mean_interval(left, by), difference_interval(left, other, by)
        assert 0 <= share.low <= share.value <= share.high <= 1 and share.low < share.high
        assert -1 <= change.low <= change.value <= change.high <= 1 and change.low < change.high
        wrong = mean_interval([1 - grade for grade in left], by)
        assert (wrong.low, wrong.high) == pytest.approx((1 - share.high, 1 - share.low))
        back = difference_interval(other, left, by).negated()
        assert (back.low, back.high) == pytest.approx((change.low, change.high))


def test_all_alike_is_not_certain():
    assert mean_interval(right(20, 20)) == Interval(1.0, pytest.approx(0.82, abs=0.01), 1.0)
    assert mean_interval([0.4] * 20).low < 0.4 < mean_interval([0.4] * 20).high
    none = difference_interval(right(7, 2_000), right(7, 2_000))
    assert none.low == -none.high == pytest.approx(-0.0014, abs=1e-4)
    assert standard_error([0.0] * 50, CHANGE) > 0
    assert mean_interval([1.0]) == Interval(1.0, 0.0, 1.0)
    assert difference_interval([1.0], [0.0]) == Interval(1.0, -1.0, 1.0)


def test_items_of_one_passage_count_as_one():
    """Five copies of each of 24 items say no more than the 24 items."""
    items = right(9, 24)
    once = bounded_interval(items, (0.0, 1.0))
    copies = mean_interval(items * 5, [str(n) for n in range(24)] * 5)
    assert (copies.value, copies.low, copies.high) == pytest.approx(
        (once.value, once.low, once.high)
    )
    alone = mean_interval(items * 5)
    assert alone.high - alone.low < 0.6 * (copies.high - copies.low)
    assert mean_interval(items * 5, ["one"] * 120) == Interval(0.375, 0.0, 1.0)
    own = [str(n) for n in range(24)]
    assert mean_interval(items, own) == mean_interval(items)


def test_a_ratio_holds_what_fieller_holds():
    """Each end is a ratio at which the mean of above - r * below is just clearly other than zero."""
    above, below = right(50, 100), right(80, 100)
    interval = ratio_interval(above, below, [(1, 0), (0, 1)])
    assert interval.value == pytest.approx(0.625)
    for end in (interval.low, interval.high):
        rest = np.array([*above, 1, 0]) - end * np.array([*below, 0, 1])
        t = rest.mean() / (rest.std() / len(rest) ** 0.5)
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 99), rel=1e-6)
    assert ratio_interval(above, right(1, 100), [(1, 0), (0, 1)]) is None
    assert ratio_interval(above, [0.0] * 100, [(1, 0), (0, 1)]) is None


@pytest.mark.parametrize("n", [10, 20, 60, 120, 500])
def test_95_percent_of_shares_are_held(n):
    """Exact; also between the shares of the table, where Wilson's own interval falls to 84 %."""
    for share in (*coverage.SHARES, *np.linspace(0.0005, 0.1, 60), 0.2, 0.4):
        assert coverage.proportion(n, share) > 0.927, share


@pytest.mark.parametrize("n", [10, 20, 60])
def test_95_percent_of_paired_differences_are_held(n):
    for wins, losses in coverage.PAIRS:
        assert coverage.paired(n, wins, losses) > 0.93, (wins, losses)


@pytest.mark.parametrize("n", [20, 60, 120])
def test_95_percent_are_held_of_grades_between_and_of_items_of_one_passage(n):
    """1,000 draws: three standard errors are 0.02."""
    draws = 1_000
    assert coverage.f1_mean(n, 0.1, draws) > 0.93
    assert coverage.f1_paired(n, 0.1, 0.02, draws) > 0.93
    assert coverage.mean_in_fives(n, 0.3, draws) > 0.93
    assert coverage.paired_in_fives(n, 0.3, 0.1, draws) > 0.93
    assert coverage.ratio(n, (0.3, 0.5), draws) > 0.93
    assert coverage.ratio(n, (0.6, 0.1, 0.9), draws) > 0.93


def test_the_same_items_taken_for_independent_are_not_held():
    """A negative control of the simulation."""

    def draw(rng):
        outcome = coverage.shares_in_fives(rng, 120, (0.3, 0.7))
        return mean_interval((outcome == 0).astype(float).tolist())

    assert coverage.simulated(draw, 0.3, 500) < 0.85
    assert coverage.proportion(20, 0.02, coverage.percentile_bootstrap) < 0.5


@pytest.mark.parametrize(("kind", "share"), [("0/1", 0.3), ("fives", 0.3), ("F1-like", 0.3)])
def test_equal_contestants_are_called_different_in_one_case_of_twenty_at_most(kind, share):
    """600 draws: three standard errors are 0.027."""
    assert coverage.called_clear(kind, 60, share, 600) < 0.05 + 0.027


def test_divisors_and_degrees_of_freedom_are_those_that_the_docs_name():
    """The table of docs/evaluation.md, "What the intervals cover", computed by its words."""
    scores = [0.0, 0.25, 1.0, 0.5, 1.0, 0.75, 0.0, 0.5, 1.0, 0.5, 0.25, 1.0]
    n = len(scores)

    def half_width(values, ends, freedom):
        more = np.array([*values, *ends])
        variance = ((more - more.mean()) ** 2).sum() / (len(values) + 2)
        return more.mean(), stats.t.ppf(0.975, freedom) * math.sqrt(variance / (len(values) + 2))

    centre, half = half_width(scores, (0, 1), n - 1)
    found = mean_interval(scores)
    assert (found.low, found.high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    passages = [str(item // 3) for item in range(n)]
    middle, m = sum(scores) / n, len(set(passages))
    sums = [sum(scores[3 * p : 3 * p + 3]) - 3 * middle for p in range(m)]
    centre, half = half_width([middle + s * m / n for s in sums], (0, 1), m - 1)
    found = mean_interval(scores, passages)
    assert found.low == pytest.approx(max(0, centre - half))
    assert found.high == pytest.approx(min(1, centre + half))
    few, n, t = 2, 20, stats.t.ppf(0.975, 19)
    share = few / n
    root = t * math.sqrt(share * (1 - share) / n + t**2 / (4 * n**2))
    found = mean_interval(right(few, n))
    assert found.high == pytest.approx((share + t**2 / (2 * n) + root) / (1 + t**2 / n))
    assert found.low == pytest.approx(stats.chi2.ppf(0.05, 2 * few) / 2 / n)
