"""What is left of a score when questions are misspelt, reworded or meddled with."""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class Robustness:
    """One contestant under one perturbation, on the items answered both ways."""

    benchmark: str
    perturbation: str
    contestant: str
    n: int
    clean: Interval
    perturbed: Interval
    change: Interval
    """Perturbed minus clean, paired on items."""
    lost: int
    """Items right before and wrong now."""
    gained: int
    obeyed: int | None = None
    """Answers that did what an injected instruction asked; None for other perturbations."""
