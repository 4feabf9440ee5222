"""Run the rounds of a recipe that draws its seeds from what it made before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol

from datagen.engine import Engine
from datagen.pool import admit
from datagen.recipe import Example, PoolRecipe, Seed
from datagen.seed_outcome import SeedOutcome
from distill.plan.plan import Plan
from flows.stages.tally import Tally
from warehouse.catalog import name_of
from warehouse.db.store import Store
from warehouse.records import Round, make_id


class SeedRunner(Protocol):
    """Runs seeds of a recipe and counts what came of them."""

    plan: Plan
    store: Store
    engine: Engine
    key: str

    def wants_more(self, live: int) -> bool:
        """Whether more examples are wanted."""
        ...

    def run_seeds(self, part: Sequence[Seed], whole: bool) -> list[SeedOutcome]:
        """Run seeds; `whole`: all of them, and the caller counts."""
        ...

    def count(self, outcomes: Sequence[SeedOutcome]) -> None:
        """Count outcomes and their samples."""
        ...

    @property
    def tally(self) -> Tally:
        """What was made so far."""
        ...


class PoolRounds:
    """Runs round after round; a finished one is sealed.

    A sealed round's seeds that had no reply stay out of the pool, also where a later run could
    answer them: otherwise every later round would be another one, and be paid for again.
    """

    def __init__(self, recipe: PoolRecipe, run: SeedRunner) -> None:
        self._recipe, self._run = recipe, run

    def shards(self) -> Iterator[list[SeedOutcome]]:
        """The outcomes of each round, admitted examples as ok samples, the others as invalid."""
        recipe, run = self._recipe, self._run
        pool: list[Example] = list(recipe.begin(run.plan.folder))
        first = 0
        for number in count():
            if not run.wants_more(0):
                return
            seeds = [
                replace(seed, order=first + place)
                for place, seed in enumerate(recipe.next_round(number, pool))
            ]
            if not seeds:
                run.tally.note_end("no_more_rounds", recipe.why_no_more(number, pool))
                return
            first += len(seeds)
            sealed = self._sealed(number, seeds)
            left = self._without_missing(seeds, sealed)
            outcomes = run.run_seeds(left, True)
            if any(outcome.waits for outcome in outcomes) or len(outcomes) < len(left):
                for outcome in outcomes:  # who may join is not known before the round is whole
                    outcome.samples = []
                run.count(outcomes)
                yield outcomes
                return  # cut off by a budget, or not recorded yet: the next run goes on here
            admit(recipe, outcomes, pool)
            run.count(outcomes)
            yield outcomes
            if sealed is None and run.engine.teacher is not None:
                self._seal(number, seeds, outcomes)

    def _round_id(self, number: int, seeds: list[Seed]) -> str:
        return make_id("round", self._run.key, number, [seed.seed_id for seed in seeds])

    def _sealed(self, number: int, seeds: list[Seed]) -> Round | None:
        found = self._run.store.by_ids(Round, "round_id", [self._round_id(number, seeds)])
        return found[0] if found else None

    def _without_missing(self, seeds: list[Seed], sealed: Round | None) -> list[Seed]:
        missing = set(sealed.missing) if sealed else set()
        return [s for s in seeds if self._recipe.record(s).prompt_id not in missing]

    def _seal(self, number: int, seeds: list[Seed], outcomes: list[SeedOutcome]) -> None:
        missing = [outcome.prompt.prompt_id for outcome in outcomes if not outcome.is_finished]
        self._run.store.insert(
            [
                Round(
                    round_id=self._round_id(number, seeds),
                    recipe=name_of(self._recipe),
                    number=number,
                    seeds=len(seeds),
                    missing=missing,
                    run_id=self._run.engine.run_id,
                )
            ]
        )
