"""Confidence against grades, by hand and planted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.calibration import measure_calibration
from quality.audit.roc import measure
from warehouse.records import Answer


def answer(number, confidence, grade, contestant="student"):
    return Answer(
        f"{contestant}-{number}", "b", "1", f"i{number:05}", contestant, contestant, {}, "x",
        {"accuracy": grade}, None, "stop", 1, 1, 0.1, 0.0, "run",
        None if confidence is None else {"confidence": confidence},
    )  # fmt: skip


def found(pairs, **options):
    given_ = [answer(number, *pair) for number, pair in enumerate(pairs)]
    return measure_calibration("b", "student", given_, "accuracy", **options)


def planted(n, shift, seed=3):
    """Right as often as the confidence says, less `shift`."""
    rng = random.Random(seed)
    sure = [rng.uniform(0.5, 1.0) for _ in range(n)]
    return [(one, float(rng.random() < one - shift)) for one in sure]


def test_by_hand():
    told = found([(0.95, 1.0)] * 6 + [(0.95, 0.0)] * 2 + [(0.25, 0.0)] * 2)
    assert told.n == 10
    assert told.ece.value == pytest.approx(0.8 * 0.2 + 0.2 * 0.25)
    assert told.brier == pytest.approx((6 * 0.05**2 + 2 * 0.95**2 + 2 * 0.25**2) / 10)
    assert told.auroc == pytest.approx((6 * 2 + 6 * 2 * 0.5) / (6 * 4))
    low, high = told.bins
    assert (low.low, low.high, low.n, low.accuracy) == (0.2, 0.3, 2, 0.0)
    assert (high.low, high.high, high.n, high.accuracy) == (0.9, 1.0, 8, 0.75)
    assert high.confidence == pytest.approx(0.95)


def test_perfect_calibration_has_almost_no_error_and_its_interval_holds_zero():
    told = found(planted(4000, 0.0))
    assert told.ece.value < 0.02
    assert told.ece.low == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_few_calibrated_answers_are_not_accused(seed):
    told = found(planted(60, 0.0, seed))
    assert told.ece.value > 0.03  # by chance alone
    assert told.ece.low < 0.02


def test_planted_overconfidence_is_found():
    told = found(planted(1000, 0.2))
    assert told.ece.low < 0.2 < told.ece.high
    assert told.ece.low > 0.12
    assert told.ece.value == pytest.approx(0.2, abs=0.04)


def test_confidence_that_orders_and_one_that_does_not():
    assert found([(0.9, 1.0)] * 5 + [(0.1, 0.0)] * 5).auroc == 1.0
    assert found([(0.1, 1.0)] * 5 + [(0.9, 0.0)] * 5).auroc == 0.0
    assert found([(0.5, 1.0)] * 5 + [(0.5, 0.0)] * 5).auroc == 0.5
    assert found([(0.9, 1.0)] * 10).auroc is None
    assert found([(0.9, 0.0)] * 10).auroc is None


def test_what_has_no_grade_or_no_confidence_does_not_count():
    nine = [(0.9, 1.0)] * 9
    assert found(nine) is None
    assert found([*nine, (None, 1.0), (0.9, None)]) is None
    assert found([*nine, (None, 1.0), (0.9, None), (0.0, 0.0)]).n == 10
    others = [answer(number, 0.9, 1.0, "teacher") for number in range(20)]
    assert measure_calibration("b", "student", others, "accuracy") is None


def test_a_confidence_that_is_no_share_is_refused():
    for bad in (1.2, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"student on b is not in 0\.\.1"):
            found([(0.9, 1.0)] * 10 + [(bad, 1.0)])
    assert found([(1.0000002, 1.0)] * 10).bins[0].confidence == 1.0


@given(
    pairs=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=10, max_size=40
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_bounds_order_and_agreement_with_the_scorers_figures(pairs, seed):
    told = found(pairs)
    assert 0 <= told.ece.low <= told.ece.value <= told.ece.high <= 1
    assert sum(one.n for one in told.bins) == told.n == len(pairs)
    assert all(one.low - 1e-9 <= one.confidence <= one.high + 1e-9 for one in told.bins)
    other = measure([sure for sure, _ in pairs], [grade == 1.0 for _, grade in pairs], "high")
    assert told.ece.value == pytest.approx(other.ece)
    assert told.brier == pytest.approx(other.brier)
    assert told.auroc == pytest.approx(other.auc)
    given_ = [answer(number, *pair) for number, pair in enumerate(pairs)]
    random.Random(seed).shuffle(given_)
    assert measure_calibration("b", "student", [*given_, given_[0]], "accuracy") == told


def test_the_interval_covers_the_true_error_about_as_often_as_it_says():
    held = [
        told.ece.low <= 0.2 <= told.ece.high
        for told in (found(planted(300, 0.2, seed)) for seed in range(40))
    ]
    assert np.mean(held) >= 0.85


def test_what_binning_adds_is_taken_off():
    errors = [found(planted(60, 0.2, seed)).ece for seed in range(20)]
    assert np.mean([one.value for one in errors]) > 0.2  # the true error
    middle = np.mean([(one.low + one.high) / 2 for one in errors])
    assert middle < np.mean([one.value for one in errors])
