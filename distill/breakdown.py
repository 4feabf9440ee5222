"""Scores by group of items: category, length, and how sure the teacher was."""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class Group:
    """One group of items and what each contestant scored on it."""

    by: str
    """What the items are grouped by: "category", "length" or "teacher confidence"."""
    name: str
    n: int
    scores: dict[str, Interval]
    """Contestant -> mean headline metric of the items graded for it."""
