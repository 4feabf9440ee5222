"""Recipes of several calls for tests of the engine: a chain of steps, and a pool that grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datagen.ask import Ask
from datagen.recipe import Example, PoolRecipe, Recipe, Seed
from datagen.reply_status import status_of


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Chain(Recipe):
    """Each seed asks `steps` calls, each about the reply before it."""

    version: ClassVar[str] = "1"
    seeds_wanted: int = 10
    """Number of seeds."""
    steps: int = 3
    """Calls of each seed."""
    is_named: bool = False
    """Whether each call names its seed, so that equal replies make no equal calls."""
    last: str = ""
    """Words in the last call alone."""
    target: int | None = None
    """Stop once so many examples are ok."""
    max_calls: int | None = None
    """Stop after so many calls."""

    @property
    def calls_expected(self) -> tuple[int, int]:
        return (self.steps, self.steps)

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        for number in range(self.seeds_wanted):
            yield Seed(number, order=number)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        text = f"seed {seed.value} draws {seed.random.randrange(100)}"
        for step in range(self.steps):
            words = self.last if step == self.steps - 1 else ""
            which = f" of {seed.value}" if self.is_named else ""
            reply = await ask(user(f"step {step}{which}{words}: {text}"))
            status, reason = status_of(reply)
            if status != "ok":
                yield Example([], reply.text, status=status, reason=reason)
                return
            text = reply.text
        yield Example(user(f"question {seed.value}"), text, facts={"seed": seed.value})


@dataclass(frozen=True)
class Growing(PoolRecipe):
    """Each round asks about the last two members of the pool; equal replies may not join."""

    version: ClassVar[str] = "1"
    rounds: int = 3
    """Number of rounds."""
    round_size: int = 4
    """Seeds of a round."""
    target: int | None = None
    """Stop once so many examples are ok."""
    max_calls: int | None = None
    """Stop after so many calls."""

    def begin(self, folder: Path) -> Sequence[Example]:
        return [Example(user("first"), "zero")]

    def next_round(self, number: int, pool: Sequence[Example]) -> Sequence[Seed]:
        if number >= self.rounds:
            return []
        shown = [example.completion for example in pool[-2:]]
        return [Seed({"round": number, "place": n, "shown": shown}) for n in range(self.round_size)]

    def admit(self, made: Example, pool: Sequence[Example]) -> str | None:
        return "is there already" if made.completion in {e.completion for e in pool} else None

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        value = seed.value
        first = await ask(user(f"round {value['round']} place {value['place']}: {value['shown']}"))
        reply = await ask(user(f"again: {first.text}"))
        status, reason = status_of(reply)
        shown = user(f"from {value['shown']}")
        yield Example(shown, reply.text, status=status, reason=reason)


async def both(ask: Ask, one: str, other: str) -> list[str]:
    """Two replies side by side."""
    replies = await asyncio.gather(ask(user(one)), ask(user(other)))
    return [reply.text for reply in replies]
