"""Build imitation samples: the teacher answers questions, the student learns its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from datagen.ask import Ask
from datagen.given_rows import GivenRows
from datagen.recipe import Example, PromptRecipe, Seed, options_that_matter
from datagen.reply_status import status_of
from datagen.teacher import Reply
from warehouse.catalog import ADDED_LATER, name_of
from warehouse.errors import DataError
from warehouse.inputs.prompt_sources import describe
from warehouse.inputs.question_wording import Language
from warehouse.inputs.rows import Row, in_language, question_messages
from warehouse.records import Message, Prompt
from warehouse.text.words import contains_tokens, count_words, split_form, tokens
from warehouse.wording import format_count

EXAMPLE_WORDS = 3
EXAMPLE_PASSAGE_CHARS = 300


@dataclass(frozen=True)
class Imitation(PromptRecipe, GivenRows):
    """Question -> the teacher's answer, as the student's completion.

    Sequence-level distillation on given prompts (Kim and Rush 2016, section 3.2: train
    the student on the teacher's decoded output). Worked examples go to the teacher only:
    the student learns to answer without them.
    """

    version: ClassVar[str] = "1"

    columns: dict[str, str] | None = field(default=None, metadata=ADDED_LATER)
    n: int = 1
    """Replies per row, each with a seed of its own; more than 1 needs a temperature above 0."""
    examples: int = 0
    """Worked examples before each question, from rows with a short reference; never also asked."""
    instruction: str | None = None
    """A system message for the teacher."""
    student_sees_passage: bool = True
    """Whether the student's question holds the passage too."""
    max_answer_words: int | None = None
    """A longer answer is marked invalid."""
    target: int | None = field(default=None, metadata=ADDED_LATER)
    """Stop once so many examples are ok; left out, every row is asked."""
    max_calls: int | None = field(default=None, metadata=ADDED_LATER)
    """Stop after so many calls, those that were paid for before included."""
    language: Language = field(default="en", metadata=ADDED_LATER)
    """The words around a question, "en" or "zh". Unset: the plan's `language`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError("n is 1 or more")
        if self.examples < 0:
            raise ValueError("examples is 0 or more")
        if self.max_answer_words is not None and self.max_answer_words < 1:
            raise ValueError("max_answer_words is 1 or more; leave it out for no limit")

    def ask_all(self, folder: Path) -> Iterator[Prompt]:
        """`n` prompts per row of the split, worked examples left out, up to `limit` rows.

        Raises:
            DataError: too few rows are fit for worked examples.
        """
        example_ids = {example.row_id for example in self._examples(folder)}
        rows = self._rows(folder)
        if example_ids:
            rows = (row for row in rows if row.row_id not in example_ids)
        for row in islice(rows, self.limit):
            for number in range(self.n):
                yield self._prompt(row, folder, number or None)

    def ask_row(self, row: Row, folder: Path) -> Prompt:
        """The prompt for one row; a row that is itself a worked example is not shown to itself."""
        return self._prompt(row, folder, None)

    def context(self, row: Row, folder: Path) -> list[Message]:
        """The instruction and the worked examples; no row is shown to itself."""
        messages: list[Message] = []
        if self.instruction:
            messages.append({"role": "system", "content": self.instruction})
        for example in self._examples(folder):
            if example.row_id != row.row_id:
                messages += question_messages(example)
                messages.append({"role": "assistant", "content": example.reference[0]})
        return messages

    def _prompt(self, row: Row, folder: Path, seed: int | None) -> Prompt:
        return Prompt.of(
            recipe=name_of(self),
            recipe_options=self._options,
            messages=[*self.context(row, folder), *question_messages(row)],
            student_messages=question_messages(row, self.student_sees_passage),
            question=row.prompt,
            reference=row.reference,
            passage=row.passage,
            source=row.source,
            seed=seed,
            row=row.extra,
        )

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """One example: the reply's stripped text, and whether it is fit to learn from."""
        prompt = seed.prompt
        assert prompt is not None
        reply = await ask(prompt.messages, draw=prompt.seed or 0)
        status, reason = self._status_of(reply)
        yield Example(prompt.student_messages, reply.text.strip(), status=status, reason=reason)

    def _status_of(self, reply: Reply) -> tuple[str, str | None]:
        status, reason = status_of(reply)
        words = count_words(reply.text)
        if status == "ok" and self.max_answer_words is not None and words > self.max_answer_words:
            why = f"{words} words, more than max_answer_words = {self.max_answer_words}"
            return "invalid", why
        return status, reason

    def _rows(self, folder: Path) -> Iterator[Row]:
        return in_language(self.rows(folder), self.language)

    @cached_property
    def _options(self) -> dict[str, Any]:
        return options_that_matter(self)

    @cached_property
    def _chosen(self) -> dict[Path, list[Row]]:
        return {}

    def _examples(self, folder: Path) -> list[Row]:
        if folder not in self._chosen:
            fit: list[Row] = []
            if self.examples:
                fit = sorted(filter(_is_example, self._rows(folder)), key=lambda row: row.row_id)
                if len(fit) < self.examples:
                    raise DataError(
                        f"{describe(self.prompts)} has {format_count(len(fit), 'row')} fit for worked examples (a reference "
                        f"of at most {EXAMPLE_WORDS} words, found in a passage of under "
                        f"{EXAMPLE_PASSAGE_CHARS} characters); lower examples = {self.examples}"
                    )
            self._chosen[folder] = fit[: self.examples]
        return self._chosen[folder]


def _is_example(row: Row) -> bool:
    """Whether a row has a short answer that is found in its short passage.

    Examples are part of prompts, and so of call ids: the rule of English plans never changes.
    """
    if row.language == "en":
        return _is_english_example(row)
    if not row.reference or not 1 <= count_words(row.reference[0]) <= EXAMPLE_WORDS:
        return False
    if row.passage is None:
        return True
    if len(row.passage) >= EXAMPLE_PASSAGE_CHARS:
        return False
    passage, answer = (tokens(split_form(text)) for text in (row.passage, row.reference[0]))
    return contains_tokens(passage, answer)


def _is_english_example(row: Row) -> bool:
    if not row.reference or not 1 <= len(row.reference[0].split()) <= EXAMPLE_WORDS:
        return False
    if row.passage is None:
        return True
    answer = f" {split_form(row.reference[0])} "
    return len(row.passage) < EXAMPLE_PASSAGE_CHARS and answer in f" {split_form(row.passage)} "
