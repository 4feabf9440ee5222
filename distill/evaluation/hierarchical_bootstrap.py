"""Resample training seeds and items together: what another seed and other items would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.statistics import LEVEL, RESAMPLES, Interval, group_values

_BATCH = 500
"""Resamples that are in memory at once."""


@dataclass(frozen=True)
class Resampled:
    """A mean or a difference of means, its 95 % interval and the two-sided p-value that it is 0."""

    interval: Interval
    p_value: float


def hierarchical_bootstrap(
    fits: Sequence[Sequence[float]],
    against: Sequence[Sequence[float]] = (),
    bounds: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Resampled:
    """The mean of grades over training seeds and items, less another one, resampled over both.

    Items are drawn with replacement, the same for all seeds and for both sides (they answer the same
    ones). To draw three seeds with replacement would leave out a third of their variance and
    the long tails of so few (Davison and Hinkley, *Bootstrap Methods and their Application*, 1997,
    section 3.8), so the mean over seeds moves by a draw of Student's t with seeds - 1 degrees of
    freedom, times its standard error. One alone moves nothing: an untuned base has no seed.
    Two items more, one at each of the `bounds`, keep a width where all items agree (Bonett and
    Price, 2012, for paired proportions).

    Args:
        fits: Grades, (seeds, items).
        against: The same of what is taken off, on the same items; left out, nothing is.
        bounds: Least and greatest value that an item can have: (0, 1) for grades alone.
        seed: Of the resamples.
        groups: The group of each item (its passage), which is drawn with all its items; left out,
            each item is one of its own.

    Raises:
        ValueError: there is no fit or no item, or the fits are not of the same items.
    """
    import numpy as np

    sides = [np.asarray(side, dtype=float) for side in (fits, against) if len(side)]
    if not len(fits) or any(side.ndim != 2 for side in sides) or not sides[0].shape[1]:
        raise ValueError(
            "fits and against are tables of grades, (seeds, items), with one item or more"
        )
    if len({side.shape[1] for side in sides}) > 1:
        raise ValueError("fits and against are grades of the same items")
    rng = np.random.default_rng(seed)
    items = sides[0].mean(axis=0) - (sides[1].mean(axis=0) if len(sides) > 1 else 0.0)
    drawn = _resample(np.append(group_values(items, groups), bounds), rng)
    for side in sides:
        if len(side) > 1:
            error = side.mean(axis=1).std(ddof=1) / len(side) ** 0.5
            drawn = drawn + error * rng.standard_t(len(side) - 1, RESAMPLES)
    drawn = np.clip(drawn, *bounds)
    tail = 50 * (1 - LEVEL)
    value, (low, high) = float(items.mean()), np.percentile(drawn, [tail, 100 - tail])
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Resampled(
        Interval(value, min(value, float(low)), max(value, float(high))),
        min(1.0, 2 * float(1 + rarer) / (1 + RESAMPLES)),
    )


def _resample(items: Any, rng: Any) -> Any:
    """Means of as many items, drawn with replacement; equal items are counted, not drawn apart."""
    import numpy as np

    values, counts = np.unique(items.round(12), return_counts=True)
    shares = counts / len(items)
    return np.concatenate(
        [
            rng.multinomial(len(items), shares, _BATCH) @ values / len(items)
            for _ in range(RESAMPLES // _BATCH)
        ]
    )
