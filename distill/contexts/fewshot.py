"""Put the same worked examples before every question."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from distill.contestants.context import Context, Sources, in_turns
from quality.tasks.benchmark import Item
from warehouse.errors import NothingToDoError
from warehouse.records import Message, Sample


@dataclass(frozen=True)
class Fewshot(Context):
    """k training examples, the same for every question (Brown et al., 2020, section 2)."""

    needs_selection = True

    k: int = 4
    """Worked examples."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k is 1 or more")

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The examples, then each item's messages.

        Raises:
            NothingToDoError: the selection is smaller than k.
        """
        turns = in_turns(self._chosen(sources.kept))
        return [[*turns, *item.messages] for item in items]

    def description(self) -> str:
        """How many there are."""
        return f"{self.k} training examples, the same ones each time, then the question"

    def _chosen(self, kept: Sequence[Sample]) -> list[Sample]:
        """The first ones by id of those that are not longer than most: context is paid for."""
        if len(kept) < self.k:
            raise NothingToDoError(
                f"{len(kept)} training examples are kept, and context 'fewshot' shows {self.k}; "
                "lower k in evaluate.contexts"
            )
        sizes = {sample.sample_id: _size(sample) for sample in kept}
        middle = statistics.median(sizes.values())
        ordered = sorted(kept, key=lambda one: (sizes[one.sample_id] > middle, one.sample_id))
        return ordered[: self.k]


def _size(sample: Sample) -> int:
    return len(sample.completion) + sum(len(str(one["content"])) for one in sample.messages)
