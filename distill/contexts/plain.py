"""Ask the question alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.contestants.context import Context, Sources
from quality.tasks.benchmark import Item
from warehouse.records import Message


@dataclass(frozen=True)
class Plain(Context):
    """The benchmark's question alone; the default of base and student."""

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The items' own messages."""
        return [item.messages for item in items]

    def description(self) -> str:
        """Nothing beside the question."""
        return "the question as it stands, with no instruction and no worked example"
