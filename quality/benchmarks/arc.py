"""ARC: science questions of primary school."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from quality.tasks.benchmark import Grade, Item
from quality.tasks.graders import CHOICE_METRICS, grade_choice
from quality.tasks.question_rows import Questions, keyed_row, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row


@dataclass
class Arc(Questions):
    """ARC, the AI2 Reasoning Challenge (Clark et al., 2018), its validation split."""

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = CHOICE_METRICS
    content: ClassVar[str | None] = "accuracy"

    part: Literal["challenge", "easy"] = "challenge"
    """The part that word statistics and retrieval answer wrongly, or the rest."""

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        asset = f"arc-{self.part}"
        return split((keyed_row(raw, asset) for raw in assets.rows(asset)), asset)

    def grade(self, item: Item, answer: str) -> Grade:
        """The accuracy of the choice, and whether one could be read."""
        return grade_choice(item.choices, item.row.reference, answer)
