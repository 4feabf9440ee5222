"""Population stability and shares: no alarm by chance, and one where data did change."""

from __future__ import annotations

import numpy as np
import pytest

from distill.evaluation.drift import ALARMS, drift_of_shares, drift_of_values, drifts_of, psi_of


@pytest.mark.parametrize(
    "draw",
    [
        lambda chance, n: chance.lognormal(3, 1, n),
        lambda chance, n: chance.integers(0, 4, n).astype(float),
        lambda chance, n: np.where(chance.random(n) < 0.9, 1.0, chance.random(n)),
    ],
    ids=["continuous", "few values", "nearly constant"],
)
@pytest.mark.parametrize("n", [30, 400])
def test_of_one_distribution_no_more_alarms_than_allowed(draw, n):
    chance = np.random.default_rng(7)
    alpha, tries = 0.01, 1500
    alarms = sum(
        drift_of_values("x", draw(chance, 1000), draw(chance, n), 1e-9, alpha).beyond
        for _ in range(tries)
    )
    assert alarms / tries < 3 * alpha


def test_shares_of_one_distribution_give_no_more_alarms_than_allowed():
    chance = np.random.default_rng(8)
    tries = 1000
    alarms = sum(
        drift_of_shares("x", chance.random(500) < 0.1, chance.random(60) < 0.1, 1e-9, 0.01).beyond
        for _ in range(tries)
    )
    assert alarms / tries <= 0.015


def test_a_shift_is_found_and_a_small_one_is_not_called_drift():
    chance = np.random.default_rng(9)
    before, now = chance.normal(0, 1, 2000), chance.normal(1, 1, 100)
    found = drift_of_values("length", before, now, 0.25, ALARMS)
    assert found.beyond and found.size > 0.25
    small = drift_of_values("length", before, chance.normal(0.1, 1, 2000), 0.25, ALARMS)
    assert not small.beyond


def test_equal_data_has_no_distance_and_the_index_is_that_of_its_definition():
    values = np.arange(1000.0)
    assert psi_of(values, values)[0] == 0
    before, now = np.repeat([0.0, 1.0], [500, 500]), np.repeat([0.0, 1.0], [200, 800])
    expected = (0.5 - 0.2) * np.log(0.5 / 0.2) + (0.5 - 0.8) * np.log(0.5 / 0.8)
    assert psi_of(before, now)[0] == pytest.approx(expected)


def test_constant_and_few_values_are_compared_safely():
    ones = np.ones(100)
    assert not drift_of_values("x", ones, ones, 0.25, ALARMS).beyond
    assert drift_of_values("x", ones, np.zeros(100), 0.25, ALARMS).beyond
    found = drifts_of({"a": ones, "b": ones[:5]}, {"a": ones, "b": ones}, 0.25, 0.15, 30)
    assert [each.feature for each in found] == ["a"]


def test_a_share_must_differ_by_size_and_beyond_chance():
    before = np.arange(1000) < 20
    assert drift_of_shares("refused", before, np.arange(50) < 25, 0.15, ALARMS).beyond
    assert not drift_of_shares("refused", before, np.arange(5000) < 400, 0.15, ALARMS).beyond
    assert not drift_of_shares("refused", before, np.arange(5) < 1, 0.15, ALARMS).beyond
