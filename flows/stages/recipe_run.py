"""Run a plan's recipes, or replay them from recorded calls, seed by seed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from importlib import metadata
from itertools import chain, islice
from typing import Any, TypeVar

from datagen.engine import Engine
from datagen.recipe import PoolRecipe, PromptRecipe, Recipe, Seed, options_that_matter
from datagen.seed_outcome import SeedOutcome
from datagen.spending.limits import Budget
from datagen.teacher import Reply, Request, Teacher
from distill.plan.plan import Plan
from flows.runtime.paid_calls import RecordedCalls
from flows.stages.known_prompts import is_counted_ahead
from flows.stages.pool_rounds import PoolRounds
from flows.stages.tally import Tally
from warehouse.catalog import code_of, name_of
from warehouse.db.store import Store
from warehouse.records import Call, Failure, Sample, SeedRun, make_id
from warehouse.wording import format_count

Result = TypeVar("Result")

KNOWN_AFTER = 8
"""Finished seeds after which it is known how many examples one gives; no more are live before, so
that a recipe with several examples for each seed pays for few beyond the target."""
LEAST_YIELD = 0.05
"""Examples of a seed that are counted on, at least: some of the first eight may give none."""

LEAST_WINDOW = 1024
"""Seeds that are live at once, at least: they are looked up together."""


class RecipeRun:
    """Runs one recipe shard by shard; what it yields is stored by the caller.

    Attributes:
        tally: What was made so far.
        call_ids: The ids of the calls behind it.
        arrived: The outcomes of the shard in progress, also where it is cut off.
    """

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe,
        store: Store,
        engine: Engine,
        run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.plan, self.recipe, self.store, self.engine = plan, recipe, store, engine
        is_plain = is_counted_ahead(recipe) and recipe.target is None
        self.tally = Tally(name_of(recipe), recipe.target, is_plain=is_plain)
        self._run, self._may_go_on = run, may_go_on
        self.call_ids: set[str] = set()
        self._seen: set[str] = set()
        self._expected: dict[str, list[str]] = {}
        self.key = ""
        """Identifies all that shapes the calls of this recipe beside its seeds."""
        self.arrived: list[SeedOutcome] = []
        self._prepared: dict[str, Any] = {}

    def shards(self) -> Iterator[list[SeedOutcome]]:
        """The outcomes of each shard, in the order of the seeds."""
        prepared = self._run(lambda: self.engine.prepare(self.recipe))
        if prepared is None:  # a replay without the calls of `prepare`
            self.tally.unfinished += 1
            return
        self._prepared = prepared
        self.call_ids.update(self.engine.prepare_call_ids)
        self.tally.calls = len(self.call_ids)
        self.key = self._key_of(prepared)
        self.engine.expected = self._expected_of
        if isinstance(self.recipe, PoolRecipe):
            yield from PoolRounds(self.recipe, self).shards()
            return
        seeds = self.recipe.seeds(self.plan.folder, prepared)
        size = shard_size(self.plan)
        while self.wants_more(0):
            first = next(seeds, None)
            if first is None:
                self.tally.note_end("no_more_seeds", "there are no more seeds")
                return
            yield self.run_seeds(chain([first], islice(seeds, size - 1)))

    def run_seeds(self, part: Iterable[Seed], whole: bool = False) -> list[SeedOutcome]:
        """Run some seeds; returns their outcomes in order.

        Args:
            part: The seeds; read while the first of them wait for their replies, where nothing is
                to be looked up of all.
            whole: Whether all of them run, whatever the target, and the caller counts.
        """
        if not self._makes_one_call:
            part = list(part)
            self._expected = self._recorded_calls(part)
        self.arrived = []
        unread, read = iter(part), list[Seed]()

        def reading() -> Iterator[Seed]:
            for seed in unread:
                read.append(seed)
                yield seed

        def may_start(live: int) -> bool:
            return self._may_go_on() if whole else self.wants_more(live)

        async def go() -> None:
            arrived = {outcome.seed.order for outcome in self.arrived}  # by an earlier try
            again = [seed for seed in read if seed.order not in arrived]
            left = chain(again, reading())
            run = self.engine.run(self.recipe, left, self._prepared, may_start)
            async with aclosing(run) as arriving:
                async for outcome in arriving:
                    self.arrived.append(outcome)
                    if not whole:
                        self.count([outcome])

        try:
            self._run(go)
        finally:
            self.arrived.sort(key=lambda outcome: outcome.seed.order)
        return self.arrived

    def wants_more(self, live: int) -> bool:
        """Whether another seed is to be started beside so many live ones."""
        tally = self.tally
        if tally.is_target_met:
            tally.note_end("target", f"target = {tally.target:,} is reached")
            return False
        if not self._may_go_on():
            return False
        finished = tally.seeds - tally.unfinished
        most = self.recipe.max_calls
        if most is not None:
            each = tally.calls / finished if finished else max(1, self.recipe.calls_expected[0])
            if tally.calls + (live + 1) * each > most:
                if not live and tally.calls:
                    tally.note_end(
                        "max_calls", f"max_calls = {most:,} is reached; raise it to go on"
                    )
                elif not live:
                    calls = format_count(int(each), "call")
                    why = f"max_calls = {most:,} is less than one seed takes ({calls}); raise it"
                    tally.note_end("max_calls", why)
                return False
        if tally.target is None:
            return True
        open_ = live + tally.unfinished
        if finished < KNOWN_AFTER:  # how many examples a seed gives is not known yet
            return tally.ok + open_ < tally.target and live < KNOWN_AFTER
        each_ok = max(tally.ok / finished, LEAST_YIELD)
        return tally.ok + open_ * each_ok < tally.target

    @property
    def is_replayed_alike(self) -> bool:
        """Whether its samples follow from the calls alone, so that a kill before they are stored
        changes nothing; other recipes have finished seeds to record."""
        return self._makes_one_call

    @property
    def _makes_one_call(self) -> bool:
        return isinstance(self.recipe, PromptRecipe) and self.recipe.calls_expected[1] == 1

    def seed_runs(self, outcomes: Sequence[SeedOutcome], run_id: str) -> list[SeedRun]:
        """Records of finished seeds with several calls."""
        if self._makes_one_call:
            return []  # it follows from the recorded prompt
        return [
            SeedRun(
                seed_run_id=self._seed_run_id(outcome.prompt.prompt_id),
                recipe=outcome.prompt.recipe,
                recipe_version=self.recipe.version,
                prompt_id=outcome.prompt.prompt_id,
                call_ids=outcome.call_ids,
                run_id=run_id,
            )
            for outcome in outcomes
            if outcome.is_finished
        ]

    def count(self, outcomes: Sequence[SeedOutcome]) -> None:
        """Count outcomes and their samples."""
        for outcome in outcomes:
            self._count(outcome)

    def _count(self, outcome: SeedOutcome) -> None:
        tally = self.tally
        tally.seeds += 1
        self.call_ids.update(outcome.call_ids)
        tally.calls = len(self.call_ids)
        if outcome.unanswered is not None:
            tally.unanswered += 1
            tally.reasons[f"no reply: {outcome.unanswered}"] += 1
        elif outcome.fault is not None:
            tally.failed += 1
            tally.reasons[outcome.fault] += 1
        elif outcome.waits:
            tally.unfinished += 1
        for sample in outcome.samples:
            tally.examples += 1
            if sample.status != "ok":
                setattr(tally, sample.status, getattr(tally, sample.status) + 1)
                tally.reasons[sample.status_reason or sample.status] += 1
            elif self._is_new(sample):
                tally.ok += 1
            else:
                tally.duplicate += 1

    def _is_new(self, sample: Sample) -> bool:
        if self.tally.is_plain:
            return True  # several draws may well be equal, and nothing is counted towards a number
        digest = make_id(sample.messages, sample.completion)
        is_new = digest not in self._seen
        self._seen.add(digest)
        return is_new

    def _key_of(self, prepared: dict[str, Any]) -> str:
        recipe = self.recipe
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in recipe.input_files(self.plan.folder)
            if path.is_file()
        }
        return make_id(
            "recipe run", name_of(recipe), recipe.version, code_of(recipe),
            options_that_matter(recipe), self.engine.identity, vars(self.engine.sampling),
            prepared, files, metadata.version("stillhouse"),
            *([recipe.revision] if recipe.revision else []),
        )  # fmt: skip

    def _seed_run_id(self, prompt_id: str) -> str:
        return make_id("seed run", self.key, prompt_id)

    def _recorded_calls(self, part: Sequence[Seed]) -> dict[str, list[str]]:
        if self.engine.teacher is None or self.plan.datagen.on_new_calls == "ask":
            return {}
        ids = [self._seed_run_id(self.recipe.record(seed).prompt_id) for seed in part]
        found = self.store.by_ids(SeedRun, "seed_run_id", ids)
        return {seed_run.seed_run_id: seed_run.call_ids for seed_run in found}

    def _expected_of(self, recipe: Recipe, seed: Seed) -> list[str] | None:
        if not self._expected:
            return None
        return self._expected.get(self._seed_run_id(recipe.record(seed).prompt_id))


def shard_size(plan: Plan) -> int:
    """Seeds of one Prefect task; a batch API gets more, since a batch takes hours however small."""
    return max(plan.datagen.shard, getattr(plan.teacher, "asks_at_once", 1))


def live_seeds(plan: Plan) -> int:
    """Seeds that are live at once: enough to keep all servers busy, and flat in memory."""
    together: int | None = getattr(plan.teacher, "asks_at_once", None)
    if together is not None:
        return shard_size(plan)
    servers = len(getattr(plan.teacher, "urls", [""]))
    return max(LEAST_WINDOW, 4 * servers * int(getattr(plan.teacher, "max_in_flight", 1)))


def cut_to_target(
    outcomes: Iterable[SeedOutcome], target: int | None, tally: Tally, used: set[str]
) -> Iterator[Sample]:
    """The samples in the order of their seeds, ok ones up to the target: always the same ones.

    The ids of the calls of all outcomes are added to `used`.
    """
    seen: set[str] = set()
    ok = 0
    for outcome in outcomes:
        used.update(outcome.call_ids)
        for sample in outcome.samples:
            if target is not None and sample.status == "ok":
                digest = make_id(sample.messages, sample.completion)
                if ok >= target or digest in seen:
                    tally.surplus += digest not in seen
                    seen.add(digest)
                    continue
                seen.add(digest)
                ok += 1
            yield sample


class Replay:
    """Recorded calls alone, for a dry run: nothing is asked and nothing is stored."""

    def __init__(self, store: Store, teacher: Teacher) -> None:
        self._recorded = RecordedCalls(store, teacher)
        self._refused = {
            failure.subject: failure.error for failure in store.read(Failure, "permanent")
        }

    async def find(self, requests: Sequence[Request]) -> dict[str, Call]:
        """The usable calls among those that were paid for."""
        return self._recorded.find(requests)

    def refusal_of(self, request: Request) -> str | None:
        """Why a request was refused for good before."""
        return self._refused.get(request.subject)

    def keep(self, record: Call | Failure, reply: Reply) -> None:
        """Never called: nothing is asked."""
        raise AssertionError("a replay asks nothing")


def replay_engine(plan: Plan, store: Store, first_requests: list[Request] | None = None) -> Engine:
    """An engine that replays recorded calls and asks for none.

    Args:
        plan: The plan.
        store: Its warehouse.
        first_requests: Gets the first request of each seed that is not recorded.
    """
    return Engine(
        identity=plan.teacher.identity,
        teacher=None,
        sampling=plan.datagen.sampling,
        longest=plan.datagen.longest,
        folder=plan.folder,
        budget=Budget(),
        ledger=Replay(store, plan.teacher),
        run_id="",
        window=LEAST_WINDOW,
        first_requests=first_requests,
    )


def run_here(job: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end."""
    return asyncio.run(job())
