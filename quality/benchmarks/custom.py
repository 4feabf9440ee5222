"""A user's own held-out file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from quality.benchmark import TEXT_METRICS, Benchmark, Grade, Item, grade_text, item_of
from warehouse.errors import DataError
from warehouse.rows import read_rows


@dataclass
class Custom(Benchmark):
    """Items of a JSONL, CSV or Parquet file: `prompt` or `messages`, `reference`, `passage`."""

    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[str, ...]] = TEXT_METRICS

    path: str
    """The file; a relative path starts at the plan's folder."""
    holdout: float = 1.0
    """Share of its rows that is held out; the same share in a recipe leaves them unasked."""
    limit: int | None = None
    """At most so many items."""

    def items(self, folder: Path) -> Iterator[Item]:
        """Items in the order of the file.

        Raises:
            DataError: a row has no reference to grade against.
        """
        rows = read_rows(self.path, folder, "held_out", self.holdout)
        for row in islice(rows, self.limit):
            if not row.reference:
                raise DataError(f"{row.source} has no 'reference', so nothing can be graded by it")
            yield item_of(row)

    def grade(self, item: Item, answer: str) -> Grade:
        """Exact match, token F1 and containment; the best over all references."""
        return grade_text(item.row.reference, answer)
