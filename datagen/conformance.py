"""Check that a recipe keeps the contract of all recipes.

Each function raises AssertionError with the fault, so it works with any test runner.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from datagen.engine import Engine
from datagen.pool import admit
from datagen.recipe import STATUSES, PoolRecipe, PromptRecipe, Recipe, Seed
from datagen.request_queue import RequestSource
from datagen.seed_outcome import SeedOutcome
from datagen.spending.limits import Budget
from datagen.spending.pricing import FREE, Price
from datagen.teacher import Reply, Request, Sampling
from warehouse.catalog import name_of
from warehouse.inputs.rows import Row
from warehouse.records import Call, Failure, Message, Prompt, Sample

STRANGE_REPLIES = ("", " \n\t ", "\x00\x07", "I cannot help with that.", "{", "[[[", "x" * 100_000)  # fmt: skip
"""Replies that a recipe must cope with."""

_ROLES = ("system", "user", "assistant", "tool")
_ROW = Row("What colour is the sky?", [{"role": "user", "content": "What colour is the sky?"}])

Say = Callable[[Sequence[Message]], str]
"""What a fake teacher replies to a conversation."""


@dataclass
class FakeTeacher:
    """Replies by a function, each after a wait of its own; also the memory of what it was asked."""

    say: Say
    finish_reason: str = "stop"
    waits: random.Random | None = None
    asked: list[Request] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    identity: str = "conformance"
    price: ClassVar[Price] = FREE

    async def stream(
        self, requests: RequestSource, budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request, in the order of the waits."""
        replies: asyncio.Queue[Reply | None] = asyncio.Queue()
        tasks = []

        async def reply_to(request: Request) -> None:
            for _ in range(self.waits.randrange(20) if self.waits else 0):
                await asyncio.sleep(0)
            text = self.say(request.messages)
            replies.put_nowait(Reply(request, text, self.finish_reason))

        async def take() -> None:
            while (request := await requests.next()) is not None:
                self.asked.append(request)
                tasks.append(asyncio.create_task(reply_to(request)))
            await asyncio.gather(*tasks)
            replies.put_nowait(None)

        taking = asyncio.create_task(take())
        try:
            while (reply := await replies.get()) is not None:
                yield reply
        finally:
            taking.cancel()

    async def find(self, requests: Sequence[Request]) -> dict[str, Call]:
        """What it was asked before."""
        return {r.call_id: self.calls[r.subject] for r in requests if r.subject in self.calls}

    def refusal_of(self, request: Request) -> str | None:
        """Nothing is refused."""
        return None

    def keep(self, record: Call | Failure, reply: Reply) -> None:
        """Remember a call, by its request's subject; a failure is none."""
        if isinstance(record, Call):
            self.calls[reply.request.subject] = record


def run_recipe(
    recipe: Recipe, folder: Path, teacher: FakeTeacher, few: int = 20, rounds: int = 2
) -> list[SeedOutcome]:
    """Run the first seeds of a recipe, or its first rounds, against a fake teacher."""

    async def go() -> list[SeedOutcome]:
        engine = Engine(
            identity=teacher.identity,
            teacher=teacher,  # type: ignore[arg-type]
            sampling=Sampling(),
            longest=None,
            folder=folder,
            budget=Budget(),
            ledger=teacher,
            run_id="conformance",
        )
        prepared = await engine.prepare(recipe)
        assert prepared is not None

        async def run(seeds: Sequence[Seed]) -> list[SeedOutcome]:
            async with aclosing(engine.run(recipe, iter(seeds), prepared)) as outcomes:
                arrived = [outcome async for outcome in outcomes]
            return sorted(arrived, key=lambda outcome: outcome.seed.order)

        if not isinstance(recipe, PoolRecipe):
            return await run(list(islice(recipe.seeds(folder, prepared), few)))
        pool = list(recipe.begin(folder))
        done: list[SeedOutcome] = []
        for number in range(rounds):
            seeds = recipe.next_round(number, pool)
            outcomes = await run([replace(s, order=n) for n, s in enumerate(seeds)])
            admit(recipe, outcomes, pool)
            done += outcomes
        return done

    return asyncio.run(go())


def check_recipe(
    recipe: Recipe,
    folder: Path,
    replies: Sequence[str] | Say = ("blue",),
    few: int = 20,
) -> list[Sample]:
    """Run a recipe against a fake teacher and check the contract of a recipe.

    The same seeds and the same calls each time, whatever the order in which replies arrive; no
    seed fails on any reply, however strange, and none is silently without a sample; each sample
    has a status, and a reason where that is not ok; never an ok sample of an empty or a cut reply.

    Args:
        recipe: The recipe.
        folder: Where its relative paths start.
        replies: Valid replies, each of which must give an ok sample; or a function from the
            messages to a valid reply, for a recipe of several calls.
        few: Number of seeds to check.

    Returns:
        The samples of the first seed for each valid reply.
    """
    _require(isinstance(recipe.version, str), "version is not a text")
    _check_seeds(recipe, folder, few)
    says = [replies] if callable(replies) else [_always(text) for text in replies]
    for text in STRANGE_REPLIES:
        for outcome in run_recipe(recipe, folder, FakeTeacher(_always(text)), few, rounds=1):
            for sample in _checked(recipe, outcome, repr(text[:20])):
                _require(
                    bool(sample.completion.strip()) or sample.status != "ok",
                    f"an ok sample of the reply {text[:20]!r}, whose completion is empty",
                )
    accepted: list[Sample] = []
    for say in says:
        cut = FakeTeacher(_cut(say), finish_reason="length")
        for outcome in run_recipe(recipe, folder, cut, few, rounds=1):
            for sample in _checked(recipe, outcome, "a cut reply"):
                _require(
                    sample.status != "ok",
                    "ok of a reply that reached max_tokens; call it truncated",
                )
        first, again = (FakeTeacher(say, waits=random.Random(number)) for number in (1, 2))
        outcomes = run_recipe(recipe, folder, first, few)
        others = run_recipe(recipe, folder, again, few)
        _require(
            set(first.calls) == set(again.calls),
            "other calls when replies arrive in another order; draw from seed.random alone",
        )
        ids, other_ids = (
            [s.sample_id for o in each for s in o.samples] for each in (outcomes, others)
        )
        _require(ids == other_ids, "other samples when replies arrive in another order")
        _require(len(first.asked) == len(first.calls), "a call was asked twice")
        replayed = FakeTeacher(say, calls=first.calls)
        run_recipe(recipe, folder, replayed, few)
        _require(not replayed.asked, "a second run asks for other calls, and would pay again")
        samples = [sample for o in outcomes for sample in _checked(recipe, o, "a valid reply")]
        ok = [sample for sample in samples if sample.status == "ok"]
        why = next((s.status_reason for s in samples if s.status != "ok"), "there are no samples")
        _require(bool(ok), f"no ok sample of a valid reply: {why}")
        accepted += [s for o in outcomes[:1] for s in o.samples] or ok[:1]
    return accepted


def _check_seeds(recipe: Recipe, folder: Path, few: int) -> None:
    least, most = recipe.calls_expected
    _require(0 <= least <= most, f"calls_expected is {least} to {most}")
    if isinstance(recipe, PoolRecipe):
        pool = list(recipe.begin(folder))
        seeds, again = ([seed.seed_id for seed in recipe.next_round(0, pool)] for _ in range(2))
    else:
        seeds, again = (
            [seed.seed_id for seed in islice(recipe.seeds(folder, {}), few)] for _ in range(2)
        )
    _require(bool(seeds), "there are no seeds")
    _require(seeds == again, "other seeds each time; draw from a seed, not from chance")
    _require(len(set(seeds)) == len(seeds), "a seed comes twice, and would be asked once")
    if isinstance(recipe, PromptRecipe):
        prompts = list(islice(recipe.ask_all(folder), few))
        for prompt in [*prompts, recipe.ask_row(_ROW, folder)]:
            _check_prompt(recipe, prompt)
        context = recipe.context(_ROW, folder)
        _require(all(item.get("role") in _ROLES for item in context), "a message has no known role")


def _check_prompt(recipe: Recipe, prompt: Prompt) -> None:
    _require(prompt.recipe == name_of(recipe), f"a prompt's recipe is '{prompt.recipe}'")
    for messages in (prompt.messages, prompt.student_messages):
        _check_messages(messages)


def _check_messages(messages: Sequence[Message]) -> None:
    _require(bool(messages), "a prompt has no messages")
    _require(
        all(message.get("role") in _ROLES for message in messages), "a message has no known role"
    )
    _require(messages[-1]["role"] in ("user", "tool"), "the last message is not the user's")
    json.dumps(list(messages))


def _checked(recipe: Recipe, outcome: SeedOutcome, what: str) -> list[Sample]:
    _require(outcome.fault is None, f"its code failed on {what}: {outcome.fault}")
    _require(bool(outcome.samples), f"no sample of {what}; yield one with a status and a reason")
    for sample in outcome.samples:
        _require(sample.status in STATUSES, f"status '{sample.status}'; use {STATUSES}")
        _require(
            sample.status == "ok" or bool(sample.status_reason),
            f"a sample is {sample.status} and has no reason",
        )
        if sample.status == "ok":
            _check_messages(sample.messages)
        _require(
            sample.recipe_version == recipe.version, "recipe_version is not the recipe's version"
        )
        json.dumps(sample.facts)
    return outcome.samples


def _always(text: str) -> Say:
    return lambda messages: text


def _cut(say: Say) -> Say:
    """The first half of each reply, as `max_tokens` would leave it."""

    def say_half(messages: Sequence[Message]) -> str:
        text = say(messages)
        return text[: len(text) // 2]

    return say_half


def _require(holds: Any, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
