"""Tell whether new data is like the data before it.

The population stability index of B bins is sum((p - q) ln(p / q)). Of two samples of n and m from one
distribution it is distributed as (1/n + 1/m) times a chi-squared variable of B - 1 degrees of freedom
(Yurdakul, "Statistical properties of population stability index", Western Michigan University, 2018),
so a bound alone alarms on few samples by chance. Here both count: the bound, and that test.
Shares are compared by their difference and by Fisher's exact test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALARMS = 0.001
"""Probability of a false alarm in one comparison of all features, by Bonferroni's bound."""
BINS = 10
RARE = 0.05
"""Share of the values that an edge must have, before or now, to be a bin of its own."""


@dataclass(frozen=True)
class Drift:
    """One feature, before and now."""

    feature: str
    kind: str
    """psi: `size` is the population stability index; share: the difference of two shares."""
    before: float
    """Mean or share before."""
    now: float
    size: float
    p: float
    """Probability of as large a difference where nothing changed."""
    beyond: bool
    """Whether it is beyond the bound, and chance does not explain it."""

    @property
    def phrase(self) -> str:
        """In a few words."""
        measure = f"PSI {self.size:.2f}" if self.kind == "psi" else f"{self.size:+.0%}"
        return f"{self.feature} {self.before:.3g} -> {self.now:.3g} ({measure})"


def psi_of(before: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[float, int]:
    """The population stability index, and the number of its bins.

    Bins are quantiles of `before`, so that each holds as much of it; equal values share one. A bin
    that is empty on one side counts as half a value.
    """
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    # A value that many share is a bin of its own: below it, it, and above it.
    counts = [
        np.bincount(
            np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right"),
            minlength=2 * len(edges) + 1,
        )
        for values in (before, now)
    ]
    for edge in range(1, 2 * len(edges), 2):
        if all(count[edge] < RARE * count.sum() for count in counts):  # it lies there by chance
            for count in counts:
                count[edge + 1] += count[edge]
                count[edge] = 0
    used = (counts[0] + counts[1]) > 0
    p, q = (np.maximum(c[used], 0.5) / np.maximum(c[used], 0.5).sum() for c in counts)
    return float(((p - q) * np.log(p / q)).sum()), int(used.sum())


def drift_of_values(
    feature: str, before: NDArray[np.float64], now: NDArray[np.float64], bound: float, alpha: float
) -> Drift:
    """Compare the distributions of a number."""
    size, bins = psi_of(before, now)
    scaled = size / (1 / len(before) + 1 / len(now))
    p = float(stats.chi2.sf(scaled, bins - 1)) if bins > 1 else 1.0
    beyond = size >= bound and p < alpha
    return Drift(feature, "psi", float(before.mean()), float(now.mean()), size, p, beyond)


def drift_of_shares(
    feature: str, before: NDArray[np.bool_], now: NDArray[np.bool_], bound: float, alpha: float
) -> Drift:
    """Compare two shares."""
    a, b = int(before.sum()), int(now.sum())
    p = float(stats.fisher_exact([[a, len(before) - a], [b, len(now) - b]]).pvalue)
    size = b / len(now) - a / len(before)
    beyond = abs(size) >= bound and p < alpha
    return Drift(feature, "share", a / len(before), b / len(now), size, p, beyond)


def drifts_of(
    before: Mapping[str, NDArray[np.generic]],
    now: Mapping[str, NDArray[np.generic]],
    psi: float,
    share: float,
    least: int,
) -> list[Drift]:
    """Compare every feature that both have often enough.

    Args:
        before: Values by feature, shape (n,): booleans are shares, numbers distributions.
        now: The same of the new data, shape (m,).
        psi: Bound of the population stability index.
        share: Bound of the difference of two shares, 0..1.
        least: Values that both sides must have.
    """
    names = [
        name for name in before if name in now and min(len(before[name]), len(now[name])) >= least
    ]
    alpha = ALARMS / max(1, len(names))
    return [
        drift_of_shares(name, before[name].astype(bool), now[name].astype(bool), share, alpha)
        if before[name].dtype == np.bool_
        else drift_of_values(
            name, before[name].astype(np.float64), now[name].astype(np.float64), psi, alpha
        )
        for name in names
    ]
