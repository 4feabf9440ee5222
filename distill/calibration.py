"""Does a contestant know when it is right?"""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class ConfidenceBin:
    """Answers of like confidence."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean confidence of the bin."""
    accuracy: float
    """Mean headline grade of the bin."""


@dataclass(frozen=True)
class Calibration:
    """Confidence against grades of one contestant on one benchmark."""

    benchmark: str
    contestant: str
    n: int
    ece: Interval
    """Expected calibration error, 0..1."""
    brier: float
    auroc: float | None
    """How well confidence orders right before wrong answers; None where all are alike."""
    bins: list[ConfidenceBin]
