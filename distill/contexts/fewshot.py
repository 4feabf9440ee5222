"""Put the same worked examples before every question."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from distill.contestants.context import Context, Sources, as_turns
from quality.tasks.benchmark import Item
from warehouse.errors import NothingToDoError
from warehouse.records import Message, Sample


@dataclass(frozen=True)
class Fewshot(Context):
    """k training examples, the same for every question (Brown et al., 2020, section 2)."""

    needs_selection = True

    k: Annotated[int, Field(ge=1)] = 4
    """Worked examples."""

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The examples, then each item's messages.

        Raises:
            NothingToDoError: the selection is smaller than k.
        """
        turns = as_turns(self._chosen(sources.kept))
        return [[*turns, *item.messages] for item in items]

    def description(self) -> str:
        """How many there are."""
        return f"{self.k} training examples, the same ones each time, then the question"

    def _chosen(self, selection: Sequence[Sample]) -> list[Sample]:
        """The first ones by id of those that are not longer than most: context is paid for."""
        if len(selection) < self.k:
            raise NothingToDoError(
                f"{len(selection)} training examples are kept, and context 'fewshot' shows {self.k}; "
                "lower k in evaluate.contexts"
            )
        sizes = {sample.sample_id: _size(sample) for sample in selection}
        median_size = statistics.median(sizes.values())
        ordered = sorted(
            selection, key=lambda sample: (sizes[sample.sample_id] > median_size, sample.sample_id)
        )
        return ordered[: self.k]


def _size(sample: Sample) -> int:
    return len(sample.completion) + sum(len(str(message["content"])) for message in sample.messages)
