"""Samples that a recipe makes of a recorded call, by the engine and without a run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from datagen.engine import Engine
from datagen.recipe import Recipe, Seed
from datagen.spending.limits import Budget
from datagen.teacher import Reply, Sampling
from warehouse.records import Call, Prompt, Sample


class _Always:
    """Has the same call for every request."""

    def __init__(self, call: Call) -> None:
        self.call = call

    async def find(self, requests):
        return {request.call_id: self.call for request in requests}

    def refusal_of(self, request):
        return None

    def keep(self, record, reply: Reply) -> None:
        raise AssertionError("nothing is asked")


def samples_from(recipe: Recipe, prompt: Prompt, call: Call) -> list[Sample]:
    """The samples of a prompt whose every call is answered by `call`."""

    async def go() -> list[Sample]:
        engine = Engine("t", None, Sampling(), None, Path(), Budget(), _Always(call), "r")
        seeds = iter([Seed(prompt.prompt_id, prompt=prompt)])
        async with aclosing(engine.run(recipe, seeds, {})) as outcomes:
            return [sample async for outcome in outcomes for sample in outcome.samples]

    return asyncio.run(go())
