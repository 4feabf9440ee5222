"""BoolQ: yes-or-no questions about a passage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import Grade, Item
from quality.tasks.graders import CLASS_METRICS, grade_class
from quality.tasks.question_rows import Questions, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, question_messages


@dataclass
class Boolq(Questions):
    """BoolQ (Clark et al., 2019), its validation split: yes or no, as classes.

    Six of ten are yes, so figures per class tell more than accuracy.
    """

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = CLASS_METRICS
    content: ClassVar[str | None] = "accuracy"
    classes: ClassVar[tuple[str, ...]] = ("yes", "no")

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash; a passage is wholly on one side."""
        return split(map(_row, assets.rows("boolq")), "boolq")

    def item(self, row: Row) -> Item:
        """Passage, question, and that yes or no is asked for."""
        messages = question_messages(row, passage=False)
        question = messages[-1]["content"]
        messages[-1]["content"] = f"{row.passage}\n\nQuestion: {question}\nAnswer with yes or no."
        return Item(row.row_id, row, messages)

    def grade(self, item: Item, answer: str) -> Grade:
        """Whether the right one of yes and no is named, and whether any is."""
        return grade_class(self.classes, item.row.reference, answer)


def _row(raw: dict[str, object]) -> Row:
    question = f"{str(raw['prompt']).strip().rstrip('?')}?"
    messages = [{"role": "user", "content": question}]
    return Row(question, messages, ["yes" if raw["answer"] else "no"], str(raw["passage"]), "boolq")
