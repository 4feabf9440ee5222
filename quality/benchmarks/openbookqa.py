"""OpenBookQA: science questions that take a fact and common sense."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import Grade, Item
from quality.tasks.graders import CHOICE_METRICS, grade_choice
from quality.tasks.question_rows import Questions, keyed_row, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row


@dataclass
class Openbookqa(Questions):
    """OpenBookQA (Mihaylov et al., 2018), its validation split, without the book of facts."""

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = CHOICE_METRICS
    content: ClassVar[str | None] = "accuracy"

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        rows = (keyed_row(raw, "openbookqa") for raw in assets.rows("openbookqa"))
        return split(rows, "openbookqa")

    def grade(self, item: Item, answer: str) -> Grade:
        """The accuracy of the choice, and whether one could be read."""
        return grade_choice(item.choices, item.row.reference, answer)
