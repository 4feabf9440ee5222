"""Score and compare contestants that were trained with several seeds: over seeds and items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.change import MetricChange
from distill.evaluation.comparison import Difference, SeedScore
from distill.evaluation.hierarchical_bootstrap import hierarchical_bootstrap
from distill.evaluation.intervals import (
    CHANGE,
    SHARE,
    difference_interval,
    mean_interval,
    standard_error,
)
from distill.evaluation.statistics import LEVEL, Interval, permutation_p_value
from warehouse.records import Answer

ByItem = Mapping[str, Answer]
Fits = Sequence[ByItem]
"""A contestant's answers, of each of its training seeds; one where it has none."""
Grades = Sequence[Sequence[float]]
"""Grades in 0..1, (seeds, items); one row where there was one training, or none."""


def of_seed(seed: int | str) -> str:
    """What the student of a further training seed is called among a run's answers."""
    return f"student, seed {seed}"


def change_over_seeds(pair: Difference | None, metric: str | None) -> MetricChange | None:
    """A difference over training seeds as a change; None where it covers none."""
    if pair is None or metric not in pair.metrics or not pair.is_over_seeds:
        return None
    return MetricChange(metric, pair.metrics[metric], pair.p_value, pair.n, test=pair.test)


@dataclass(frozen=True)
class Trained:
    """A further student of the same rows, trained with another seed, and its answers."""

    seed: int
    student_id: str
    answers: Sequence[Answer]


def score_seed(trained: Trained, metrics: Sequence[str], group_of: Mapping[str, str]) -> SeedScore:
    """One student's means; an item that was not graded does not count."""
    answers = {a.item_id: a for a in trained.answers if a.item_id in group_of}
    grades = {
        metric: {i: float(g) for i, a in answers.items() if (g := a.grades.get(metric)) is not None}
        for metric in metrics
    }
    means = {
        metric: mean_interval(list(by_item.values()), [group_of[i] for i in by_item])
        for metric, by_item in grades.items()
        if by_item
    }
    return SeedScore(trained.seed, trained.student_id, len(grades[metrics[0]]), means)


def fits_of(
    answers_by: Mapping[str, ByItem], other_seeds: Mapping[str, Sequence[Sequence[Answer]]]
) -> dict[str, Fits]:
    """Each contestant's answers by seed, to the items that all of its seeds answered."""
    fits_by: dict[str, Fits] = {}
    for name, by_item in answers_by.items():
        others = [{a.item_id: a for a in answers} for answers in other_seeds.get(name, ())]
        fits_by[name] = [
            {
                item: a
                for item, a in fit.items()
                if all(item in other for other in (by_item, *others))
            }
            for fit in (by_item, *others)
        ]
    return fits_by


def shared_items(metric: str, *sides: Fits) -> list[str]:
    """The items graded for all sides and all their seeds, sorted."""
    return sorted(
        set.intersection(*(set(graded_items(fit, metric)) for side in sides for fit in side))
    )


def common_grades(
    metric: str, group_of: Mapping[str, str], *sides: Fits
) -> tuple[list[str], list[list[list[float]]]]:
    """The groups of the items graded for all sides, and of each side a list of grades per seed."""
    shared = shared_items(metric, *sides)
    graded = [[graded_items(fit, metric) for fit in side] for side in sides]
    return [group_of[i] for i in shared], [
        [[grades[i] for i in shared] for grades in side] for side in graded
    ]


def graded_items(by_item: ByItem, metric: str) -> dict[str, float]:
    grades = ((item_id, answer.grades.get(metric)) for item_id, answer in by_item.items())
    return {item_id: float(grade) for item_id, grade in grades if grade is not None}


def score(fits: Grades, groups: Sequence[str] | None = None) -> Interval:
    """The mean over seeds and items; over several seeds never narrower than that of one student with
    the mean grades, see `_hull`."""
    over_items = mean_interval(mean_grades(fits), groups)
    if len(fits) == 1:
        return over_items
    return _hull(over_items, hierarchical_bootstrap(fits, bounds=SHARE, groups=groups).interval)


def difference(left: Grades, right: Grades, groups: Sequence[str] | None = None) -> Interval:
    """The mean of left minus right over seeds and items; see `score`."""
    over_items = difference_interval(mean_grades(left), mean_grades(right), groups)
    if len(left) == len(right) == 1:
        return over_items
    return _hull(over_items, hierarchical_bootstrap(left, right, groups=groups).interval)


def p_value(left: Grades, right: Grades, groups: Sequence[str] | None = None) -> float:
    """Of the test that goes with `difference`: over items, or over seeds and items.

    Over several seeds it is the larger p of both, as the interval is the hull of both.
    """
    over_items = permutation_p_value(gaps(left, right), groups)
    if len(left) == len(right) == 1 or not left[0]:
        return over_items
    return max(over_items, hierarchical_bootstrap(left, right, groups=groups).p_value)


def mean_grades(fits: Grades) -> list[float]:
    """The mean over seeds of each item."""
    return [sum(grades) / len(fits) for grades in zip(*fits, strict=True)]


def gaps(left: Grades, right: Grades) -> list[float]:
    """Left minus right on each item, each the mean over its seeds."""
    pairs = zip(mean_grades(left), mean_grades(right), strict=True)
    return [new - old for new, old in pairs]


def seed_error(fits: Grades) -> float:
    """Standard error that the seeds bring into the mean; zero for one, which does not tell."""
    import numpy as np

    if len(fits) == 1 or not fits[0]:
        return 0.0
    return float(np.mean(fits, axis=1).std(ddof=1)) / math.sqrt(len(fits))


def seed_margin(fits: Grades) -> float:
    """Half the width of the 95 % interval of the mean that the seeds alone bring (Student's t)."""
    from scipy import special

    if len(fits) == 1:
        return 0.0
    quantile = float(special.stdtrit(len(fits) - 1, (1 + LEVEL) / 2))
    return quantile * seed_error(fits)


def error_of(left: Grades, right: Grades, groups: Sequence[str]) -> tuple[float, float]:
    """Standard error of the mean of left minus right, and its degrees of freedom.

    Over several seeds by Welch (1947), from the errors of items and of each side's seeds.
    """
    over_items = standard_error(gaps(left, right), CHANGE, groups)
    freedom = len(set(groups)) - 1
    parts = [(over_items, freedom)]
    parts += [(seed_error(side), len(side) - 1) for side in (left, right) if len(side) > 1]
    squared = sum(error**2 for error, _ in parts)
    fourth = sum(error**4 / free for error, free in parts if free)
    return math.sqrt(squared), squared**2 / fourth if fourth else float(freedom)


def _hull(over_items: Interval, resampled: Interval) -> Interval:
    """The smallest interval that holds both.

    A bootstrap over items is narrower than the interval of one student, which is corrected for few
    items and for rare answers. Where the seeds hardly differ their part does not make up for that, and
    more seeds would seem to know more of items that they do not have. A value is left out where both
    intervals leave it out (an intersection-union test: Berger, 1982), so the errors stay below 5 %.
    """
    low, high = min(over_items.low, resampled.low), max(over_items.high, resampled.high)
    return Interval(over_items.value, low, high)
