"""What a benchmark is: held-out items, and how an answer to one is graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.text import contains, exact_match, token_f1
from warehouse.records import Message
from warehouse.rows import Row, question_messages

TEXT_METRICS = ("exact_match", "f1", "contains")


@dataclass(frozen=True)
class Item:
    """One held-out question. `messages` is how base and student are asked it."""

    item_id: str
    row: Row
    messages: list[Message]


@dataclass(frozen=True)
class Grade:
    """Metric -> value in 0..1, or None with the reason of the abstention."""

    values: dict[str, float | None]
    abstained: str | None = None


class Benchmark(ABC):
    """One file in quality/benchmarks; dataclass fields are its options."""

    version: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # the first one is the headline

    @abstractmethod
    def items(self, folder: Path) -> Iterator[Item]:
        """Held-out items in a fixed order; `folder` is where relative paths start."""

    @abstractmethod
    def grade(self, item: Item, answer: str) -> Grade:
        """Grade one answer; never raises for a strange text."""


def item_of(row: Row, passage: bool = True) -> Item:
    """A row as an item."""
    return Item(row.row_id, row, question_messages(row, passage))


def grade_text(reference: list[str], answer: str) -> Grade:
    """The three text metrics, the best over the references; abstains where there is none."""
    if not reference:
        return Grade(dict.fromkeys(TEXT_METRICS), "no reference answer")
    graders = (exact_match, token_f1, contains)
    return Grade(
        {
            metric: max(grader(answer, wanted) for wanted in reference)
            for metric, grader in zip(TEXT_METRICS, graders, strict=True)
        }
    )
