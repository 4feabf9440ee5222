"""Run recipes: one coroutine per seed, many side by side, each call made once.

The engine knows neither the warehouse nor Prefect: who runs it looks calls up and keeps them
(`CallLedger`).
"""

from __future__ import annotations

import asyncio
import re
import sys
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datagen.ask import Ask, Unanswered
from datagen.call_ledger import CallLedger, CallLookups
from datagen.example_samples import sample_of
from datagen.generate import as_reply, to_call, to_failure
from datagen.recipe import Example, Recipe, Seed
from datagen.request_queue import RequestQueue, stream_replies
from datagen.seed_outcome import SeedOutcome
from datagen.spending.limits import Budget
from datagen.teacher import Reply, Request, Sampling, Teacher
from warehouse.errors import BudgetReached, Outcome, RecipeError, StillhouseError
from warehouse.part_origins import describe_error
from warehouse.records import Call, Prompt
from warehouse.text.finish_reasons import is_cut

SAME_FAULTS = 8
"""So many seeds, all the first ones, with the same exception: it is a bug of the recipe."""
_VARYING = re.compile(r"\d+|0x[0-9a-f]+|'[^']*'|\"[^\"]*\"")


class _MustWait(BaseException):
    """A call may not be made in this run. It is no `Exception`, which a recipe may catch; where one
    goes on nevertheless, its seed counts as waiting all the same."""


@dataclass
class Engine:
    """Runs the seeds of recipes against one teacher.

    Attributes:
        teacher: None replays recorded calls alone, and asks for nothing.
        sampling: How replies are drawn where the recipe does not say.
        longest: `max_tokens` of one more try where a reply was cut off; None: no such try.
        folder: Where the plan's relative paths start.
    """

    identity: str
    teacher: Teacher | None
    sampling: Sampling
    longest: int | None
    folder: Path
    budget: Budget
    ledger: CallLedger
    run_id: str
    window: int = 256
    """Seeds that are live at once."""
    expected: Callable[[Recipe, Seed], list[str] | None] = lambda recipe, seed: None
    """The calls of a seed that finished before, where that was recorded."""
    first_requests: list[Request] | None = None
    """In a dry replay: the first request of each seed that is not recorded."""

    def __post_init__(self) -> None:
        self._flying: dict[str, asyncio.Future[tuple[Call, Reply]]] = {}
        self._lookups = CallLookups(self.ledger)
        self._queue = RequestQueue()
        self._blocked = self._live = 0
        self._stop: BaseException | None = None
        self._faults: list[str] = []
        self._good = 0
        self.prepare_call_ids: list[str] = []
        """The calls of the last `prepare`."""
        self.reached: BudgetReached | None = None
        """The cap for which requests were left out."""

    async def run(
        self,
        recipe: Recipe,
        seeds: Iterator[Seed],
        prepared: dict[str, Any],
        may_start: Callable[[int], bool] = lambda live: True,
    ) -> AsyncGenerator[SeedOutcome]:
        """Run a recipe's seeds; yields each outcome as it arrives.

        Args:
            recipe: The recipe.
            seeds: In their order.
            prepared: What `prepare` gave.
            may_start: Whether another seed may be started now beside so many live ones; asked
                again after each outcome.

        Raises:
            TeacherUnusable, Stopped: after the replies that were on their way were kept.
            RecipeError: the recipe's code fails on all seeds, or asks otherwise than it did before.
        """
        self._stop = None  # a shard that is tried again begins anew
        outcomes: asyncio.Queue[SeedOutcome | None] = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()
        asking = asyncio.create_task(self._serve(outcomes)) if self.teacher else None

        async def one(seed: Seed) -> None:
            try:
                outcome = await self._outcome(recipe, seed, prepared)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._stop = self._stop or error
                outcomes.put_nowait(None)
            else:
                outcomes.put_nowait(outcome)

        def start() -> None:
            while self._live < self.window and may_start(self._live):
                seed = next(seeds, None)
                if seed is None:
                    break
                self._live += 1
                task = asyncio.create_task(one(seed))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        try:
            start()
            while self._live:
                self._flush_if_all_wait()
                outcome = await outcomes.get()
                if outcome is None:
                    break
                self._live -= 1
                yield outcome
                start()
            if self._stop is None:
                self._queue.close()
                if asking is not None:
                    await asking
        finally:
            self._queue.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if asking is not None and not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            self._live = self._blocked = 0
            self._queue = RequestQueue()
            self._flying.clear()
        if self._stop is not None:
            raise self._stop

    async def prepare(self, recipe: Recipe) -> dict[str, Any] | None:
        """What a recipe's seeds share; None where it needs a call that may not be made here."""
        found: list[dict[str, Any]] = []
        preparing = _Preparing(recipe, found)
        async with aclosing(self.run(preparing, iter([Seed("prepare")]), {})) as outcomes:
            async for outcome in outcomes:
                self.prepare_call_ids = outcome.call_ids
                if outcome.unanswered is not None:
                    raise RecipeError(
                        f"recipe '{preparing.name}' could not prepare: {outcome.unanswered}"
                    )
                if outcome.fault is not None:
                    raise RecipeError(
                        f"recipe '{preparing.name}' failed in prepare: {outcome.fault}"
                    )
        self._good, self._faults = 0, []  # counted from the first seed of each recipe on
        return found[0] if found else None

    async def _outcome(self, recipe: Recipe, seed: Seed, prepared: dict[str, Any]) -> SeedOutcome:
        """Run one seed to its end; a fault is its own."""
        seed = replace(seed)  # its draws begin anew, also where a shard is tried again
        outcome = SeedOutcome(seed, recipe.record(seed))
        expected = self.expected(recipe, seed)

        async def reply_to(request: Request) -> tuple[Call, Reply]:
            try:
                return await self._reply_to(request, expected, outcome)
            except _MustWait:
                outcome.waits = True
                raise

        ask = Ask(self.identity, self.sampling, self.folder, prepared, reply_to)
        try:
            async with aclosing(recipe.make(seed, ask)) as examples:  # type: ignore[type-var]
                async for example in examples:
                    outcome.samples.append(sample_of(recipe, outcome.prompt, example, ask.calls))
        except _MustWait:
            outcome.waits = True
        except Unanswered as error:
            outcome.unanswered = str(error)
        except (StillhouseError, Outcome):
            raise
        except Exception as error:
            outcome.fault = _told(error, recipe)
            self._note_fault(recipe, error, outcome.fault)
        outcome.call_runs = [(c.call_id, c.run_id) for c in ask.calls]
        if outcome.is_finished:
            self._good += 1
        else:
            outcome.samples = []
        return outcome

    def _note_fault(self, recipe: Recipe, error: Exception, told: str) -> None:
        """Stop where the first seeds all fail alike: the next ones would, too, and be paid for."""
        if self._good:
            return
        self._faults.append(_VARYING.sub("#", told))
        if len(self._faults) >= SAME_FAULTS and len(set(self._faults)) == 1:
            raise RecipeError(
                f"recipe '{_name(recipe)}' failed on each of the first {SAME_FAULTS} seeds: {told}; "
                "correct its code or its options, received replies are saved"
            ) from error

    async def _reply_to(
        self, request: Request, expected: list[str] | None, outcome: SeedOutcome
    ) -> tuple[Call, Reply]:
        """The reply to a request: recorded, on its way for another seed, or asked now."""
        call, reply = await self._once(request, expected, outcome)
        if self.longest is None or not is_cut(call.finish_reason):
            return call, reply
        longer = replace(request, sampling=replace(request.sampling, max_tokens=self.longest))
        if longer.sampling.max_tokens <= request.sampling.max_tokens:
            return call, reply
        try:
            return await self._once(longer, expected, outcome)
        except Unanswered:
            return call, reply  # the cut reply is paid for and stays
        except _MustWait:
            if self.teacher is None and self.first_requests is None:
                return call, reply  # as the run did that could not have the longer one
            raise

    async def _once(
        self, request: Request, expected: list[str] | None, outcome: SeedOutcome
    ) -> tuple[Call, Reply]:
        flying = self._flying.get(request.subject)
        if flying is None:
            flying = asyncio.get_running_loop().create_future()
            self._flying[request.subject] = flying
            try:
                found = await self._lookups.find(request)
                if found is None:
                    self._request(request, expected, outcome)
            except BaseException as error:
                self._settle(request, error)
                raise
            if found is not None:
                self._settle(request, (found, as_reply(found, request)))
        outcome.blocked += 1
        self._blocked += outcome.blocked == 1
        self._flush_if_all_wait()
        try:
            return await asyncio.shield(flying)
        finally:
            outcome.blocked -= 1
            self._blocked -= outcome.blocked == 0

    def _request(self, request: Request, expected: list[str] | None, outcome: SeedOutcome) -> None:
        """Queue a request that is not recorded.

        Raises:
            Unanswered: it was refused for good before.
            RecipeError: the seed was finished without it.
        """
        if (why := self.ledger.refusal_of(request)) is not None:
            raise Unanswered(why)
        if self.teacher is None:
            if self.first_requests is not None:
                self.first_requests.append(request)
            raise _MustWait
        if expected is not None and request.call_id not in expected:
            raise RecipeError(
                f"recipe '{outcome.prompt.recipe}' asks otherwise than it did before: seed "
                f"{outcome.seed.order} ({outcome.prompt.prompt_id[:12]}) was finished with "
                f"{len(expected)} calls, and now wants call {request.call_id[:12]}, which is none of "
                "them; a recipe may draw from seed.random alone. To pay for it nevertheless, set "
                'datagen.on_new_calls = "ask"'
            )
        self._queue.put(request, outcome.seed.order)

    def _settle(self, request: Request, result: tuple[Call, Reply] | BaseException) -> None:
        """Give all seeds that wait for a request what became of it."""
        flying = self._flying.pop(request.subject, None)
        if flying is None or flying.done():
            return
        if isinstance(result, BaseException):
            flying.set_exception(result)
            flying.exception()  # retrieved: no warning where nobody waits any more
        else:
            flying.set_result(result)

    async def _serve(self, outcomes: asyncio.Queue[SeedOutcome | None]) -> None:
        """Hand what is wanted to the teacher, and each reply to the seeds that wait for it."""
        assert self.teacher is not None
        try:
            async with aclosing(stream_replies(self.teacher, self._queue, self.budget)) as replies:
                async for reply in replies:
                    self._arrived(reply)
        except BudgetReached as reached:
            self.reached = self.reached or reached
            if self._live:
                self._stop = self._stop or reached
                outcomes.put_nowait(None)
        except Exception as error:
            self._stop = self._stop or error
            outcomes.put_nowait(None)

    def _arrived(self, reply: Reply) -> None:
        request, error = reply.request, reply.error
        if isinstance(error, BudgetReached):
            self.reached = self.reached or error
            self._settle(request, _MustWait())
        elif error is None:
            call = to_call(reply, self.identity, self.run_id, "generate")
            self.ledger.keep(call, reply)
            self._settle(request, (call, reply))
        else:
            failure = to_failure(reply, self.run_id, "generate")
            self.ledger.keep(failure, reply)
            self._settle(request, Unanswered(failure.error))

    def _flush_if_all_wait(self) -> None:
        """Let a teacher that takes many requests at once begin, where nothing else can come.

        All seeds that may be started are: no task runs while others are started.
        """
        if self._live and self._blocked >= self._live:
            self._queue.flush()


class _Preparing(Recipe):
    """Runs the `prepare` of a recipe as if it were a seed."""

    version = "1"

    def __init__(self, recipe: Recipe, found: list[dict[str, Any]]) -> None:
        self.recipe, self.found, self.name = recipe, found, _name(recipe)

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        return iter(())

    def record(self, seed: Seed) -> Prompt:
        return Prompt.of(recipe=self.name, messages=[], question="")

    async def make(self, seed: Seed, ask: Ask) -> AsyncGenerator[Example]:
        self.found.append(await self.recipe.prepare(ask.folder, ask))
        none: list[Example] = []
        for example in none:
            yield example


def _name(recipe: Recipe) -> str:
    from warehouse.catalog import name_of

    return recipe.name if isinstance(recipe, _Preparing) else name_of(recipe)


def _told(error: Exception, recipe: Recipe) -> str:
    """An exception after the place in the recipe's file where it arose."""
    code = sys.modules[type(recipe).__module__].__file__
    all_frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in all_frames if frame.filename == code] or all_frames
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
    return f"{place}{describe_error(error)}"
