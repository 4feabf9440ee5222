"""Subjects of exam questions: which of four subjects a question is from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import Grade, Item
from quality.tasks.graders import CLASS_METRICS, grade_class
from quality.tasks.question_rows import Questions, split
from warehouse.inputs.rows import Row, read_rows


@dataclass
class ExamSubjects(Questions):
    """The subject of a short question of MMLU (Hendrycks et al., 2021): one of four, named in words.

    Asked in the words in which recipes ask the data set `exam-subjects`; its held-out share. The
    options and answers of the exam are neither shown nor asked for.
    """

    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[str, ...]] = CLASS_METRICS
    content: ClassVar[str | None] = "accuracy"
    classes: ClassVar[tuple[str, ...]] = ("biology", "economics", "physics", "psychology")

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        return split(read_rows("exam-subjects", folder), "exam-subjects")

    def grade(self, item: Item, answer: str) -> Grade:
        """Whether the right subject is named, and whether any is."""
        return grade_class(self.classes, item.row.reference, answer)
