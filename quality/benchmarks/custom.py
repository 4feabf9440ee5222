"""A user's own held-out file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quality.tasks.benchmark import TEXT_METRICS, Grade, Item, grade_text, item_of
from quality.tasks.graders import (
    CHOICE_METRICS,
    CLASS_METRICS,
    NUMERIC_METRICS,
    grade_choice,
    grade_class,
    grade_numeric,
)
from quality.tasks.question_rows import Questions, choice_item
from warehouse.catalog import ADDED_LATER, name_of
from warehouse.errors import DataError
from warehouse.inputs.question_wording import Language
from warehouse.inputs.rows import Row, RowSource, check_columns, is_held_out, read_rows
from warehouse.records import make_id

_METRICS = {
    "text": TEXT_METRICS,
    "choice": CHOICE_METRICS,
    "class": CLASS_METRICS,
    "numeric": NUMERIC_METRICS,
}


@dataclass(kw_only=True)
class Custom(Questions):
    """Items of a JSON, CSV, Parquet or Excel file with `prompt` or `messages` and `reference`.

    Further columns: `aliases` (more right answers), `passage`, `choices`, `category`; a list in
    a CSV file is written in JSON. An item without a reference is abstained on. Items stand in
    the order of the file, each once; with another reference it is another item.
    """

    path: str
    """The file; a relative path starts at the plan's folder."""
    columns: dict[str, str] | None = field(default=None, metadata=ADDED_LATER)
    """Columns of the file by what they are: {prompt = "Frage", reference = "Antwort"}."""
    name: str | None = None
    """What it is called in reports and conditions; needed where a plan has two such files."""
    holdout: float = 1.0
    """Share of its rows that is held out; the same share in a recipe leaves them unasked."""
    grader: Literal["text", "choice", "class", "numeric"] | None = None
    """How answers are graded. Unset: "choice" if the first row has `choices`, else "text"."""
    classes: list[str] = field(default_factory=list)
    """All classes that an answer can name; required with grader "class"."""
    language: Language = field(default="en", metadata=ADDED_LATER)
    """The words around a question, "en" or "zh". Unset: the plan's `language`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_columns(self.columns)
        if not 0 < self.holdout <= 1:
            raise ValueError("holdout is a share above 0 and up to 1")
        if self.shots and self.holdout == 1:
            raise ValueError("shots come from rows that are not held out; give a holdout below 1")
        if (self.grader == "class") != bool(self.classes):
            raise ValueError("grader 'class' and the list of `classes` go together")
        self._kind = self.grader or "text"

    @property
    def kind(self) -> str:
        """The grader; where the option is unset, known as soon as the items are read."""
        return self._kind

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the grader."""
        return _METRICS[self.kind]

    @property
    def content(self) -> str | None:  # type: ignore[override]
        """That of the grader; a number has no form."""
        return {"text": "contains", "numeric": None}.get(self.kind, "accuracy")

    @property
    def version(self) -> str:  # type: ignore[override]
        """Of the benchmark; with its options where its name does not tell them."""
        return " ".join(["4", *(self.settings if self.name else ())])

    @property
    def label(self) -> str:
        """The name it was given; else file and options, where there are any."""
        if self.name:
            return self.name
        options = [Path(self.path).name, *self.settings] if self.settings else []
        return " ".join([name_of(self), *options])

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows in the order of the file.

        Raises:
            DataError: no held-out row has a reference to grade against, or one has none that
                the grader can use.
        """
        rows = [
            (replace(row, language=self.language), self._is_held(row))
            for row in read_rows(self.path, folder, columns=self.columns)
        ]
        if not any(held and row.reference for row, held in rows):
            raise DataError(
                f"{self.path} has no 'reference' in any held-out row, so nothing can be graded by it"
            )
        if self.grader is None:
            self._kind = "choice" if rows[0][0].choices else "text"
        for row, held in rows:
            if held and row.reference and (grade := self.grade(self.item(row), "")).abstained:
                raise DataError(
                    f"{row.source}: {grade.abstained}, so grader = '{self.kind}' can grade no answer "
                    f"(reference: {', '.join(row.reference)}); correct the row, or leave its reference "
                    "out to have it asked and not graded"
                )
        return rows

    def row_sources(self) -> list[RowSource]:
        """Its file."""
        return [RowSource(self.path, self.columns)]

    def item(self, row: Row) -> Item:
        """With its options where a choice is graded."""
        item = choice_item(row) if self.kind == "choice" and row.choices else item_of(row)
        return replace(item, item_id=make_id(item.item_id, row.reference, self.kind))

    def grade(self, item: Item, answer: str) -> Grade:
        """By the grader; the best over all references."""
        reference = item.row.reference
        if not reference:
            return Grade(dict.fromkeys(self.metrics), "no reference answer")
        graders: dict[str, Callable[[], Grade]] = {
            "text": lambda: grade_text(reference, answer),
            "choice": lambda: grade_choice(item.choices, reference, answer),
            "class": lambda: grade_class(self.classes, reference, answer),
            "numeric": lambda: grade_numeric(reference, answer),
        }
        return graders[self.kind]()

    def _is_held(self, row: Row) -> bool:
        return is_held_out(row.split_key, self.holdout)
