"""Prompt, retrieve or train: accuracy against cost and time, and when training pays."""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class Economy:
    """What a contestant's answers take on one benchmark."""

    benchmark: str
    contestant: str
    n: int
    score: Interval | None
    usd_per_1000: float | None
    """US dollars per 1,000 answers; None where no price is known."""
    priced_by: str
    """"tokens", "machine time" or "not known"."""
    latency_s: float | None
    tokens_in: float
    """Mean per answer."""
    tokens_out: float


@dataclass(frozen=True)
class BreakEven:
    """From how many answers on the student is cheaper than another contestant."""

    against: str
    fixed_usd: float | None
    """What making the student cost: the teacher's replies and the training's machine time."""
    saved_usd_per_1000: float | None
    answers: int | None
    """None where the student never pays for itself, or a price is not known."""
    sentence: str
