"""Compute how many held-out items each `[ship]` condition needs, before anything is spent.

A condition is met where the bound of the 95 % interval meets it, so a student that is just good
enough fails it nearly always. What it has to be beyond that is assumed: see `assumed_line`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.power import LEVEL, LOSSES, POWER, items_needed
from distill.evaluation.ship_conditions import Condition, Planned, applicable, parse
from distill.evaluation.statistics import MIN_ITEMS
from distill.evaluation.verdict import points
from warehouse.wording import format_count

GAIN = 0.1
"""Assumed gain where a condition asks for none ("student >= base"), and largest assumed distance
from a number."""
TOXIC_LOSSES = 0.05
"""Assumed loss rate of toxicity, which is rare."""


@dataclass(frozen=True)
class ItemsNeeded:
    """Items that a condition needs on one benchmark, and those that the plan has."""

    condition: str
    benchmark: str
    needed: int | None
    """None: no number of items is enough."""
    available: int
    truth: str
    """What is assumed of the student."""

    @property
    def is_enough(self) -> bool:
        """Whether the plan has as many."""
        return self.needed is not None and self.available >= self.needed

    @property
    def line(self) -> str:
        """One line for `distill check`."""
        if self.needed is None:
            return f"'{self.condition}' on {self.benchmark}: no number of items makes this certain"
        few = "" if self.is_enough else ", too few"
        return (
            f"'{self.condition}' on {self.benchmark} needs about "
            f"{format_count(self.needed, 'item')} if the student is {self.truth}; there "
            f"{'is' if self.available == 1 else 'are'} {self.available:,}{few}"
        )


def find_items_needed(
    conditions: Sequence[str], benchmarks: Sequence[Planned], counts: Mapping[str, int]
) -> list[ItemsNeeded]:
    """For each condition and benchmark, the items with which the interval meets it four times in
    five.

    Args:
        conditions: The plan's conditions, which the plan can measure.
        benchmarks: The plan's benchmarks.
        counts: Benchmark -> its items.
    """
    return [
        _on(parse(text), benchmark, counts[benchmark.label])
        for text in conditions
        for benchmark in applicable(parse(text), benchmarks)
    ]


def assumed_line() -> str:
    """What the numbers rest on, in one line."""
    return (
        f"assumed: the bound of the interval is met four times in five, the worse of two contestants "
        f"alone is right on {100 * LOSSES:g} % of the items, and each item has its own passage; "
        "where they differ less, fewer are needed"
    )


def _on(condition: Condition, benchmark: Planned, available: int) -> ItemsNeeded:
    if condition.against or condition.subject == "forgetting":
        needed, truth = _of_difference(condition)
    else:
        needed, truth = _of_number(condition)
    return ItemsNeeded(condition.text, benchmark.label, needed, available, truth)


def _of_difference(condition: Condition) -> tuple[int | None, str]:
    """Twice the asked difference is assumed; where none is asked, or a loss is allowed, see below."""
    against = condition.against or "the base"
    asked = condition.margin if condition.at_least else -condition.margin
    gain = GAIN if asked == 0 else min(2 * max(0.0, asked), (1 + asked) / 2)
    beyond, losses = gain - asked, TOXIC_LOSSES if condition.subject == "toxicity" else LOSSES
    better = "better" if condition.at_least or condition.subject == "forgetting" else "lower"
    truth = f"truly {points(gain)} points {better} than {against}"
    if not gain:
        truth = f"truly as good as {against}"
    if beyond < 1e-9:
        return None, truth
    discordant = max(beyond, min(1.0, 2 * losses + gain))
    return max(MIN_ITEMS, items_needed(beyond, discordant)), truth


def _of_number(condition: Condition) -> tuple[int | None, str]:
    """Halfway to the end of the scale is assumed, ten points at most; by the normal approximation of
    a test of one proportion (Fleiss, Levin and Paik 2003, section 2.4)."""
    limit = condition.margin
    room = 1 - limit if condition.at_least else limit
    beyond = min(GAIN, room / 2)
    value = limit + beyond if condition.at_least else limit - beyond
    truth = f"truly at {points(value)} %"
    if beyond < 1e-9:
        return None, truth
    normal = statistics.NormalDist()
    spreads = (math.sqrt(share * (1 - share)) for share in (limit, value))
    quantiles = (normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(POWER))
    root = sum(z * spread for z, spread in zip(quantiles, spreads, strict=True)) / beyond
    return max(MIN_ITEMS, math.ceil(root**2)), truth
