"""The tests and the bootstrap against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from distill.evaluation.statistics import (
    RESAMPLES,
    bootstrap,
    group_values,
    mean,
    mean_difference,
    permutation_p_value,
    sign_test_p_value,
)


def share_of_gap(student, base, teacher, axis=-1):
    return (student - base).mean(axis=axis) / (teacher - base).mean(axis=axis)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (5, 12), (130, 90), (0, 40)])
def test_the_sign_test_gives_scipys_p_values(wins, losses):
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert sign_test_p_value(wins, losses) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("items", [2, 13, 120, 1_100])  # held draws, and drawn anew
@pytest.mark.parametrize(
    ("statistic", "inputs"), [(mean, 1), (mean_difference, 2), (share_of_gap, 3)]
)
def test_an_interval_is_scipys_percentile_interval(items, statistic, inputs):
    rng = np.random.default_rng(items)
    shifts = (1.0, 0.0, 4.0)  # the gap of base and teacher is never zero
    samples = [rng.random(items) + shift for shift in shifts[:inputs]]
    expected = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=500,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = bootstrap(samples, statistic)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert interval.value == pytest.approx(float(statistic(*map(np.asarray, samples))))


@given(wins=st.integers(0, 40), losses=st.integers(0, 40), ties=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_of_0_and_1_the_permutation_test_is_mcnemars(wins, losses, ties):
    gaps = [1.0] * wins + [-1.0] * losses + [0.0] * ties
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert permutation_p_value(gaps) == pytest.approx(expected)
    assert permutation_p_value([gap / 3 for gap in gaps]) == pytest.approx(expected)


@pytest.mark.parametrize("number", [2, 7, 13, 14, 60, 400])
def test_the_permutation_test_gives_scipys_p_values(number):
    rng = np.random.default_rng(number)
    gaps = rng.integers(-10, 13, number) / 10
    expected = stats.permutation_test(
        (gaps, np.zeros(number)),
        mean_difference,
        permutation_type="samples",
        n_resamples=np.inf if number <= 13 else 20_000,
        rng=rng,
    ).pvalue
    found = permutation_p_value(gaps)
    assert found == pytest.approx(expected, abs=1e-12 if number <= 13 else 0.015)
    assert permutation_p_value(-gaps[::-1]) == found


def test_a_group_changes_its_signs_as_a_whole():
    gaps = [0.5, 0.2, -0.1, 0.4, 0.3, 0.3]
    assert permutation_p_value(gaps, ["a", "a", "b", "b", "c", "c"]) == 0.25  # 2 of 2^3
    assert permutation_p_value([1.0] * 50, ["one"] * 50) == 1.0
    assert permutation_p_value(gaps, list("abcdef")) == permutation_p_value(gaps)


def test_group_values_have_the_mean_of_the_items():
    values, groups = [1.0, 0.0, 1.0, 1.0, 0.0], ["b", "a", "b", "c", "a"]
    assert group_values(values, groups).mean() == pytest.approx(0.6)
    equal = group_values([1.0, 0.0, 0.0, 0.0], ["a", "a", "b", "b"])
    assert equal.tolist() == [0.5, 0.0]


def test_a_sample_without_spread_is_not_certain():
    interval = bootstrap([[0.5] * 20], mean)
    assert (interval.value, interval.low, interval.high) == pytest.approx(
        (0.5, 0.4194, 0.5806), abs=1e-4
    )
    grouped = bootstrap([[1.0, 0.0] * 30], mean, groups=[str(n // 2) for n in range(60)])
    assert grouped.low < 0.5 < grouped.high  # each passage has one right and one wrong answer
