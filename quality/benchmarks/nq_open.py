"""Natural Questions, open: questions that people typed into a search engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import TEXT_METRICS, Grade, Item
from quality.tasks.graders import grade_harness
from quality.tasks.question_rows import Questions, split
from warehouse.inputs.rows import Row, read_rows


@dataclass
class NqOpen(Questions):
    """Natural Questions, open domain (Lee et al., 2019), the held-out share of its validation.

    Asked in the words in which recipes ask the data set `nq-open`. Exact match is that of
    lm-evaluation-harness; the answer is read up to its first line break, not also up to a full
    stop or comma as in the harness, whose prompt is a text to be continued.
    """

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = TEXT_METRICS
    content: ClassVar[str | None] = "contains"
    stop: ClassVar[tuple[str, ...]] = ("\n",)

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash."""
        return split(read_rows("nq-open", folder), "nq-open")

    def grade(self, item: Item, answer: str) -> Grade:
        """The harness's exact match, and token F1 and containment; the best over the answers."""
        return grade_harness(item.row.reference, answer, articles=True)
