"""Compute confidence intervals over items and p-values corrected for many tests.

Intervals are 95 % percentile bootstrap intervals over items (Efron and Tibshirani,
*An Introduction to the Bootstrap*, 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

RESAMPLES = 10_000
_BATCH = 500
"""Resamples that are in memory at once, unless the items are few."""
_CACHED_ITEMS = 1_000
"""Up to so many items the draws are held for the next interval (80 MB at the most)."""
LEVEL = 0.95
MIN_ITEMS = 10
"""Below so many items no significance is claimed."""
EXACT_ITEMS = 13
"""Up to so many items a signed-rank test counts all signs, as scipy's does."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval, in units of the value."""

    value: float
    low: float
    high: float

    def negated(self) -> Interval:
        """The interval of the difference taken the other way round."""
        return Interval(-self.value, -self.high, -self.low)


def bootstrap(
    samples: Sequence[Sequence[float]],
    statistic: Callable[..., Any],
    seed: int = 0,
    widest: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Percentile interval of a statistic of item-wise paired samples.

    `statistic` takes arrays and `axis`. Where a resample has no value (0/0) it does not
    count. One item alone says nothing, so its interval is the `widest` there can be.
    """
    import numpy as np

    data = [np.asarray(sample, dtype=float) for sample in samples]
    items = len(data[0])
    value = float(statistic(*data, axis=-1))
    if items < 2:
        return Interval(value, *widest)
    draws = _held_draws(items, seed) if items <= _CACHED_ITEMS else _draw(items, seed)
    resampled = [statistic(*(sample[drawn] for sample in data), axis=-1) for drawn in draws]
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(np.concatenate(resampled), [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def _draw(items: int, seed: int) -> Iterator[Any]:
    """Item indices of the resamples, (_BATCH, items) at a time.

    The same as those of `scipy.stats.bootstrap(batch=500, rng=default_rng(seed))`. A report has
    some hundred intervals over the same items, and scipy draws anew for each of them.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES // _BATCH):
        yield rng.integers(0, items, (_BATCH, items))


@lru_cache(maxsize=1)
def _held_draws(items: int, seed: int) -> Iterable[Any]:
    return list(_draw(items, seed))


def sign_test_p_value(wins: int, losses: int) -> float:
    """Two-sided exact binomial p-value of wins against losses; McNemar's (1947) for 0/1 grades."""
    from scipy import stats

    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def signed_rank_p_value(differences: Any) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (1945); zeros are left out.

    The same as `scipy.stats.wilcoxon`, which for few items with ties evaluates the statistic
    in Python once for each of the 2^n signs: here they are one matrix product.
    """
    import numpy as np
    from scipy import stats

    unequal = np.asarray(differences, dtype=float)
    unequal = unequal[unequal != 0]
    if not len(unequal):
        return 1.0
    if len(differences) > EXACT_ITEMS:
        return float(stats.wilcoxon(differences).pvalue)
    ranks = stats.rankdata(abs(unequal))
    signs = np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks)) & 1
    sums, observed = signs @ ranks, ranks[unequal > 0].sum()
    return float(min(1.0, 2 * min((sums >= observed).mean(), (sums <= observed).mean())))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in their order (Holm 1979, step-down)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def mean(sample: Any, axis: int = -1) -> Any:
    """The mean of a sample."""
    return sample.mean(axis=axis)


def mean_difference(left: Any, right: Any, axis: int = -1) -> Any:
    """The mean of left minus right."""
    return (left - right).mean(axis=axis)


def _divided(above: Any, below: Any) -> Any:
    import numpy as np

    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 1e-12)


def ratio_of_means(left: Any, right: Any, axis: int = -1) -> Any:
    """Left's mean over right's; NaN where right's is zero."""
    return _divided(left.mean(axis=axis), right.mean(axis=axis))


def share_of_gap(student: Any, base: Any, teacher: Any, axis: int = -1) -> Any:
    """(student - base) / (teacher - base), of means; NaN where there is no gap."""
    return _divided((student - base).mean(axis=axis), (teacher - base).mean(axis=axis))
