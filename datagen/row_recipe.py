"""Base class for recipes whose first call for each given row is known before anything is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from datagen.given_rows import GivenRows
from datagen.recipe import PromptRecipe, Seed, options_that_matter
from datagen.worded_recipe import WordedRecipe
from warehouse.catalog import ADDED_LATER, name_of
from warehouse.inputs.question_wording import LANGUAGES
from warehouse.inputs.rows import Row, choice_messages, question_messages
from warehouse.records import Message, Prompt
from warehouse.text.lettered import LETTERS


@dataclass(frozen=True)
class RowRecipe(WordedRecipe, GivenRows, PromptRecipe):
    """One seed for each row, with wording from templates.

    A seed's value is what is asked of the row, without the recipe's options: another option that
    asks nothing else draws the same from `seed.random`, and pays for nothing again.
    """

    columns: dict[str, str] | None = field(default=None, metadata=ADDED_LATER)

    @abstractmethod
    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The messages of the first call for a row, with the draws of a seed."""

    def context(self, row: Row, folder: Path) -> list[Message]:
        """What the teacher is told before a row's question; nothing by default."""
        return []

    def random_of(self, row: Row) -> Random:
        """The draws of a row's seed, from their beginning."""
        return Seed(self.value_of(row)).random

    def value_of(self, row: Row) -> dict[str, Any]:
        """What is asked of a row; rows with the same value are one seed."""
        value: dict[str, Any] = {"messages": row.messages}
        if row.passage is not None:
            value["passage"] = row.passage
        if row.choices:
            value["choices"] = list(row.choices)
        return value

    def prompt_of(self, row: Row, folder: Path) -> Prompt:
        """The first call for a row."""
        return self.ask_row(row, folder)

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


def with_system(text: str, messages: Sequence[Message]) -> list[Message]:
    """A conversation under a system message; one that it has follows in the same message, since
    many chat templates take a single one."""
    own = [message["content"] for message in messages[:1] if message["role"] == "system"]
    content = "\n\n".join([text, *own])
    return [{"role": "system", "content": content}, *messages[len(own) :]]
