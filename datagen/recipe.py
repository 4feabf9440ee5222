"""Define the recipe interface: one durable coroutine per seed makes training examples.

A recipe is plain sequential code. Every `await ask(...)` is a call to the teacher that is made
once, ever: calls are known by their content (teacher, messages, sampling), so a restart replays
those that were paid for, and an edit of the third step asks the third step alone.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from warehouse.catalog import name_of, options_of
from warehouse.inputs.documents import DocumentSource
from warehouse.inputs.rows import Row, RowSource
from warehouse.records import Message, Prompt, make_id

if TYPE_CHECKING:
    from datagen.ask import Ask

T = TypeVar("T")

DRIVER_OPTIONS = ("target", "max_calls")
"""Options of every recipe that say how much is made, not what: they enter no id."""


def options_that_matter(recipe: Recipe) -> dict[str, Any]:
    """The options of a recipe that shape what it makes, as its records have them."""
    return {k: v for k, v in options_of(recipe).items() if k not in DRIVER_OPTIONS}


STATUSES = ("ok", "refused", "truncated", "invalid")


@dataclass(frozen=True)
class Seed:
    """What one coroutine starts from."""

    value: Any
    """JSON-able; with it everything the seed asks is determined."""
    source: str = ""
    """The file or data set it comes from, and where in it."""
    order: int = 0
    """Its place among all seeds; cuts and pools go by it, never by the time of arrival."""
    prompt: Prompt | None = None
    """The record of a seed that is one prompt for the teacher (`PromptRecipe`)."""

    @cached_property
    def seed_id(self) -> str:
        """Hash of the value."""
        return make_id("seed", self.value)

    @cached_property
    def random(self) -> random.Random:
        """The only randomness of a recipe: the same draws for the same value, on any day."""
        return random.Random(int(self.seed_id, 16))


def each_once(items: Iterable[T], id_of: Callable[[T], str]) -> Iterator[T]:
    """Leave out each item whose id came before.

    Args:
        items: Are read lazily.
        id_of: Gives an item's id: hexadecimal, of which half the memory is needed as bytes.
    """
    seen: set[bytes] = set()
    for item in items:
        key = bytes.fromhex(id_of(item))
        if key not in seen:
            seen.add(key)
            yield item


@dataclass(frozen=True)
class Example:
    """What a recipe yields; the engine adds ids, calls and where it comes from."""

    messages: Sequence[Message]
    """What the student sees."""
    completion: str
    """What the student should say."""
    question: str = ""
    """The question alone, for scorers and duplicates; left out, the last message."""
    reference: Sequence[str] = ()
    passage: str | None = None
    status: str = "ok"
    """ok, refused, truncated or invalid."""
    reason: str | None = None
    """Why it is not ok."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else belongs to it, such as a plan, a persona or a rejected reply; JSON-able."""
    call_id: str | None = None
    """The call whose text is the completion, such as one of several draws; else the last one."""


class Recipe(ABC):
    """One file in datagen/recipes; dataclass fields are its options.

    `make` may use what it is given alone: no chance but `seed.random`, no clock, no order of sets
    or of arrival, no state that seeds share. Otherwise a restart would ask for other calls, and pay
    for them; the engine stops before that.
    """

    target: int | None
    max_calls: int | None

    version: ClassVar[str]
    """Of the code; it enters the ids of samples, not those of calls."""
    revision: ClassVar[int] = 0
    """Raised where the code of a shipped recipe now asks other calls about the same seeds, so that
    finished ones that want them are no mistake; it enters no id of calls or samples."""
    has_tools: ClassVar[bool] = False
    """Whether its samples have tools, which the base's chat template has to know."""
    calls_per_seed: ClassVar[tuple[int, int]] = (1, 1)
    """The least and the most calls of one seed, for the estimate."""

    @property
    def calls_expected(self) -> tuple[int, int]:
        """`calls_per_seed`, where it depends on the options."""
        return self.calls_per_seed

    @property
    def draws(self) -> int:
        """Most replies to the same messages; more than one need a temperature above 0."""
        return int(getattr(self, "n", 1))

    async def prepare(self, folder: Path, ask: Ask) -> dict[str, Any]:
        """Make what all seeds share, such as demonstrations or mined actions; nothing by default.

        Args:
            folder: Where the plan's relative paths start.
            ask: The teacher; it may be asked here too.

        Returns:
            JSON-able; `ask.prepared` in `make`.
        """
        return {}

    @abstractmethod
    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """Yield the seeds lazily, in a fixed order; without end only where there is a `target`."""

    @abstractmethod
    def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Ask the teacher and yield examples, also those that are not ok, each with its reason.

        Raises:
            Unanswered: from `ask`, left to the engine: the seed has no examples for now.
        """

    def why_empty(self, folder: Path) -> str | None:
        """Why its data give no seed at all, for `distill check`; None where that is not known."""
        return None

    def why_not_asked(self, seed: Seed) -> str | None:
        """Why nothing is asked about a seed, as its value alone tells; None where something is.

        `make` yields an invalid example with this reason; `distill check` says it beforehand.
        """
        return None

    def row_sources(self) -> list[RowSource]:
        """The user's files of rows that it reads, for `distill check`; none by default."""
        return []

    def document_sources(self) -> list[DocumentSource]:
        """The user's documents that it reads, for `distill check`: those of its option `documents`.

        They are cut into passages of `words` words; a recipe without this option takes them whole.
        """
        documents = getattr(self, "documents", None)
        if not documents:
            return []
        patterns = (documents,) if isinstance(documents, str) else tuple(documents)
        language = getattr(self, "language", "en")
        return [DocumentSource(patterns, getattr(self, "words", None), language=language)]

    def student_tools(self, folder: Path) -> list[dict[str, Any]]:
        """The tools that a student of its samples may be given, as JSON schemas; none by default.

        Raises:
            DataError: a file of tools is missing or malformed.
        """
        return []

    def input_files(self, folder: Path) -> list[Path]:
        """Files that shape the prompts beside the seeds: the user's own `template`, where it has one.

        When one of them changes, other calls than before are no mistake.
        """
        template = getattr(self, "template", None)
        return [folder / template] if template else []

    def record(self, seed: Seed) -> Prompt:
        """The record of a seed: its id hashes the recipe, its options and the seed's value."""
        if seed.prompt is not None:
            return seed.prompt
        return Prompt.of(
            recipe=name_of(self),
            recipe_options={**options_that_matter(self), "seed": seed.value},
            messages=[],
            question="",
            source=seed.source,
        )


class PromptRecipe(Recipe):
    """A recipe whose seeds are prompts that are known before anything is asked.

    The questions of `distill check` and the contestant `teacher+recipe` need that.
    """

    @abstractmethod
    def ask_all(self, folder: Path) -> Iterator[Prompt]:
        """Prompts for the teacher; `folder` is where the plan's relative paths start."""

    @abstractmethod
    def ask_row(self, row: Row, folder: Path) -> Prompt:
        """The prompt for one row, as `ask_all` makes it."""

    @abstractmethod
    def context(self, row: Row, folder: Path) -> list[Message]:
        """What the teacher is shown before a row's question: instruction and worked examples."""

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """A seed for each prompt; a prompt that comes again is one seed."""
        prompts = each_once(self.ask_all(folder), lambda prompt: prompt.prompt_id)
        for order, prompt in enumerate(prompts):
            yield Seed(prompt.prompt_id, prompt.source, order, prompt)


class PoolRecipe(Recipe):
    """A recipe whose seeds are drawn from what was made before, in rounds.

    A round is a barrier: its seeds depend on the pool as the round before left it. A finished
    round is sealed, so that a call that failed then and succeeds now changes nothing after it.
    """

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """None: the rounds have them."""
        return iter(())

    @abstractmethod
    def begin(self, folder: Path) -> Sequence[Example]:
        """The pool at the start, such as seed tasks that people wrote; they are no samples."""

    @abstractmethod
    def next_round(self, number: int, pool: Sequence[Example]) -> Sequence[Seed]:
        """The seeds of a round, from 0 on; none ends it."""

    def why_no_more(self, number: int, pool: Sequence[Example]) -> str:
        """Why round `number` has no seeds, for the end of a run: in words, with what to do."""
        return "the pool gives no more seeds"

    @abstractmethod
    def admit(self, made: Example, pool: Sequence[Example]) -> str | None:
        """Why an ok example may not join the pool; None where it may.

        Examples are admitted in the order of their seeds. One that may not join is kept as an
        invalid sample with the reason.
        """
