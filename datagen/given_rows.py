"""Base class for recipes that start from given rows: the options for them, and the way to seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from datagen.recipe import Recipe, Seed, each_once
from warehouse.inputs.prompt_sources import (
    PromptSources,
    check_sources,
    read_prompts,
    row_files,
)
from warehouse.inputs.rows import Row, RowSource, question_messages
from warehouse.records import Prompt


@dataclass(frozen=True)
class GivenRows(Recipe):
    """A recipe that asks the rows of a data set or of a file, and never those that are held out."""

    prompts: PromptSources
    """A data set's name, "hf:org/name", or a JSON, CSV, Parquet or Excel file with `prompt` or
    `messages`; or several with weights: [{path = "a.jsonl", weight = 2}, {path = "b.jsonl"}]."""
    columns: dict[str, str] | None = None
    """Columns of the file by what they are: {prompt = "Frage", reference = "Antwort"}."""
    split: Literal["all", "train"] | None = None
    """Which rows are asked. Unset: "train" where some are held out, else "all"."""
    holdout: float | None = None
    """Share of passages kept for evaluation, 0..1. Unset: the data set's own, 0 for a file."""
    limit: int | None = None
    """Ask at most this many rows."""

    def __post_init__(self) -> None:
        check_sources(self.prompts, self.columns, self.split, self.holdout, self.limit)

    def rows(self, folder: Path) -> Iterator[Row]:
        """The rows of the split, in the order of the source, or of several mixed by weights."""
        return read_prompts(self.prompts, folder, self.split, self.holdout, self.columns)

    def row_sources(self) -> list[RowSource]:
        """The files of its rows; nothing where they are a data set's."""
        return row_files(self.prompts, self.columns)

    def value_of(self, row: Row) -> dict[str, Any]:
        """What is asked of a row; rows with the same value are one seed."""
        return {"messages": question_messages(row)}

    def prompt_of(self, row: Row, folder: Path) -> Prompt | None:
        """The record of a row's seed, where its first call is known beforehand."""
        return None

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """One for each row, up to `limit` rows; a row that comes again is the same seed."""
        rows = islice(self.rows(folder), self.limit)
        found = ((Seed(self.value_of(row), row.source), row) for row in rows)
        for order, (seed, row) in enumerate(each_once(found, lambda pair: pair[0].seed_id)):
            yield replace(seed, order=order, prompt=self.prompt_of(row, folder))
