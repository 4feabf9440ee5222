"""The signed-rank test and the bootstrap against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distill.evaluation.statistics import (
    RESAMPLES,
    bootstrap,
    mean,
    mean_difference,
    share_of_gap,
    signed_rank_p_value,
)


@pytest.mark.parametrize("number", [1, 5, 7, 14, 60])
@pytest.mark.parametrize("values", [4, 10_000])  # with ties and zeros, and hardly any
def test_the_signed_rank_test_gives_scipys_p_values(number, values):
    rng = np.random.default_rng(number)
    for _ in range(3):
        differences = rng.integers(-values, 2 * values, number) / 8
        differences[0] = 1.0  # scipy has no value where all are zero
        expected = stats.wilcoxon(differences).pvalue
        assert signed_rank_p_value(differences) == pytest.approx(expected, rel=1e-12)


def test_equal_samples_do_not_differ():
    assert signed_rank_p_value([0.0, 0.0, 0.0]) == 1.0


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
