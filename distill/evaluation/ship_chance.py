"""Compute how often a student that is no better than the base would meet the `[ship]` conditions.

Were the two alike, each item that the student answered better than the base could as well have
been answered worse. So the sign of every difference (of the items of one passage together) is
drawn anew, and the conditions are checked against what comes out: the permutation test's null
(Fisher 1935, section 21), with the gate's own rule in place of a p-value. What the items say about
how often the two differ is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.evaluation.comparison import ItemText, answers_by_contestant
from distill.evaluation.intervals import CHANGE, bounded_limits
from distill.evaluation.statistics import MIN_ITEMS, Interval
from warehouse.records import Answer

DRAWS = 10_000
"""Students that are no better than the base."""
_BATCH = 500
"""Of them in memory at once."""
RARE = 0.05
"""A larger chance is told to be too large to rely on."""
ROUNDING = 1e-9
"""0.4 - 0.3 is not quite 0.1 to a computer."""

Given = Mapping[str, tuple[Sequence[Answer], Sequence[ItemText]]]
"""Benchmark -> its answers and its items."""


@dataclass(frozen=True)
class Bound:
    """What a condition asks on one benchmark, and what was measured there."""

    benchmark: str
    metric: str
    left: str
    right: str | None
    """Another contestant; None: a number."""
    at_least: bool
    limit: float
    """Of left minus right, or of left alone."""
    interval: Interval
    """The measured one of the same."""
    n: int

    @property
    def contestant(self) -> str | None:
        """The plan's own student in it, in whatever context; None where it is not of the student."""
        names = (self.left, self.right or "")
        return next((name for name in names if name.partition("+")[0] == "student"), None)

    @property
    def sign(self) -> int:
        """Whether the measured value grows (1) or falls (-1) with the student's score."""
        return 1 if self.contestant == self.left else -1

    def is_met(self, value: Any) -> Any:
        """Whether a value, or each of an array, meets the limit."""
        if self.at_least:
            return value >= self.limit - ROUNDING
        return value <= self.limit + ROUNDING

    def value(self, interval: Interval, certain: bool) -> Any:
        """The value of an interval that has to meet the limit: its end, or its middle."""
        if not certain:
            return interval.value
        return interval.low if self.at_least else interval.high


def chance_of_passing(bounds: Sequence[Bound], given: Given, certain: bool) -> float | None:
    """The probability that all bounds are met by a student that is no better than the base.

    Bounds on one benchmark are checked against the same draws; those of several benchmarks are
    independent, so their probabilities are multiplied. A difference of student and base gets the
    interval of its draw; any other measurement of the student (against a number, or another
    contestant) is moved by as much as the draw differs from the measured difference, since a
    student like the base would have been measured there.

    Returns:
        0..1, or None where student and base did not both answer on one of the benchmarks.
    """
    chance = 1.0
    for benchmark in dict.fromkeys(bound.benchmark for bound in bounds):
        there = [bound for bound in bounds if bound.benchmark == benchmark]
        answers, items = given.get(benchmark, ((), ()))
        on_benchmark = _chance_on(there, answers, items, certain)
        if on_benchmark is None:
            return None
        chance *= on_benchmark
    return chance


def rule_sentence(chance: float | None, certain: bool) -> str:
    """State that point estimates decide; empty where the bounds of the intervals do."""
    if certain:
        return ""
    often = "can pass by chance" if chance is None or chance <= RARE else "would often pass"
    return (
        "Point estimates decide (certain = false): the measured values have to meet the conditions, not "
        f"the bounds of their 95 % intervals, so a student no better than the base {often}."
    )


def chance_sentence(chance: float | None) -> str:
    """State in plain words what passing is worth."""
    if chance is None:
        return (
            "How often a student no better than the base would have passed is not known: the base "
            "did not answer the same items."
        )
    opening = (
        f"A student no better than the base would have passed in {_percent(chance)} of evaluations "
        "on items like these"
    )
    if chance <= RARE:
        return f"{opening}."
    return f"{opening}: passing does not show that the student is better."


def _percent(chance: float) -> str:
    if chance < 0.001:
        return "less than 0.1 %"
    return f"about {100 * chance:.1f} %"


def _chance_on(
    bounds: Sequence[Bound], answers: Sequence[Answer], items: Sequence[ItemText], certain: bool
) -> float | None:
    import numpy as np

    if any(bound.n < MIN_ITEMS for bound in bounds):
        return 0.0  # so few items promote nobody
    fixed = [bound for bound in bounds if bound.contestant is None]
    if not all(bound.is_met(bound.value(bound.interval, certain)) for bound in fixed):
        return 0.0
    moving = [bound for bound in bounds if bound.contestant is not None]
    if not moving:
        return 1.0
    changes = _changes(moving, answers, items)
    if changes is None:
        return None
    units = len({item.group for item in items})
    rng, met = np.random.default_rng(0), 0
    for _ in range(DRAWS // _BATCH):
        signs = rng.integers(0, 2, (_BATCH, units), np.int8) * 2 - 1
        drawn = {key: change.drawn(signs) for key, change in changes.items()}
        passed = np.ones(_BATCH, bool)
        for bound in moving:
            key = (bound.contestant, bound.metric)
            moved = _moved(bound, drawn[key], changes[key].mean)
            passed &= bound.is_met(bound.value(moved, certain))
        met += int(passed.sum())
    return met / DRAWS


def _moved(bound: Bound, drawn: Interval, measured: float) -> Interval:
    """What would have been measured of a drawn student; arrays in place of numbers."""
    if {bound.left, bound.right} == {bound.contestant, "base"}:
        return drawn if bound.sign == 1 else drawn.negated()
    by, was = bound.sign * (drawn.value - measured), bound.interval
    return Interval(was.value + by, was.low + by, was.high + by)


@dataclass(frozen=True)
class _Change:
    """Grades of student minus base by unit of evidence: an item, or the items of one passage."""

    sums: Any
    """Summed over the unit's items; shape (units,)."""
    counts: Any
    """Items of the unit that were graded for both; shape (units,)."""

    @cached_property
    def mean(self) -> float:
        """The mean difference over items."""
        return float(self.sums.sum() / self.counts.sum())

    def drawn(self, signs: Any) -> Interval:
        """Mean difference and interval under signs of shape (draws, units), as arrays.

        The interval is that of `difference_interval`; of groups see `group_values`.
        """
        graded = self.counts > 0
        flipped = signs[:, graded] * self.sums[graded]
        share = graded.sum() / self.counts.sum()
        value = flipped.sum(axis=1) / self.counts.sum()
        by_unit = value[:, None] * (1 - self.counts[graded] * share) + flipped * share
        low, high = bounded_limits(by_unit, CHANGE)
        return Interval(value, low, high)


def _changes(
    bounds: Sequence[Bound], answers: Sequence[Answer], items: Sequence[ItemText]
) -> dict[tuple[str | None, str], _Change] | None:
    """The change of each contestant and metric in the bounds; None where one has no item."""
    import numpy as np

    answers_by = answers_by_contestant(answers)
    unit_of = {group: unit for unit, group in enumerate(sorted({item.group for item in items}))}
    changes = {}
    for contestant, metric in {(bound.contestant, bound.metric) for bound in bounds}:
        sides = [answers_by.get(name, {}) for name in (contestant or "", "base")]
        sums, counts = np.zeros(len(unit_of)), np.zeros(len(unit_of))
        for item in {item.item_id: item for item in items}.values():
            new, old = (_grade(side.get(item.item_id), metric) for side in sides)
            if not math.isnan(new - old):
                sums[unit_of[item.group]] += new - old
                counts[unit_of[item.group]] += 1
        if not counts.any():
            return None
        changes[contestant, metric] = _Change(sums, counts)
    return changes


def _grade(answer: Answer | None, metric: str) -> float:
    """A grade, or not a number where there is none."""
    grade = answer.grades.get(metric) if answer else None
    return math.nan if grade is None else float(grade)
