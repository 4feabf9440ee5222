"""SciQ: science exam questions with a short answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from quality.tasks.benchmark import TEXT_METRICS, Grade, Item, grade_text, item_of
from quality.tasks.graders import CHOICE_METRICS, grade_choice
from quality.tasks.question_rows import Questions, choice_item, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, read_rows


@dataclass
class Sciq(Questions):
    """SciQ (Welbl et al., 2017), in free text or as a choice; its held-out share of passages.

    The items share no passage with the rows that recipes ask.
    """

    version: ClassVar[str] = "3"

    open_book: bool = True
    """Whether the supporting passage is shown."""
    form: Literal["text", "choice"] = "text"
    """Answered in free text, or as a choice of the right answer and the three distractors."""

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the form."""
        return CHOICE_METRICS if self.form == "choice" else TEXT_METRICS

    @property
    def content(self) -> str | None:  # type: ignore[override]
        """That of the form."""
        return "accuracy" if self.form == "choice" else "contains"

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        distractors = {
            raw["prompt"]: [raw[f"distractor{n}"] for n in (1, 2, 3)] for raw in assets.rows("sciq")
        }
        rows = read_rows("sciq", folder)
        if self.form == "choice":
            rows = (
                replace(row, choices=(row.reference[0], *distractors[row.prompt])) for row in rows
            )
        return split(rows, "sciq")

    def item(self, row: Row) -> Item:
        """With or without its passage."""
        if self.form == "choice":
            return choice_item(row, self.open_book, shuffle=True)
        return item_of(row, self.open_book)

    def grade(self, item: Item, answer: str) -> Grade:
        """Exact match, token F1 and containment, or the accuracy of a choice."""
        if self.form == "choice":
            return grade_choice(item.choices, item.row.reference, answer)
        return grade_text(item.row.reference, answer)
