"""Send a run's requests to a teacher: recorded replies are reused, every reply is stored before
it is counted, and no request is sent that could exceed the budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from datagen.generate import ask, pending
from datagen.teacher import Reply, Request, Sampling, Teacher
from flows.runtime import signals
from flows.runtime.paid_calls import RecordedCalls, load_paid_calls
from flows.runtime.prefect_flow import run_shard
from flows.runtime.progress import Meter, meter, say
from flows.runtime.run import RunContext
from quality.scoring.scorer import Question
from warehouse.db.spool import Spool
from warehouse.errors import Stopped
from warehouse.records import Call, Failure
from warehouse.wording import format_count

Result = TypeVar("Result")

NOT_STORED = "RecordRefused: the reply could not be stored"

DRAIN_EVERY = 1000
"""Replies in the spool before they are moved to the warehouse, while others are in flight."""
DRAIN_S = 30.0
"""Seconds from one drain to the next, at least, unless `FAST` times as many wait."""
FAST = 8


@dataclass
class CallResults:
    """Calls and failures of one `ask`, by call id."""

    calls: dict[str, Call]
    failures: dict[str, Failure] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Errors of requests that were refused for good before, and not sent again."""


class TeacherClient:
    """Client for a teacher; a context manager, one at a time for each run."""

    def __init__(self, context: RunContext, teacher: Teacher | None = None) -> None:
        self.context = context
        self.teacher = teacher or context.teacher
        self.spool = Spool(context.store.path)
        self.budget = context.budget
        self._failed_permanently = context.refused_for_good()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drain")
        self._drained: Future[int] | None = None
        self._recorded = RecordedCalls(context.store, self.teacher)
        self._meter = Meter(None, None)
        self._made: dict[str, Call] = {}
        self._failed: dict[str, Failure] = {}
        self._reused: set[str] = set()
        self._refused_before = 0
        self.counted_ahead = True
        """Whether the meter's total holds all requests that will be made."""
        self._moved_at = float("-inf")
        self.drains_late = False
        """Whether replies may stay in the spool until `drain` is called."""
        self.stopping = False
        """Whether a signal asked to stop: in-flight requests finish, and no others begin."""

    def __enter__(self) -> Self:
        self.spool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        self.spool.drain(self.context.store)
        self.spool.__exit__(*error)

    def ask(self, requests: Sequence[Request], stage: str, meter: Meter) -> CallResults:
        """Request what is not recorded, as one Prefect task; permanent failures are not retried."""
        results = CallResults(load_paid_calls(self.context.store, self.teacher, requests))
        wanted = pending(requests, results.calls)
        open_ = [r for r in wanted if r.subject not in self._failed_permanently]
        results.refused = {
            r.call_id: self._failed_permanently[r.subject]
            for r in wanted
            if r.subject in self._failed_permanently
        }
        reused = len({r.call_id for r in requests} & results.calls.keys())
        self.context.count("calls_reused", reused)
        meter.skip(len(requests) - len(open_), reused)

        def keep(record: Call | Failure, reply: Reply) -> None:
            if isinstance(record, Call):
                results.calls[record.call_id] = record
            else:
                results.failures[reply.request.call_id] = record
            self.keep(record, reply)

        async def send() -> None:
            done = results.calls.keys() | results.failures.keys()
            left = [request for request in open_ if request.call_id not in done]
            await ask(self.teacher, left, self.budget, self.context.run.run_id, stage, keep)

        if open_:
            try:
                self.run_shard(send, meter)
            finally:
                for call in self.refused_by_warehouse():
                    if results.calls.pop(call.call_id, None):
                        results.refused[call.call_id] = NOT_STORED
        return results

    async def find(self, requests: Sequence[Request]) -> dict[str, Call]:
        """The usable calls among those that were paid for, by call id.

        One thread alone opens the warehouse while requests are in flight.
        """
        if not self.counted_ahead:
            self._meter.more(len(requests))
        made = {r.call_id: self._made[r.subject] for r in requests if r.subject in self._made}
        others = [request for request in requests if request.call_id not in made]
        if not others:
            return made
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._recorded.find, others)
        reused = len(found.keys() - self._reused)
        self._reused |= found.keys()
        self.context.count("calls_reused", reused)
        self._meter.skip(len(found), reused)
        return made | found

    def refusal_of(self, request: Request) -> str | None:
        """Why a request failed in this run, or was refused for good before; None where neither."""
        now = self._failed.get(request.subject)
        return self._failed_permanently.get(request.subject) if now is None else now.error

    def keep(self, record: Call | Failure, reply: Reply) -> None:
        """Store a reply in the spool before anything else is done with it; count a failure."""
        if isinstance(record, Call):
            waiting = self.spool.append(record)
            self._made[reply.request.subject] = record
            self.context.count("calls_made", 1)
            self.context.oddities.update(reply.oddities)
            if self._is_due(waiting) and (self._drained is None or self._drained.done()):
                self._finish_drain()
                self._moved_at = time.monotonic()
                self._drained = self._thread.submit(self.spool.drain, self.context.store)
        else:
            self._failed[reply.request.subject] = record
        self._meter.replied(reply, self.budget)

    def run_shard(self, job: Callable[[], Coroutine[Any, Any, Result]], meter: Meter) -> Result:
        """Run a coroutine that asks the teacher, as one Prefect task.

        What it received is in the warehouse when this returns or raises; where the client drains
        late, it is in the spool, and some thousand replies are moved together.
        """
        self._meter = meter

        async def heeding_signals() -> Result:
            with signals.awaited(self._stop):
                return await job()

        def shard() -> Result:
            try:
                return asyncio.run(heeding_signals())
            except asyncio.CancelledError:  # by the second Ctrl-C
                say("stopped at once; replies that were in flight are lost and count as spent")
                raise KeyboardInterrupt from None

        try:
            return run_shard(shard)
        finally:
            if not self.drains_late or self._is_due(len(self._made)):
                self.drain()

    def _is_due(self, waiting: int) -> bool:
        """Whether so many replies are to be moved to the warehouse now."""
        last = time.monotonic() - self._moved_at
        return waiting >= (DRAIN_EVERY if last >= DRAIN_S else FAST * DRAIN_EVERY)

    def drain(self) -> None:
        """Bring into the warehouse all that arrived."""
        self._finish_drain()
        self._moved_at = time.monotonic()
        self.spool.drain(self.context.store)
        self._recorded.add(self._made.values())
        self._made.clear()
        failures = list(self._failed.values())
        self._failed.clear()
        self._reused.clear()
        self.context.store.insert(failures)
        refused = len(self.spool.refused) - self._refused_before
        self._refused_before = len(self.spool.refused)
        self.context.count("failures", len(failures) + refused)

    def refused_by_warehouse(self) -> list[Call]:
        """Calls that the warehouse refused: the spool has set them aside and recorded why."""
        return self.spool.refused

    def _stop(self) -> None:
        self.stopping = True
        if getattr(self.teacher, "asks_at_once", 0):
            raise KeyboardInterrupt  # a batch continues at the server, where the next run finds it
        self.budget.close(Stopped("stopped; received replies are saved"))
        waiting = self.budget.in_flight
        if waiting:
            say(
                f"stopping after {format_count(waiting, 'reply')} in flight; Ctrl-C again stops at once"
            )

    def _finish_drain(self) -> None:
        if self._drained is not None:
            self._drained.result()  # an error of the warehouse is the run's
            self._drained = None


@dataclass
class ScorerClient:
    """A scorer's way to a language model: `quality.scoring.scorer.AskModel`, on this run's budget."""

    context: RunContext
    teacher: Teacher
    label: str

    @property
    def name(self) -> str:
        """The identity of the model."""
        return self.teacher.identity

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """The replies in order; None where one failed."""
        requests = [
            Request.of(
                self.teacher.identity,
                question.messages,
                Sampling(
                    temperature=question.temperature,
                    max_tokens=question.max_tokens,
                    seed=question.seed,
                    response_format=question.response_format,
                ),
            )
            for question in questions
        ]
        with (
            TeacherClient(self.context, self.teacher) as client,
            meter(self.label, len(requests)) as progress,
        ):
            calls = client.ask(requests, "curate", progress).calls
        return [calls[r.call_id].text if r.call_id in calls else None for r in requests]
