"""Figures of a scorer: against pair counts and by hand, undefined ones with their reason."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.audit.roc import POINTS, measure

CASES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0]), st.booleans()))


def pairs_won(values, labels, good):
    sign = 1 if good else -1
    best = [sign * v for v, label in zip(values, labels, strict=True) if label]
    worst = [sign * v for v, label in zip(values, labels, strict=True) if not label]
    if not best or not worst:
        return None
    return sum((a > b) + (a == b) / 2 for a in best for b in worst) / (len(best) * len(worst))


@settings(deadline=None)
@given(CASES, st.sampled_from([True, False]))
def test_auc_is_the_share_of_pairs_won(cases, good):
    values, labels = [v for v, _ in cases], [label for _, label in cases]
    found = measure(values, labels, good)
    wanted = pairs_won(values, labels, good)
    if wanted is None:
        assert found.auc is None
        assert found.why["auc"]
        assert found.roc == []
    else:
        assert found.auc == pytest.approx(wanted)
        assert 0 <= found.auc_low <= found.auc <= found.auc_high <= 1
        assert found.auc_low < found.auc_high
        assert np.trapezoid([y for _, y in found.roc], [x for x, _ in found.roc]) == pytest.approx(
            wanted
        )


@settings(deadline=None)
@given(CASES, st.sampled_from([True, False]), st.sampled_from([0.0, 0.25, 0.3, 1.0]))
def test_the_cut_at_a_bound_is_what_the_gate_does(cases, good, bound):
    values, labels = [v for v, _ in cases], [label for _, label in cases]
    found = measure(values, labels, good, bound)
    kept = [
        label
        for value, label in zip(values, labels, strict=True)
        if (value >= bound if good else value <= bound)
    ]
    if not values:
        assert found.at_gate is None
        return
    assert found.at_gate.threshold == bound
    assert found.at_gate.kept == pytest.approx(len(kept) / len(values))
    assert found.at_gate.precision == (pytest.approx(sum(kept) / len(kept)) if kept else None)
    assert found.at_gate.recall == (pytest.approx(sum(kept) / sum(labels)) if any(labels) else None)


@settings(deadline=None)
@given(CASES, st.sampled_from([True, False]))
def test_no_threshold_does_better_than_the_best(cases, good):
    values, labels = [v for v, _ in cases], [label for _, label in cases]
    found = measure(values, labels, good)
    cuts = [measure(values, labels, good, bound).at_gate for bound in set(values)]
    if any(labels):
        assert found.best_f1.f1 == pytest.approx(max(cut.f1 for cut in cuts))
    for least, cut in found.supported.items():
        able = [c for c in cuts if c.precision is not None and c.precision >= float(least)]
        recalls = [c.recall for c in able if c.recall is not None]
        assert (cut.recall if cut else None) == (max(recalls) if recalls else None)
        assert cut is None or cut == measure(values, labels, good, cut.threshold).at_gate


def test_bins_by_hand():
    values = [0.0, 0.05, 0.1, 0.15, 0.9, 0.95, 1.0]
    labels = [False, False, True, False, True, False, True]
    found = measure(values, labels, True)
    assert [(round(b.mean, 4), round(b.observed, 4), b.count) for b in found.bins] == [
        (0.05, 0.3333, 3),  # 0 and the upper edge 0.1 lie in the first bin
        (0.15, 0.0, 1),
        (0.9, 1.0, 1),
        (0.975, 0.5, 2),
    ]
    wanted = (3 * (1 / 3 - 0.05) + 0.15 + 0.1 + 2 * 0.475) / 7
    assert found.ece == pytest.approx(wanted)
    brier = np.mean([(v - y) ** 2 for v, y in zip(values, labels, strict=True)])
    assert found.brier == pytest.approx(brier)


def test_where_low_is_good_a_value_speaks_of_the_bad():
    found = measure([0.9, 0.9, 0.1, 0.1], [False, False, True, True], False, 0.5)
    assert found.auc == 1.0
    assert [(b.mean, b.observed) for b in found.bins] == [(0.1, 0.0), (0.9, 1.0)]
    assert found.ece == pytest.approx(0.1)
    assert (found.at_gate.precision, found.at_gate.recall) == (1.0, 1.0)


def test_delong_by_hand():
    # Good 3, 1; bad 2, 0: shares beaten 1 and 1/2 on either side, so AUC 3/4, variance 1/8.
    found = measure([3, 1, 2, 0], [True, True, False, False], True)
    half = 1.959964 * math.sqrt(1 / 8) / (0.75 * 0.25)
    assert found.auc == 0.75
    assert found.auc_low == pytest.approx(1 / (1 + math.exp(half - math.log(3))), abs=1e-6)
    assert found.auc_high == pytest.approx(1 / (1 + math.exp(-half - math.log(3))), abs=1e-6)
    assert found.why["ece"] == "the values are not all in 0..1"


def test_the_interval_covers_the_true_area():
    """Two normals one deviation apart: the area is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(300):
        values = np.concatenate([rng.normal(1, 1, 60), rng.normal(0, 1, 40)])
        found = measure(list(values), [True] * 60 + [False] * 40, True)
        hits += found.auc_low <= 0.760250 <= found.auc_high
    assert 0.91 <= hits / 300 <= 0.985


def test_perfect_separation_is_not_certainty():
    few = measure([1, 1, 0, 0], [True, True, False, False], True)
    many = measure([1] * 500 + [0] * 500, [True] * 500 + [False] * 500, True)
    assert few.auc == many.auc == 1.0
    assert few.auc_low < 0.6 < 0.99 < many.auc_low < many.auc_high == 1.0


def test_abstentions_are_counted_and_left_out():
    values = [None, math.nan, math.inf, 0.9, 0.2]
    found = measure(values, [True, False, True, True, False], True, 0.5)
    assert (found.n, found.positives, found.abstained, found.abstained_positives) == (5, 3, 3, 2)
    assert found.coverage == pytest.approx(0.4)
    assert (found.auc, found.at_gate.precision, found.at_gate.kept) == (1.0, 1.0, 0.5)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_has_reasons_instead_of_figures(label):
    found = measure([0.2, 0.8], [label, label], True)
    assert found.auc is None
    assert ("good" if label else "bad") in found.why["auc"]
    assert found.why["at_gate"] == "the gate has no bound on it"
    assert found.bins
    assert (found.best_f1 is None) == ("best_f1" in found.why) == (not label)


def test_nothing_at_all():
    for found in (measure([], [], False), measure([None, None], [True, False], False, 0.5)):
        assert (found.auc, found.at_gate, found.best_f1, found.ece, found.roc) == (
            None, None, None, None, [],
        )  # fmt: skip
        assert set(found.why) == {"auc", "at_gate", "best_f1", "supported", "ece"}


def test_a_curve_is_thinned_out_from_end_to_end():
    rng = np.random.default_rng(1)
    found = measure(list(rng.random(5000)), list(rng.random(5000) < 0.5), True)
    assert len(found.roc) <= POINTS
    assert (found.roc[0], found.roc[-1]) == ([0.0, 0.0], [1.0, 1.0])
    assert found.roc == sorted(found.roc)


def test_figures_are_json():
    found = asdict(measure([0.1, None, 0.9], [False, True, True], True, 0.5))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_can_not_be_measured_is_refused():
    with pytest.raises(ValueError, match="2 values for 1 labels"):
        measure([1, 2], [True], True)
