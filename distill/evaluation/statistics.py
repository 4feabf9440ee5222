"""Test paired differences, adjust p-values for many tests, and resample statistics over items.

Intervals of means, differences and ratios are in `intervals`; the bootstrap here (Efron and
Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13) is for what is none of these.
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
Z = 1.959963984540054
"""The normal quantile of a two-sided interval of this level."""
MIN_ITEMS = 10
"""Below so many items no significance is claimed."""
EXACT_ITEMS = 13
"""Up to so many items a permutation test counts all signs."""
FLIPS = 19_999
"""Random signs of a permutation test with more items."""

Groups = Sequence[str] | Sequence[int]
"""The group of each item, such as its passage."""


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
    groups: Groups | None = None,
) -> Interval:
    """Percentile interval of a statistic of item-wise paired samples.

    `statistic` takes arrays and `axis`, and goes by their means. Where a resample has no value
    (0/0) it does not count. Items of one of the `groups` are drawn together. One item (or
    group) alone says nothing, so its interval is the `widest` there can be. Where no resample
    differs, what was never seen may still be as frequent as Wilson's upper limit of 0 of n, and
    lie at either end of the `widest`.
    """
    import numpy as np

    data = [group_values(sample, groups) for sample in samples]
    items = len(data[0])
    value = float(statistic(*data, axis=-1))
    if items < 2:
        return Interval(value, *widest)
    draws = _held_draws(items, seed) if items <= _CACHED_ITEMS else _draw(items, seed)
    resampled = [statistic(*(sample[drawn] for sample in data), axis=-1) for drawn in draws]
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(np.concatenate(resampled), [tail, 100 - tail])
    if high - low < 1e-12:
        unseen = Z**2 / (items + Z**2)
        low, high = (value + unseen * (end - value) for end in widest)
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


def is_grouped(groups: Groups | None) -> bool:
    """Whether any two items are of one group."""
    return groups is not None and len(set(groups)) < len(groups)


def group_values(values: Sequence[float], groups: Groups | None) -> Any:
    """One value for each group, whose mean is that of the items; the items' own without groups.

    A group's value is its part in the mean: the mean, plus the sum of its items' distances from
    it times groups / items. Of groups of equal sizes it is the mean of its items.
    """
    import numpy as np

    items = np.asarray(values, dtype=float)
    if groups is None or not is_grouped(groups):
        return items
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    middle = items.mean()
    sums = np.bincount(group_of, items - middle)
    return middle + sums * len(sums) / len(items)


def permutation_p_value(
    differences: Sequence[float], groups: Groups | None = None, seed: int = 0
) -> float:
    """Two-sided p-value of a paired permutation test of the mean.

    Were the two contestants alike, each difference could as well have the other sign (Fisher
    1935, section 21): p is the share of all signs for which the sum is as far from zero. All
    signs are counted up to 13 differences, else 19,999 random ones and the observed ones
    (Phipson and Smyth 2010). Of differences of one size, as of 0/1 grades, it is the exact
    binomial test of wins against losses (McNemar 1947). Items of one of the `groups` change
    their signs together.
    """
    import numpy as np

    sums = np.asarray(differences, dtype=float)
    if groups is not None and is_grouped(groups):
        sums = np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], sums)
    unequal = sums[abs(sums) > 1e-9]
    sizes = np.sort(abs(unequal))
    if not len(sizes) or sizes[-1] - sizes[0] < 1e-9:
        wins = int((unequal > 0).sum())
        return sign_test_p_value(wins, len(unequal) - wins)
    observed = abs(unequal.sum()) - 1e-9 * sizes.sum()  # less than rounding can take away
    if len(sizes) <= EXACT_ITEMS:
        signs = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float((abs((2 * signs - 1) @ sizes) >= observed).mean())
    rng = np.random.default_rng(seed)
    as_far = 0
    for start in range(0, FLIPS, _BATCH):
        draws = min(_BATCH, FLIPS - start)
        flips = np.unpackbits(rng.integers(0, 256, (draws, len(sizes) // 8 + 1), np.uint8), axis=1)
        as_far += int((abs(2 * (flips[:, : len(sizes)] @ sizes) - sizes.sum()) >= observed).sum())
    return (as_far + 1) / (FLIPS + 1)


def sign_test_p_value(wins: int, losses: int) -> float:
    """Two-sided exact binomial p-value of wins against losses; McNemar's (1947) for 0/1 grades."""
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


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
