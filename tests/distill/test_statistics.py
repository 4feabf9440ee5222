"""The signed-rank test against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distill.evaluation.statistics import signed_rank_p_value


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
