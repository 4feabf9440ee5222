"""Measure how well a contestant's confidence matches its accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.comparison import answers_by_contestant
from distill.evaluation.statistics import LEVEL, Interval, bootstrap
from warehouse.records import Answer

FEWEST = 10
"""Least number of answers with a confidence."""
ROUNDING = 1e-5
"""Tolerance of a probability above 1."""
DRAWS = 2000
"""Simulations of calibrated answers, whose error is due to chance."""
RIGHT = 0.5
"""Grade from which an answer counts as right in the AUROC."""


@dataclass(frozen=True)
class ConfidenceBin:
    """Answers of like confidence."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean confidence of the bin."""
    accuracy: float
    """Mean headline grade of the bin."""


@dataclass(frozen=True)
class Calibration:
    """Confidence against grades of one contestant on one benchmark."""

    benchmark: str
    contestant: str
    n: int
    ece: Interval
    """Expected calibration error, 0..1."""
    brier: float
    auroc: float | None
    """How well confidence orders right before wrong answers; None where all are alike."""
    bins: list[ConfidenceBin]


def measure_calibration(
    benchmark: str,
    contestant: str,
    answers: Sequence[Answer],
    headline: str,
    bins: int = 10,
    seed: int = 0,
    group_of: Mapping[str, str] | None = None,
) -> Calibration | None:
    """Hold a contestant's confidence (`details["confidence"]`) against its grades.

    Expected calibration error over bins of equal width, ((m - 1)/M, m/M] (Guo et al., On
    Calibration of Modern Neural Networks, 2017, section 2), as in `quality.audit.roc`: equal
    masses would follow the answers drawn, and could not be laid beside another contestant's.
    Binned, it comes out too large, the more so the fewer the answers (Kumar et al., Verified
    Uncertainty Calibration, 2019), and resampling adds as much again. So the interval is the
    basic bootstrap's, the percentiles mirrored at the value (Davison and Hinkley 1997, section
    5.2), and it begins at 0 wherever calibrated answers of the same confidence would show so
    large an error by chance (consistency resampling: Broecker and Smith 2007).
    Brier score: mean squared distance of confidence and grade (Brier 1950).

    Args:
        benchmark: Its name.
        contestant: Its answers are used; others are ignored.
        answers: To this benchmark; the order does not matter, nor an answer given twice.
        headline: The metric, in 0..1; answers without a grade in it do not count.
        bins: Number of bins; empty ones are left out of the result.
        seed: Of the bootstrap.
        group_of: Item -> its passage, where several items are of one.

    Returns:
        None where fewer than ten answers have both a grade and a confidence.

    Raises:
        ValueError: a confidence is not in 0..1.
    """
    import numpy as np

    own_answers = answers_by_contestant(answers).get(contestant, {})
    known = {
        item_id: (float(value), float(grade))
        for item_id, answer in own_answers.items()
        if (value := (answer.details or {}).get("confidence")) is not None
        and (grade := answer.grades.get(headline)) is not None
    }
    if len(known) < FEWEST:
        return None
    confidence, grades = np.array(list(known.values())).T
    groups = [(group_of or {}).get(item_id, item_id) for item_id in known]
    if not (np.abs(confidence - 0.5) <= 0.5 + ROUNDING).all():
        raise ValueError(f"a confidence of {contestant} on {benchmark} is not in 0..1")
    confidence = np.clip(confidence, 0.0, 1.0)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return Calibration(
        benchmark=benchmark,
        contestant=contestant,
        n=len(known),
        ece=_ece(confidence, grades, bin_of, seed, groups),
        brier=float(((confidence - grades) ** 2).mean()),
        auroc=_auroc(confidence, grades >= RIGHT),
        bins=[
            ConfidenceBin(
                low=number / bins,
                high=(number + 1) / bins,
                n=int(in_bin.sum()),
                confidence=float(confidence[in_bin].mean()),
                accuracy=float(grades[in_bin].mean()),
            )
            for number in range(bins)
            if (in_bin := bin_of == number).any()
        ],
    )


def _ece(confidence: Any, grades: Any, bin_of: Any, seed: int, groups: Sequence[str]) -> Interval:
    """Of confidence minus grade, by bin: the mean of each, without sign, weighted by its size."""
    import numpy as np

    membership = (bin_of[:, None] == np.unique(bin_of)).astype(float)
    excess = (confidence - grades)[:, None] * membership
    estimate = bootstrap([*excess.T], _sum_of_sizes, seed, groups=groups)
    low, high = 2 * estimate.value - estimate.high, 2 * estimate.value - estimate.low
    if estimate.value <= _by_chance(confidence, membership, seed):
        low = 0.0
    return Interval(
        estimate.value, max(0.0, min(low, estimate.value)), min(1.0, max(high, estimate.value))
    )


def _by_chance(confidence: Any, membership: Any, seed: int) -> float:
    """The error that calibrated answers of this confidence exceed once in forty draws."""
    import numpy as np

    rng = np.random.default_rng(seed)
    errors = [
        np.abs((confidence - (rng.random(len(confidence)) < confidence)) @ membership).sum()
        for _ in range(DRAWS)
    ]
    return float(np.quantile(errors, 1 - (1 - LEVEL) / 2)) / len(confidence)


def _sum_of_sizes(*by_bin: Any, axis: int = -1) -> Any:
    return sum(abs(excess.mean(axis=axis)) for excess in by_bin)


def _auroc(confidence: Any, right: Any) -> float | None:
    """How often a right answer is surer than a wrong one, ties half (Mann and Whitney 1947)."""
    import numpy as np

    n, m = int(right.sum()), int((~right).sum())
    if not n or not m:
        return None
    _, place, count = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m))
