"""Base class for recipes that rewrite given rows: the last message of each, in its conversation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datagen.given_rows import GivenRows
from datagen.recipe import Seed, each_once
from datagen.worded_recipe import WordedRecipe
from warehouse.catalog import ADDED_LATER
from warehouse.inputs.question_wording import Language
from warehouse.inputs.rows import Row, question_messages
from warehouse.records import Message

TRIES = 3
"""Of a structured reply."""


@dataclass(frozen=True)
class RewrittenRows(WordedRecipe, GivenRows):
    """A recipe whose seeds are rows with their references, each question with its passage once."""

    split: Literal["all", "train"] | None = field(default=None, metadata=ADDED_LATER)

    def rows(self, folder: Path) -> Iterator[Row]:
        """The rows, each question with its passage once, so that `limit` counts no copies."""
        return each_once(super().rows(folder), lambda row: row.row_id)

    def value_of(self, row: Row) -> dict[str, Any]:
        """Its messages, reference and passage."""
        return {"messages": row.messages, "reference": row.reference, "passage": row.passage}

    def question_of(self, seed: Seed) -> str:
        """The last message of a row, without its passage."""
        return str(seed.value["messages"][-1]["content"])

    def messages_of(self, seed: Seed, question: str | None = None) -> list[Message]:
        """What a row is shown as, with its passage; `question` stands for its last message."""
        messages = [dict(message) for message in seed.value["messages"]]
        if question is not None:
            messages[-1]["content"] = question
        language: Language = "zh" if self.language == "zh" else "en"
        passage = seed.value["passage"]
        row = Row(messages[-1]["content"], messages, passage=passage, language=language)
        return question_messages(row)
