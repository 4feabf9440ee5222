"""Which training rows are nearest to the items that are still wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Neighbour:
    """A training row near an item."""

    sample_id: str
    question: str
    completion: str
    similarity: float
    """0..1, higher is nearer."""
    scores: dict[str, float | None]
    """Scorer -> value."""
    cost_usd: float | None


@dataclass(frozen=True)
class StillWrong:
    """An item that the student has wrong, with the nearest rows that it was trained on."""

    benchmark: str
    item_id: str
    question: str
    reference: list[str]
    said: str
    neighbours: list[Neighbour]
