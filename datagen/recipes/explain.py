"""Build explanation traces: the teacher answers under varied instructions to explain itself."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

import regex
from pydantic import ConfigDict

from datagen.ask import Ask
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.row_recipe import RowRecipe, with_system
from datagen.wording import Wording
from warehouse.errors import DataError
from warehouse.inputs.rows import Row
from warehouse.records import Message
from warehouse.text.words import count_words

_WEIGHTED = regex.compile(r"\s*(\d+(?:\.\d+)?)\s*[:：]\s*(\S.*)")


@dataclass(frozen=True)
class System:
    """A system instruction, and how often it is drawn."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True
    )

    text: str
    """What the teacher is told."""
    weight: float = 1.0
    """Its share among the weights of all."""


@dataclass(frozen=True)
class Explain(RowRecipe):
    """Answers that explain themselves, each drawn out by one of several system instructions.

    Explanation tuning (Orca: Mukherjee et al. 2023, section 3.1): the instruction, such as to give
    the steps or to explain as to a child, is drawn for each question, so that the student sees
    reasons in many forms and not bare answers.
    """

    version: ClassVar[str] = "1"

    systems: list[System] | None = None
    """Instructions: [{text = "...", weight = 2}, ...]; left out, the shipped ones."""
    student_sees_system: bool = False
    """Whether the student is given the instruction too; else it learns to explain unasked."""
    student_sees_passage: bool = True
    """Whether the student's question holds the passage too."""
    min_words: int = 10
    """A shorter answer explains nothing and is marked invalid (in Chinese, characters)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.systems is not None and (fault := _fault_of(self.systems)):
            raise ValueError(fault)
        if self.min_words < 0:
            raise ValueError("min_words is 0 or more")

    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The instruction that is drawn for the row, then the question."""
        return with_system(self._drawn(random, folder), self.question(row))

    def context(self, row: Row, folder: Path) -> list[Message]:
        """The instruction that is drawn for the row."""
        return [{"role": "system", "content": self._drawn(self.random_of(row), folder)}]

    def student_question(self, row: Row, folder: Path) -> list[Message]:
        """The question, under the instruction where the student sees it."""
        question = self.question(row, self.student_sees_passage)
        if not self.student_sees_system:
            return question
        return with_system(self._drawn(self.random_of(row), folder), question)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """One example: the explanation, with its instruction among the facts."""
        assert seed.prompt is not None
        system = self._drawn(seed.random, ask.folder)
        reply = await ask(with_system(system, self.question(self.row_of(seed))))
        status, reason = status_of(reply)
        words = count_words(reply.text)
        if status == "ok" and words < self.min_words:
            status, reason = "invalid", f"fewer words than min_words = {self.min_words}"
        yield Example(
            seed.prompt.student_messages,
            reply.text.strip(),
            status=status,
            reason=reason,
            facts={"system": system},
        )

    def _drawn(self, random: Random, folder: Path) -> str:
        systems = self.systems or _shipped(self.wording(folder))
        (drawn,) = random.choices(systems, [system.weight for system in systems])
        return drawn.text


def _shipped(wording: Wording) -> list[System]:
    """The instructions of a template's block `systems`, one in a line: "weight: text".

    Raises:
        DataError: a line has another form.
    """
    systems = []
    for line in wording.text("systems").splitlines():
        if not line.strip():
            continue
        found = _WEIGHTED.fullmatch(line)
        if found is None:
            raise DataError(
                f"block 'systems' has the line '{line.strip()}'; write each as 'weight: instruction', "
                "such as '2: Explain step by step.'"
            )
        systems.append(System(found[2].strip(), float(found[1])))
    if fault := _fault_of(systems):
        raise DataError(f"block 'systems': {fault}")
    return systems


def _fault_of(systems: Sequence[System]) -> str | None:
    if not systems or not all(system.text.strip() for system in systems):
        return 'systems are one or more of {text = "...", weight = 1}, none with an empty text'
    weights = [system.weight for system in systems]
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
        return "weights are 0 or more, and not all of them 0"
    return None
