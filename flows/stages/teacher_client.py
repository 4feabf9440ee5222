"""Send a run's requests to a teacher: recorded replies are reused, every reply is stored before
it is counted, and no request is sent that could exceed the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from datagen.generate import ask, pending
from datagen.teacher import Reply, Request, Sampling, Teacher
from flows.runtime import signals
from flows.runtime.paid_calls import load_paid_calls
from flows.runtime.prefect_flow import run_shard
from flows.runtime.progress import Meter, meter, say
from flows.runtime.run import RunContext
from quality.scoring.scorer import Question
from warehouse.db.spool import Spool
from warehouse.errors import Stopped
from warehouse.records import Call, Failure
from warehouse.wording import format_count

DRAIN_EVERY = 1000
"""Replies in the spool before they are moved to the warehouse, while others are in flight."""


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
        if open_:
            try:
                run_shard(lambda: self._shard(open_, stage, meter, results))
            finally:
                self._finish_drain()
                self.spool.drain(self.context.store)
                failures = list(results.failures.values())
                self.context.store.insert(failures)
                self.context.count("failures", len(failures) + self._leave_out_refused(results))
        return results

    def _shard(
        self, requests: Sequence[Request], stage: str, meter: Meter, results: CallResults
    ) -> None:
        """Send the requests that an earlier try of the task left open."""
        done = results.calls.keys() | results.failures.keys()
        left = [request for request in requests if request.call_id not in done]

        def keep(record: Call | Failure, reply: Reply) -> None:
            if isinstance(record, Call):
                waiting = self.spool.append(record)
                results.calls[record.call_id] = record
                self.context.count("calls_made", 1)
                self.context.oddities.update(reply.oddities)
                if waiting >= DRAIN_EVERY and (self._drained is None or self._drained.done()):
                    self._finish_drain()
                    self._drained = self._thread.submit(self.spool.drain, self.context.store)
            else:
                results.failures[reply.request.call_id] = record
            meter.replied(reply, self.budget)

        async def go() -> None:
            with signals.awaited(self._stop):
                await ask(self.teacher, left, self.budget, self.context.run.run_id, stage, keep)

        try:
            asyncio.run(go())
        except asyncio.CancelledError:  # by the second Ctrl-C
            say("stopped at once; replies that were in flight are lost and count as spent")
            raise KeyboardInterrupt from None

    def _leave_out_refused(self, results: CallResults) -> int:
        """Leave out calls that the warehouse refused: the spool has set them aside and recorded why.

        Returns:
            Their number.
        """
        refused = [call for call in self.spool.refused if results.calls.pop(call.call_id, None)]
        for call in refused:
            results.refused[call.call_id] = "RecordRefused: the reply could not be stored"
        return len(refused)

    def _stop(self) -> None:
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
    """A scorer's way to a language model: `quality.scoring.scorer.Ask`, on this run's budget."""

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
