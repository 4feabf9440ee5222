"""What a benchmark is: held-out items, and how an answer to one is graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from warehouse.records import Message
from warehouse.rows import Row


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
