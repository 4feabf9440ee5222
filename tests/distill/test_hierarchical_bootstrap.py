"""Intervals over training seeds and items."""

from __future__ import annotations

import numpy as np
import pytest

from distill.evaluation import hierarchical_bootstrap as module
from distill.evaluation.hierarchical_bootstrap import hierarchical_bootstrap


def planted(rng, n=60, seeds=3, spread=0.5, rate=0.3):
    """Items of unequal difficulty, a base, and students as good on average whose seeds differ."""
    ease = np.log(rate / (1 - rate)) + rng.normal(0, 1.5, n)
    of_seed = rng.normal(0, spread, (seeds, 1))
    drawn = rng.random((seeds, n)) < 1 / (1 + np.exp(-(ease + of_seed)))
    base = rng.random((1, n)) < 1 / (1 + np.exp(-ease))
    return drawn.astype(float), base.astype(float)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("n", [20, 120])
def test_students_as_good_as_the_base_are_seldom_told_apart(monkeypatch, n, spread):
    monkeypatch.setattr(module, "RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    found = [hierarchical_bootstrap(*planted(rng, n, spread=spread)) for _ in range(200)]
    apart = sum(f.interval.low > 0 or f.interval.high < 0 for f in found)
    assert apart <= 20  # 7 % of 200 are 14; three standard errors more
    assert sum(f.p_value < 0.05 for f in found) <= 20


def test_seeds_that_differ_widen_the_interval():
    alike = [[1.0, 0.0] * 30] * 3
    differing = [[1.0, 0.0] * 30, [1.0, 1.0] * 30, [0.0, 0.0] * 30]
    narrow, wide = (hierarchical_bootstrap(fits).interval for fits in (alike, differing))
    assert narrow.value == pytest.approx(0.5) and wide.value == pytest.approx(0.5)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    more = hierarchical_bootstrap(differing * 3).interval
    assert more.high - more.low < wide.high - wide.low


def test_one_fit_varies_by_its_items_alone():
    grades = [[float(n % 3 == 0) for n in range(60)]]
    once = hierarchical_bootstrap(grades).interval
    thrice = hierarchical_bootstrap(grades * 3).interval
    assert (once.low, once.high) == (thrice.low, thrice.high)


def test_what_all_agree_on_has_a_width():
    same = hierarchical_bootstrap([[1.0] * 60] * 3, [[1.0] * 60])
    assert same.interval.value == 0.0 and same.interval.low < 0 < same.interval.high
    assert same.p_value > 0.5
    full = hierarchical_bootstrap([[1.0] * 20] * 3, bounds=(0.0, 1.0)).interval
    assert full.value == full.high == 1.0 and full.low < 0.95


def test_a_clear_difference_is_found_and_turns_with_its_sign():
    better, worse = [[1.0] * 40] * 3, [[0.0] * 40]
    ahead, behind = hierarchical_bootstrap(better, worse), hierarchical_bootstrap(worse, better)
    assert ahead.interval.low > 0.8 and ahead.p_value < 0.001
    assert behind.interval.high < -0.8 and behind.p_value < 0.001


@pytest.mark.parametrize(
    ("fits", "against"), [([], []), ([[]], []), ([[1.0, 0.0]], [[1.0]]), ([1.0, 0.0], [])]
)
def test_tables_that_do_not_fit_are_refused(fits, against):
    with pytest.raises(ValueError, match="grades"):
        hierarchical_bootstrap(fits, against)
