"""Compute 95 % confidence intervals of means, paired differences and ratios of grades.

None of them has zero width, since twenty right answers of twenty do not make a score certain,
and all of them hold for few items: `python -m tests.bench.coverage` measures how often.

Items of one group (several questions on one passage) are no independent evidence. The mean's
error is that between groups, linearised for groups of unequal sizes (Cochran, *Sampling
Techniques*, 1977, section 11.8), with one degree of freedom less than there are groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.evaluation.statistics import LEVEL, Groups, Interval, group_values, is_grouped

RARE = 3
"""Up to so many right (or wrong) answers the near end of Wilson's interval is Poisson's."""
Ends = tuple[float, float]
"""The least and the greatest value that one item can have."""
SHARE: Ends = (0.0, 1.0)
CHANGE: Ends = (-1.0, 1.0)


def mean_interval(values: Sequence[float], groups: Groups | None = None) -> Interval:
    """The mean of grades in 0..1: Wilson's where each is 0 or 1, else `bounded_interval`.

    Wilson's score interval (1927) with Student's quantile for the normal one, and where at most
    three answers are right (or wrong) with Poisson's limit at the near end (Brown, Cai and
    DasGupta 2001, section 4.1): as it was it holds in 84 % of cases where a share is near 0.

    Args:
        values: At least one grade.
        groups: The group of each; left out, each item is one of its own.
    """
    if is_grouped(groups) or not set(values) <= {0.0, 1.0} or len(values) < 2:
        return bounded_interval(values, SHARE, groups)
    n, right = len(values), int(sum(values))
    low, _ = _wilson(right, n)
    beyond, _ = _wilson(n - right, n)
    return Interval(right / n, low, 1.0 - beyond)


def difference_interval(
    left: Sequence[float], right: Sequence[float], groups: Groups | None = None
) -> Interval:
    """The mean of left minus right, grades in 0..1 of the same items.

    See `bounded_interval`; of 0/1 grades it is the adjusted Wald interval of Bonett and Price
    (2012) with Student's quantile for the normal one.
    """
    gaps = [one - other for one, other in zip(left, right, strict=True)]
    return bounded_interval(gaps, CHANGE, groups)


def bounded_interval(values: Sequence[float], ends: Ends, groups: Groups | None = None) -> Interval:
    """Student's interval of a mean, after one item more was put at either end of what can be.

    The two added items stand for what the sample did not show. Without them the interval of a
    sample whose rare large values are missing is too short, as every bootstrap is; with them it
    is too long for few items.

    Args:
        values: At least one, each within the ends.
        ends: The least and the greatest value that one item can have.
        groups: The group of each; left out, each item is one of its own.
    """
    value = sum(values) / len(values)
    low, high = bounded_limits(group_values(values, groups), ends)
    return Interval(value, min(float(low), value), max(float(high), value))


def bounded_limits(by_group: Any, ends: Ends) -> tuple[Any, Any]:
    """The limits of `bounded_interval` along the last axis of an array.

    Args:
        by_group: One value for each group, see `group_values`; shape (..., groups).
        ends: The least and the greatest value that one item can have.

    Returns:
        The lower and the upper limits, shape (...).
    """
    import numpy as np

    value, number = by_group.mean(axis=-1), by_group.shape[-1]
    if number < 2:
        return np.full_like(value, ends[0]), np.full_like(value, ends[1])
    centre, error = _augmented(by_group, ends)
    half = _quantile(number - 1) * error
    low, high = np.maximum(ends[0], centre - half), np.minimum(ends[1], centre + half)
    return np.minimum(low, value), np.maximum(high, value)


def standard_error(values: Sequence[float], ends: Ends, groups: Groups | None = None) -> float:
    """Standard error of the mean, after one item more was put at either end; never zero."""
    return float(_augmented(group_values(values, groups), ends)[1])


def ratio_interval(
    above: Sequence[float],
    below: Sequence[float],
    added: Sequence[tuple[float, float]],
    groups: Groups | None = None,
    margin: float = 0.0,
) -> Interval | None:
    """The ratio of two means over the same items, with Fieller's interval (1954).

    It holds every r at which the mean of above - r * below is not clearly other than zero.

    Args:
        above: One value for each item, summed above the line.
        below: The same below the line.
        added: Items more, above and below, that stand for what the sample did not show.
        groups: The group of each item; left out, each is one of its own.
        margin: Half the width that training seeds bring to the interval of the mean above the line;
            it is added in squares.

    Returns:
        None where the mean below the line is not clearly above zero, so that the interval would
        have no end.
    """
    import numpy as np

    pairs = np.array([group_values(above, groups), group_values(below, groups)])
    number = pairs.shape[1]
    if number < 2 or sum(below) <= 0:
        return None
    pairs = np.hstack([pairs, np.array(added, dtype=float).T])
    top, bottom = pairs.mean(axis=1)
    (top_error, both), (_, bottom_error) = (
        _quantile(number - 1) ** 2 * np.cov(pairs, bias=True) / pairs.shape[1]
    )
    square, half = bottom**2 - bottom_error, top * bottom - both
    root = half**2 - square * (top**2 - top_error - margin**2)
    if bottom <= 0 or square <= 0 or root < 0:
        return None
    value = sum(above) / sum(below)
    low, high = (float((half + sign * root**0.5) / square) for sign in (-1, 1))
    return Interval(value, min(low, value), max(high, value))


def _wilson(right: int, n: int) -> tuple[float, float]:
    """Both ends for so many right answers of n, the lower one Poisson's where they are few."""
    from scipy import special

    share, square = right / n, _quantile(n - 1) ** 2
    centre = (share + square / 2 / n) / (1 + square / n)
    half = (square * (share * (1 - share) / n + square / 4 / n**2)) ** 0.5 / (1 + square / n)
    low = max(0.0, centre - half) if right else 0.0
    if 0 < right <= RARE:
        low = min(low, float(special.gammaincinv(right, 1 - LEVEL)) / n)
    return low, min(1.0, centre + half)


def _augmented(by_group: Any, ends: Ends) -> tuple[Any, Any]:
    """Mean and standard error along the last axis, with an item more at either end."""
    import numpy as np

    added = np.broadcast_to(np.array(ends), (*by_group.shape[:-1], 2))
    augmented = np.concatenate([by_group, added], axis=-1)
    return augmented.mean(axis=-1), augmented.std(axis=-1) / augmented.shape[-1] ** 0.5


def _quantile(freedom: int) -> float:
    """Student's quantile of a two-sided interval with so many degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))
