"""Read the rows that a recipe asks: the options for it, and one seed for each row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

from datagen.recipe import PromptRecipe, Seed, options_that_matter
from datagen.wording import Wording
from warehouse.catalog import ADDED_LATER, name_of
from warehouse.inputs.prompt_sources import (
    PromptSources,
    check_sources,
    read_prompts,
    row_files,
)
from warehouse.inputs.question_wording import LANGUAGES
from warehouse.inputs.rows import (
    Row,
    RowSource,
    choice_messages,
    question_messages,
)
from warehouse.records import Message, Prompt
from warehouse.text.lettered import LETTERS


@dataclass(frozen=True)
class GivenRows(PromptRecipe):
    """A recipe that asks the rows of a data set or of a file, and never those that are held out."""

    prompts: PromptSources
    """A data set's name, "hf:org/name", or a JSON, CSV, Parquet or Excel file with `prompt` or
    `messages`; or several with weights: [{path = "a.jsonl", weight = 2}, {path = "b.jsonl"}]."""
    columns: dict[str, str] | None = field(default=None, metadata=ADDED_LATER)
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


@dataclass(frozen=True)
class RowRecipe(GivenRows):
    """One seed for each row, with wording from templates.

    A seed's value is what is asked of the row, without the recipe's options: another option that
    asks nothing else draws the same from `seed.random`, and pays for nothing again.
    """

    target: int | None = None
    """Stop once so many examples are ok; left out, every row is asked."""
    max_calls: int | None = None
    """Stop after so many calls, those that were paid for before included."""
    language: str = "en"
    """The language of the recipe's wording: "en", "zh", or another one with a `template`."""
    template: str | None = None
    """A file with your own wording, in place of the shipped one."""

    @abstractmethod
    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The messages of the first call for a row, with the draws of a seed."""

    def context(self, row: Row, folder: Path) -> list[Message]:
        """What the teacher is told before a row's question; nothing by default."""
        return []

    def random_of(self, row: Row) -> Random:
        """The draws of a row's seed, from their beginning."""
        return self._seed_of(row, 0).random

    def value_of(self, row: Row) -> dict[str, Any]:
        """What is asked of a row; rows with the same value are one seed."""
        value: dict[str, Any] = {"messages": row.messages}
        if row.passage is not None:
            value["passage"] = row.passage
        if row.choices:
            value["choices"] = list(row.choices)
        return value

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """One for each row; a row that comes again is the same seed."""
        seen: set[bytes] = set()
        for row in islice(self.rows(folder), self.limit):
            seed = self._seed_of(row, len(seen))
            key = bytes.fromhex(seed.seed_id)
            if key not in seen:
                seen.add(key)
                yield replace(seed, prompt=self.ask_row(row, folder))

    def ask_all(self, folder: Path) -> Iterator[Prompt]:
        """One prompt for each row: its first call."""
        for seed in self.seeds(folder, {}):
            assert seed.prompt is not None
            yield seed.prompt

    def ask_row(self, row: Row, folder: Path) -> Prompt:
        """The first call for a row; the student's question is that of the row."""
        return Prompt.of(
            recipe=name_of(self),
            recipe_options=options_that_matter(self),
            messages=self.ask_first(row, self.random_of(row), folder),
            student_messages=self.student_question(row, folder),
            question=row.prompt,
            reference=row.reference,
            passage=row.passage,
            source=row.source,
            row=row.extra,
        )

    def row_of(self, seed: Seed) -> Row:
        """The row of a seed, with its reference."""
        assert seed.prompt is not None
        value = seed.value
        return Row(
            prompt=seed.prompt.question,
            messages=value["messages"],
            reference=seed.prompt.reference,
            passage=value.get("passage"),
            source=seed.source,
            choices=tuple(value.get("choices", ())),
        )

    def student_question(self, row: Row, folder: Path) -> list[Message]:
        """What the student is asked of a row."""
        return self.question(row)

    def question(
        self, row: Row, passage: bool = True, choices: Sequence[str] = ()
    ) -> list[Message]:
        """A row's messages in the words of the language: its passage before the last one, lettered
        options after it."""
        if self.language in LANGUAGES:
            row = replace(row, language=self.language)
            if choices:
                return choice_messages(row, choices, passage)
            return question_messages(row, passage)
        messages = question_messages(row, passage=False)
        options = [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
        asked = "\n".join([messages[-1]["content"], *options])
        messages[-1]["content"] = f"{row.passage}\n\n{asked}" if passage and row.passage else asked
        return messages

    def wording(self, folder: Path) -> Wording:
        """The recipe's texts, in its language or from the user's template."""
        return Wording(name_of(self), self.language, self.template, folder)

    def _seed_of(self, row: Row, order: int) -> Seed:
        return Seed(self.value_of(row), row.source, order)


def with_system(text: str, messages: Sequence[Message]) -> list[Message]:
    """A conversation under a system message; one that it has follows in the same message, since
    many chat templates take a single one."""
    own = [message["content"] for message in messages[:1] if message["role"] == "system"]
    content = "\n\n".join([text, *own])
    return [{"role": "system", "content": content}, *messages[len(own) :]]
