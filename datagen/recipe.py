"""Define the recipe interface: seeds to teacher prompts, calls to student samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from datagen.teacher import Reply
from warehouse.inputs.rows import Row, RowSource
from warehouse.records import Message, Prompt, Sample


class Recipe(ABC):
    """One file in datagen/recipes; dataclass fields are its options."""

    version: ClassVar[str]

    @abstractmethod
    def ask_all(self, folder: Path) -> Iterator[Prompt]:
        """Prompts for the teacher; `folder` is where the plan's relative paths start."""

    @abstractmethod
    def ask(self, row: Row, folder: Path) -> Prompt:
        """The prompt for one row, as `ask_all` makes it; how a teacher is shown held-out items."""

    @abstractmethod
    def context(self, row: Row, folder: Path) -> list[Message]:
        """What the teacher is shown before a row's question: instruction and worked examples."""

    def row_sources(self) -> list[RowSource]:
        """The user's files of rows that it reads, for `distill check`; none by default."""
        return []

    @abstractmethod
    def samples(self, prompt: Prompt, reply: Reply) -> Iterator[Sample]:
        """Parse and validate one reply; every reply gives at least one sample, with a status."""
