"""Fit scores at growing shares of the selection and extrapolate them carefully."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.intervals import bounded_interval
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import SMALL, metric_name, span
from distill.evaluation.verdict import points as in_points
from warehouse.wording import be, format_count


@dataclass(frozen=True)
class ScalePoint:
    """A student trained on a share of the selection."""

    share: float
    rows: int
    student_id: str
    score: Interval


@dataclass(frozen=True)
class Scaling:
    """The curve of one benchmark."""

    benchmark: str
    metric: str
    base: Interval | None
    """The untuned base on the same items: no rows at all."""
    points: list[ScalePoint]
    per_doubling: Interval | None
    """Change of the score for twice the rows; None with fewer than three points or ten items."""
    forecast: Interval | None
    """At twice the largest number of rows; None where the slope's interval has zero in it."""
    sentence: str


FEWEST = 3
"""Least number of data sizes for a slope: a line through two points always fits."""


def fit_scaling(
    benchmark: str,
    metric: str,
    points: Sequence[ScalePoint],
    base: Interval | None,
    answers_by_point: Sequence[Mapping[str, float]],
    higher_is_better: bool = True,
    group_of: Mapping[str, str] | None = None,
) -> Scaling:
    """Fit a line to the score over the logarithm of the rows, on the items graded at all points.

    Scores grow about linearly with the logarithm of the data over a small range (Hestness et
    al., 2017, of the power law that this cuts a piece out of). `answers_by_point` has the
    grades (0..1) of each of the `points`, by item, in the same order. Items of one passage
    (`group_of`) count as one piece of evidence.

    A least-squares slope is a sum over points of weight times score, so each item has a slope
    of its own, and the fit's is their mean: their interval is one over the same items at
    all points. What another training seed would change is not in the interval.

    Raises:
        ValueError: there are not as many tables of grades as points.
    """
    by_size = sorted(
        zip(points, answers_by_point, strict=True),
        key=lambda pair: (pair[0].rows, pair[0].student_id),
    )
    ordered, grades = [point for point, _ in by_size], [graded for _, graded in by_size]
    shared = sorted(set.intersection(*(set(graded) for graded in grades))) if grades else []
    slope = forecast = None
    sizes_given = {point.rows for point in ordered}
    if len(sizes_given) >= FEWEST and min(sizes_given) > 0 and len(shared) >= MIN_ITEMS:
        sizes = [math.log2(point.rows) for point in ordered]
        slope = _combined(grades, shared, _weights(sizes, None), group_of)
        if slope.low > 0 or slope.high < 0:
            ahead = _combined(grades, shared, _weights(sizes, sizes[-1] + 1), group_of)
            forecast = Interval(*(min(1.0, max(0.0, v)) for v in _values(ahead)))
    return Scaling(
        benchmark=benchmark,
        metric=metric,
        base=base,
        points=ordered,
        per_doubling=slope,
        forecast=forecast,
        sentence=_sentence(metric, ordered, len(shared), slope, forecast, higher_is_better),
    )


def _weights(sizes: Sequence[float], at: float | None) -> list[float]:
    """Weight of each point's score in the slope, or in the line's value at a size."""
    middle = sum(sizes) / len(sizes)
    spread = sum((size - middle) ** 2 for size in sizes)
    slopes = [(size - middle) / spread for size in sizes]
    if at is None:
        return slopes
    return [1 / len(sizes) + (at - middle) * weight for weight in slopes]


def _combined(
    grades: Sequence[Mapping[str, float]],
    items: Sequence[str],
    weights: Sequence[float],
    group_of: Mapping[str, str] | None,
) -> Interval:
    """The weighted sum of the points' scores, with its interval over items."""
    item_values = [
        sum(weight * graded[item] for weight, graded in zip(weights, grades, strict=True))
        for item in items
    ]
    ends = (sum(min(w, 0.0) for w in weights), sum(max(w, 0.0) for w in weights))
    groups = [(group_of or {}).get(item, item) for item in items]
    return bounded_interval(item_values, ends, groups)


def _values(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _sentence(
    metric: str,
    curve: Sequence[ScalePoint],
    n: int,
    slope: Interval | None,
    forecast: Interval | None,
    higher_is_better: bool,
) -> str:
    if slope is None:
        sizes = len({point.rows for point in curve})
        why = (
            f"{format_count(n, 'item')} graded at every size {be(n)} too few to claim anything"
            if sizes >= FEWEST and n < MIN_ITEMS
            else f"at least {FEWEST} data sizes with rows are needed, and there "
            f"{'is' if sizes == 1 else 'are'} {sizes}"
        )
        return f"Whether more data would help is unknown: {why}."
    name = metric_name(metric)
    caution = f" n = {n} is small: other items may give another result." if n < SMALL else ""
    evidence = (
        f"{in_points(slope.value)} points {name} for twice the rows "
        f"({span(slope)}, over {format_count(n, 'item')}, not over training seeds)"
    )
    if forecast is None:
        return f"No sign that more data would help: {evidence}.{caution}"
    if (slope.value < 0) == higher_is_better:
        return f"More data of this kind would probably not help: {evidence}.{caution}"
    return (
        f"More data would probably help: {evidence}. If the trend continues, {2 * curve[-1].rows:,} "
        f"rows would give about {in_points(forecast.value)} % ({in_points(forecast.low)} to "
        f"{in_points(forecast.high)}).{caution}"
    )
