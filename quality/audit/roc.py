"""Compute how well a scorer's values separate labelled data. Pure: values and labels in.

A label is true where the sample is of the kind that the gate should keep. A figure that cannot
be had (all labels alike, no value at all) is None, and `why` says so; it is never an exception.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POINTS = 100
"""Most points of a ROC curve."""
BINS = 10
"""Bins of the reliability diagram."""
PRECISIONS = (0.9, 0.95)
"""Precisions for which a threshold is looked for."""
_Z = 1.959963984540054  # 95 %, two-sided

_Step = tuple[float, int, int]  # merit as threshold (its high end is good), kept, good among them


@dataclass(frozen=True)
class Cut:
    """What a threshold does: kept is what lies on its good side, the threshold itself included."""

    threshold: float
    precision: float | None
    """Share of the kept that are good; None where nothing is kept."""
    precision_low: float | None
    precision_high: float | None
    """Its 95 % interval (Wilson 1927)."""
    recall: float | None
    """Share of the good that are kept; None where none is good."""
    f1: float | None
    kept: float
    """Share of all that is kept."""


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram."""

    mean: float
    """Mean value."""
    observed: float
    """Share that is of the kind the value speaks of."""
    count: int


@dataclass(frozen=True)
class Figures:
    """What `measure` found; `dataclasses.asdict` makes it JSON-able."""

    n: int
    """Labelled samples."""
    positives: int
    """Those that the gate should keep."""
    abstained: int
    """Those without a value; no other figure counts them."""
    abstained_positives: int
    coverage: float
    """Share of the samples that has a value."""
    higher_is_better: bool
    """Whether high values are the good ones."""
    threshold: float | None
    """The gate's bound."""
    auc: float | None
    """Area under the ROC curve: how often a good sample beats a bad one, ties half."""
    auc_low: float | None
    auc_high: float | None
    roc: list[list[float]]
    """[share of the bad kept, share of the good kept], from nothing kept to all kept."""
    at_gate: Cut | None
    best_f1: Cut | None
    supported: dict[str, Cut | None]
    """Precision -> the threshold that reaches it on these data and keeps most of the good."""
    bins: list[Bin]
    ece: float | None
    """Expected calibration error."""
    brier: float | None
    why: dict[str, str] = field(default_factory=dict)
    """Figure -> why it is None."""


def measure(
    values: Sequence[float | None],
    labels: Sequence[bool],
    higher_is_better: bool,
    threshold: float | None = None,
) -> Figures:
    """Hold a scorer's values against labels.

    AUC with the interval of DeLong et al. (1988) on the logit scale (Pepe 2003, section 5.2);
    where good and bad are wholly apart DeLong's variance is 0, and Newcombe's method 5 (2006)
    takes its place. Reliability, ten bins, and expected calibration error: Guo et al. (2017,
    section 2). A value is read as the probability of its high end: of a good sample where high
    is good, of a bad one where low is good.

    Args:
        values: One for each sample; None or not finite where the scorer abstained.
        labels: Whether the gate should keep the sample.
        higher_is_better: Whether high values are the good ones.
        threshold: The gate's bound, if it has one.

    Raises:
        ValueError: the lengths differ.
    """
    if len(values) != len(labels):
        raise ValueError(f"{len(values)} values for {len(labels)} labels")
    scores = np.array([math.nan if value is None else value for value in values], dtype=float)
    wanted = np.array(labels, dtype=bool)
    rated = np.isfinite(scores)
    value, keep = scores[rated], wanted[rated]
    sign = 1.0 if higher_is_better else -1.0
    why: dict[str, str] = {}
    if not len(value):
        why = dict.fromkeys(
            ("auc", "at_gate", "best_f1", "supported", "ece"), "no sample has a value"
        )
    elif keep.all() or not keep.any():
        why["auc"] = f"every sample with a value is {'good' if keep.all() else 'bad'}"
    if "at_gate" not in why and threshold is None:
        why["at_gate"] = "the gate has no bound on it"
    auc, low, high = _auc(sign * value[keep], sign * value[~keep])
    positives = int(keep.sum())
    steps = _steps(sign * value, keep)

    def cut(step: _Step | None) -> Cut | None:
        return None if step is None else _cut(sign * step[0], *step[1:], positives, len(value))

    supported = {f"{least:g}": cut(_reaching(steps, least)) for least in PRECISIONS}
    if len(value) and not positives:
        why["best_f1"] = why["supported"] = "no sample with a value is good"
    elif len(value) and None in supported.values():
        why["supported"] = "no threshold reaches the precision"
    bins, ece, brier = _reliability(value, keep if higher_is_better else ~keep)
    if ece is None and "ece" not in why:
        why["ece"] = "the values are not all in 0..1"
    return Figures(
        n=len(scores),
        positives=int(wanted.sum()),
        abstained=int((~rated).sum()),
        abstained_positives=int((~rated & wanted).sum()),
        coverage=float(rated.mean()) if len(scores) else 0.0,
        higher_is_better=higher_is_better,
        threshold=threshold,
        auc=auc,
        auc_low=low,
        auc_high=high,
        roc=_roc(steps, positives, len(value) - positives),
        at_gate=cut(_at(threshold, sign, value, keep)),
        best_f1=cut(_best_f1(steps, positives)),
        supported=supported,
        bins=bins,
        ece=ece,
        brier=brier,
        why=why,
    )


def _auc(good: Any, bad: Any) -> tuple[float | None, float | None, float | None]:
    """AUC and its 95 % interval, of values whose high end is the good one."""
    from scipy.special import expit, logit
    from scipy.stats import rankdata

    m, n = len(good), len(bad)
    if not m or not n:
        return None, None, None
    ranks = rankdata(np.concatenate([good, bad]))
    beats = (ranks[:m] - rankdata(good)) / n  # of each good one: the share of bad ones it beats
    loses = 1 - (ranks[m:] - rankdata(bad)) / m
    auc = float(beats.mean())
    variance = sum(part.var(ddof=1) / len(part) for part in (beats, loses) if len(part) > 1)
    if min(m, n) > 1 and 0 < auc < 1 and variance > 0:
        half = _Z * math.sqrt(variance) / (auc * (1 - auc))
        return auc, float(expit(logit(auc) - half)), float(expit(logit(auc) + half))
    return auc, *_newcombe(auc, m, n)


def _newcombe(auc: float, m: int, n: int) -> tuple[float, float]:
    """Newcombe (2006), method 5: the areas whose own standard error reaches the one observed."""
    from scipy.optimize import brentq

    middle = (m + n) / 2

    def beyond(area: float) -> float:
        spread = 1 + (middle - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 - _Z**2 * area * (1 - area) * spread / (m * n)

    tiny = 1e-12
    low = brentq(beyond, tiny, auc - tiny) if auc > 2 * tiny and beyond(tiny) > 0 else 0.0
    above = beyond(1 - tiny) > 0 and auc < 1 - 2 * tiny
    high = brentq(beyond, auc + tiny, 1 - tiny) if above else 1.0
    return float(low), float(high)


def _steps(merit: Any, keep: Any) -> list[_Step]:
    """What every distinct merit keeps as a threshold, strictest first."""
    order = np.argsort(-merit, kind="stable")
    merit, right = merit[order], np.cumsum(keep[order])
    if not len(merit):
        return []
    last = np.flatnonzero(np.append(np.diff(merit) != 0, True))
    return [(float(merit[i]), int(i) + 1, int(right[i])) for i in last]


def _at(threshold: float | None, sign: float, value: Any, keep: Any) -> _Step | None:
    if threshold is None or not len(value):
        return None
    taken = sign * value >= sign * threshold
    return sign * threshold, int(taken.sum()), int((taken & keep).sum())


def _best_f1(steps: Sequence[_Step], positives: int) -> _Step | None:
    if not positives:
        return None
    return max(steps, key=lambda step: 2 * step[2] / (step[1] + positives))


def _reaching(steps: Sequence[_Step], precision: float) -> _Step | None:
    """The strictest of those that keep most of the good at this precision."""
    able = [step for step in steps if step[2] / step[1] >= precision]
    return max(able, key=lambda step: step[2], default=None)


def _cut(threshold: float, kept: int, right: int, positives: int, n: int) -> Cut:
    from scipy.stats import binomtest

    interval = binomtest(right, kept).proportion_ci(method="wilson") if kept else None
    return Cut(
        threshold=threshold + 0.0,  # no -0.0
        precision=right / kept if kept else None,
        precision_low=float(interval.low) if interval else None,
        precision_high=float(interval.high) if interval else None,
        recall=right / positives if positives else None,
        f1=2 * right / (kept + positives) if positives else None,
        kept=kept / n,
    )


def _roc(steps: Sequence[_Step], good: int, bad: int) -> list[list[float]]:
    if not good or not bad:
        return []
    curve = [[0.0, 0.0], *([(kept - right) / bad, right / good] for _, kept, right in steps)]
    taken = np.unique(np.linspace(0, len(curve) - 1, min(POINTS, len(curve))).round().astype(int))
    return [curve[i] for i in taken]


def _reliability(value: Any, outcome: Any) -> tuple[list[Bin], float | None, float | None]:
    """Bins, expected calibration error and Brier score of probabilities."""
    if not len(value) or value.min() < 0 or value.max() > 1:
        return [], None, None
    place = np.clip(np.ceil(value * BINS).astype(int) - 1, 0, BINS - 1)  # ((m - 1)/M, m/M]
    bins = [
        Bin(float(value[here].mean()), float(outcome[here].mean()), int(here.sum()))
        for here in (place == number for number in range(BINS))
        if here.any()
    ]
    ece = sum(bucket.count * abs(bucket.observed - bucket.mean) for bucket in bins) / len(value)
    return bins, ece, float(((value - outcome) ** 2).mean())
