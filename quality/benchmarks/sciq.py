"""SciQ: science exam questions with a short answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from quality.benchmark import TEXT_METRICS, Benchmark, Grade, Item, grade_text, item_of
from warehouse import assets
from warehouse.rows import read_rows


@dataclass
class Sciq(Benchmark):
    """SciQ (Welbl et al., 2017), answered in free text; its held-out share of passages.

    The items share no passage with the rows that recipes ask.
    """

    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[str, ...]] = TEXT_METRICS

    limit: int | None = None
    """At most so many items."""
    open_book: bool = True
    """Whether the supporting passage is shown."""

    def items(self, folder: Path) -> Iterator[Item]:
        """Held-out items in the order of their hash."""
        holdout = assets.entry("sciq").holdout
        rows = sorted(read_rows("sciq", folder, "held_out", holdout), key=lambda row: row.row_id)
        for row in islice(rows, self.limit):
            yield item_of(row, self.open_book)

    def grade(self, item: Item, answer: str) -> Grade:
        """Exact match, token F1 and containment against the one reference."""
        return grade_text(item.row.reference, answer)
