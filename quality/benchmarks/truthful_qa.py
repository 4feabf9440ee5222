"""TruthfulQA: questions that many people answer falsely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from quality.tasks.benchmark import Grade, Item, grade_text, item_of
from quality.tasks.graders import CHOICE_METRICS, grade_choice
from quality.tasks.question_rows import Questions, choice_item, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row


@dataclass
class TruthfulQa(Questions):
    """TruthfulQA (Lin et al., 2022), in free text or as a choice with one true answer (MC1).

    The text form knows true answers only. Its headline is the best token F1 over them, since
    they are sentences that nobody says word for word: it tells how near an answer comes to a
    true one, and does not punish a falsehood. The choice form does; its false answers are on
    the hub alone.
    """

    version: ClassVar[str] = "3"

    form: Literal["text", "choice"] = "text"
    """Answered in free text, or as a choice of one true answer among tempting false ones."""

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the form."""
        return CHOICE_METRICS if self.form == "choice" else ("f1", "contains", "exact_match")

    @property
    def content(self) -> str | None:  # type: ignore[override]
        """That of the form."""
        return "accuracy" if self.form == "choice" else "contains"

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        asset, make_row = (
            ("truthfulqa-choices", _of_choice)
            if self.form == "choice"
            else ("truthfulqa", _of_text)
        )
        return split(make_row(assets.rows(asset)), asset)

    def item(self, row: Row) -> Item:
        """The data names the true option first, so the options are shuffled."""
        return choice_item(row, shuffle=True) if row.choices else item_of(row)

    def grade(self, item: Item, answer: str) -> Grade:
        """Token F1, containment and exact match with a true answer, or the choice's accuracy."""
        if self.form == "choice":
            return grade_choice(item.choices, item.row.reference, answer)
        grade = grade_text(item.row.reference, answer)
        return replace(grade, values={name: grade.values[name] for name in self.metrics})


def _of_text(rows: Iterable[dict[str, list[str]]]) -> Iterator[Row]:
    for raw in rows:
        yield _row(str(raw["prompt"]), [text for text in raw["answers"] if text.strip()])


def _of_choice(rows: Iterable[dict[str, dict[str, list[str]]]]) -> Iterator[Row]:
    for raw in rows:
        options, labels = (raw["mc1_targets"][name] for name in ("choices", "labels"))
        right = [text for text, label in zip(options, labels, strict=True) if int(label)]
        yield _row(str(raw["prompt"]), right, tuple(options))


def _row(question: str, reference: list[str], choices: tuple[str, ...] = ()) -> Row:
    messages = [{"role": "user", "content": question}]
    return Row(question, messages, reference, source="truthfulqa", choices=choices)
