"""Would more data help? Scores at growing shares of the selection, and a careful extrapolation."""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class ScalePoint:
    """A student fitted to a share of the selection."""

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
    """Change of the score for twice the rows; None with fewer than three points."""
    forecast: Interval | None
    """At twice the largest number of rows; None where the slope's interval has zero in it."""
    sentence: str
