"""Define the context interface: the messages around a question put to a contestant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datagen.recipe import Recipe
from quality.tasks.benchmark import Item
from warehouse.records import Message, Sample


@dataclass(frozen=True)
class Sources:
    """What contexts draw from: the training selection, the plan's recipe, and its folder."""

    recipe: Recipe
    folder: Path
    kept: Sequence[Sample] = field(default_factory=list)


class Context(ABC):
    """One file in distill/contexts; dataclass fields are its options."""

    needs_selection: bool = False
    """Whether it draws from the training selection."""
    searches: bool = False
    """Whether it searches for something related to each item, and may find nothing."""

    def ready(self, sources: Sources) -> None:  # noqa: B027
        """Check that its sources are available, before any request.

        Raises:
            DataError: they are not.
        """

    @abstractmethod
    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The conversation for each item; deterministic."""

    @abstractmethod
    def description(self) -> str:
        """One phrase for the report: what is shown with the question."""


def as_turns(samples: Sequence[Sample]) -> list[Message]:
    """Training examples as turns of a conversation."""
    turns: list[Message] = []
    for sample in samples:
        turns += [*sample.messages, {"role": "assistant", "content": sample.completion}]
    return turns


def before_question(messages: Sequence[Message], text: str) -> list[Message]:
    """The conversation with a text before its last question."""
    *first, last = messages
    return [*first, {**last, "content": f"{text}\n\n{last['content']}"}]
