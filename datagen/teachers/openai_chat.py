"""Call a teacher behind an OpenAI-compatible chat endpoint: a paid API, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from datagen.json_replies import refuses_schema
from datagen.openai.addresses import lacks_version
from datagen.openai.endpoint import (
    EmptyReply,
    Endpoint,
    Overloaded,
    TimedOut,
)
from datagen.openai.options import OpenaiApi, arriving, backoff_s
from datagen.openai.parse_body import UnreadableReply
from datagen.openai.replicas import Replica, Replicas
from datagen.openai.unreachable import NobodyThere
from datagen.request_queue import RequestQueue, RequestSource, answer_all
from datagen.spending.limits import Budget, RateLimiter
from datagen.teacher import Reply, Request
from warehouse.errors import (
    BudgetReached,
    Outcome,
    PromptRejected,
    StillhouseError,
    TeacherUnusable,
    TooExpensive,
    TransientError,
)

TRIES_TO_CONNECT = 3
"""Failed connections before an address that never answered is given up."""
CONNECT_PATIENCE_S = 30.0
"""Seconds of silence before an address that once answered is given up."""
ALL_REJECTED = 20
"""So many rejected requests and no reply: it is the plan, not the prompts."""
SAME_FAULTS = 8
"""So often the same fault in a row and no reply: it lasts, and asking on would change nothing."""
_VARYING = re.compile(r"\b\w*\d\w*\b")
"""Numbers, moments and ids of requests in a server's words."""


@dataclass
class _Round:
    """State shared by the workers of one `answer`."""

    replicas: Replicas
    budget: Budget
    answered: int = 0
    busy: int = 0
    rejected: list[Reply] = field(default_factory=list)
    rejections: int = 0
    last_fault: str = ""
    same_faults: int = 0
    stop: StillhouseError | Outcome | None = None
    halted: asyncio.Event = field(default_factory=asyncio.Event)

    def halt(self, error: StillhouseError | Outcome) -> None:
        """Let no worker take another request."""
        self.stop = self.stop or error
        self.halted.set()

    async def next(self, requests: RequestSource) -> Request | None:
        """The next request; None where there will be no more, or the round was halted."""
        if self.stop is not None:
            return None
        if not requests.is_empty:
            return await requests.next()
        taking = asyncio.ensure_future(requests.next())
        halting = asyncio.ensure_future(self.halted.wait())
        try:
            await asyncio.wait({taking, halting}, return_when=asyncio.FIRST_COMPLETED)
            return None if self.stop is not None else taking.result()
        finally:
            taking.cancel()
            halting.cancel()

    def lasts(self, fault: TransientError) -> bool:
        """Whether a fault is one more of a row that is all that the servers ever answered."""
        if self.answered or isinstance(fault, (Overloaded, NobodyThere, TimedOut)):
            return False
        kind = _VARYING.sub("#", str(fault))
        self.same_faults = self.same_faults + 1 if kind == self.last_fault else 1
        self.last_fault = kind
        return self.same_faults >= SAME_FAULTS


@dataclass(frozen=True)
class OpenaiChat(OpenaiApi):
    """Any server with an OpenAI-compatible `/chat/completions`.

    Rate limits, server faults, lost connections and unreadable replies are tried again
    with exponential waits and full jitter, never sooner than the server asks. The number
    of requests in flight adapts to what the server can take, up to `max_in_flight`.
    """

    more_urls: list[str] = field(default_factory=list)
    """Further servers of the same model, with the same key; requests are balanced over all by measured
    latency. Replies are known by base_url alone, whichever server gave them."""
    max_in_flight: int = 32
    """Most requests open at once, for each server."""
    requests_per_minute: float | None = None
    """Most requests in a minute, for each server."""
    tokens_per_minute: float | None = None
    """Most tokens in a minute, prompt and completion together, for each server."""
    timeout_s: float = 120.0
    """Longest wait for one reply, in seconds."""
    max_tries: int = 8
    """Tries per request before it counts as failed; being told to wait is not a try."""
    patience_s: float = 600.0
    """Longest time without a single good reply before the run stops, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.max_in_flight, self.max_tries) < 1 or min(self.timeout_s, self.patience_s) <= 0:
            raise ValueError(
                "max_in_flight and max_tries are 1 or more, timeout_s and patience_s above 0"
            )
        for rate in (self.requests_per_minute, self.tokens_per_minute):
            if rate is not None and rate <= 0:
                raise ValueError("requests_per_minute and tokens_per_minute are above 0")

    @property
    def urls(self) -> list[str]:
        """`base_url` and `more_urls`."""
        return [self.base_url, *self.more_urls]

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request as they arrive.

        Raises:
            TeacherUnusable, BudgetReached: after the replies that were already on their way.
        """
        queue = RequestQueue(requests, closed=True)
        async with aclosing(answer_all(self._replies(queue, budget, len(requests)))) as replies:
            async for reply in replies:
                yield reply

    async def stream(
        self, requests: RequestSource, budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request as they arrive, of requests that may depend on earlier replies.

        A request that does not fit the budget gets a reply with that error, and others go on.

        Raises:
            TeacherUnusable: after the replies that were already on their way.
        """
        async with aclosing(self._replies(requests, budget)) as replies:
            async for reply in replies:
                yield reply

    async def _replies(
        self, requests: RequestSource, budget: Budget | None, most: int | None = None
    ) -> AsyncGenerator[Reply]:
        key = self.key()
        endpoints = [self._endpoint(url, key) for url in self.urls]
        state = _Round(Replicas(endpoints), budget or Budget())
        number = self.max_in_flight * len(endpoints)
        number = number if most is None else min(number, most)
        arrived: asyncio.Queue[Reply | None] = asyncio.Queue()
        workers = [self._work(state, requests, arrived) for _ in range(number)]
        try:
            async with aclosing(arriving(workers, arrived)) as replies:
                async for reply in replies:
                    yield reply
            if state.stop is not None:
                raise state.stop
        finally:
            for endpoint in endpoints:
                await endpoint.close()

    async def _work(
        self, state: _Round, requests: RequestSource, replies: asyncio.Queue[Reply | None]
    ) -> None:
        while (request := await state.next(requests)) is not None:
            state.busy += 1
            try:
                reply = await self._ask(state, request)
            except BudgetReached as reached:
                reply = Reply(request, error=reached)
            except (StillhouseError, Outcome) as error:
                state.halt(error)
                return
            finally:
                state.busy -= 1
            if _rejects_plan(reply) and not state.answered:
                state.rejected.append(reply)  # reported once other requests are known to succeed
                state.rejections += 1
                if state.rejections >= ALL_REJECTED:
                    why = (
                        f"the first {ALL_REJECTED} requests were all rejected, the last with: "
                        f"{reply.error}; correct the plan's [teacher] or sampling"
                    )
                    state.halt(TeacherUnusable(why))
                    return
            else:
                replies.put_nowait(reply)
            if state.answered or (not state.busy and requests.is_empty):
                while state.rejected:  # or once nothing else comes before they are reported
                    replies.put_nowait(state.rejected.pop())

    async def _ask(self, state: _Round, request: Request) -> Reply:
        """Try until there is a reply, or an error that is final for this request."""
        body, most = self.body(request), self.most(request)
        budget, tries, empty = state.budget, 0, 0
        if why := budget.too_expensive(most):
            return Reply(request, error=TooExpensive(why))
        for sent in count(1):
            if state.stop is not None:
                raise state.stop
            await budget.reserve(most)
            picked_at = time.monotonic()
            try:
                replica = state.replicas.pick()
            except TeacherUnusable:
                budget.release(most)
                raise
            endpoint = replica.endpoint
            try:
                reply = await self._try(state.replicas, replica, request, body, most.tokens)
            except (TransientError, PromptRejected, TeacherUnusable) as fault:
                (budget.lose if fault.is_charged else budget.release)(most)
                if isinstance(fault, PromptRejected):
                    return Reply(request, error=fault, tries=sent)
                if isinstance(fault, TeacherUnusable):
                    state.replicas.give_up(replica, fault)
                    continue
                state.replicas.note_fault(replica, fault, picked_at)
                waits = isinstance(fault, Overloaded) or (
                    isinstance(fault, NobodyThere) and endpoint.heard
                )
                tries += not waits
                empty += isinstance(fault, EmptyReply)
                if empty > 1:
                    return Reply(request, error=PromptRejected(str(fault)), tries=sent)
                is_last = not state.replicas.others_up(replica)
                if is_last and endpoint.gone is None:
                    endpoint.gone = self._gone(endpoint, fault, tries)
                if is_last and state.lasts(fault):
                    raise self._lasting(endpoint, fault) from None
                if tries >= self.max_tries:
                    return Reply(request, error=fault, tries=sent)
                if is_last or replica.is_up:  # else another server takes it at once
                    await _sleep(backoff_s(sent))
            except BaseException:
                budget.lose(most)  # cut off on the way
                raise
            else:
                reply = self.settle(budget, most, reply)
                state.answered += 1
                state.replicas.note_reply(replica, reply.latency_s)
                return reply if sent == 1 else replace(reply, tries=sent)
        raise AssertionError("count() does not end")

    async def _try(
        self,
        replicas: Replicas,
        replica: Replica,
        request: Request,
        body: dict[str, Any],
        tokens: int,
    ) -> Reply:
        """Send a request once to the server that was picked for it."""
        try:
            return await self._send(replica.endpoint, request, body, tokens)
        finally:
            replicas.finish(replica)

    async def _send(
        self, endpoint: Endpoint, request: Request, body: dict[str, Any], tokens: int
    ) -> Reply:
        """Send a request once, at the endpoint's pace."""
        pace = endpoint.pace
        sent = await pace.start(tokens)
        used: int | None = None
        overloaded = False
        try:
            raw = await endpoint.post("/chat/completions", body)
            latency_s = time.monotonic() - sent
            try:
                reply = self.read(request, raw, latency_s)
            except UnreadableReply as error:
                raise endpoint.unreadable(error) from None
            endpoint.note_good_reply()
            used = reply.usage.prompt_tokens + reply.usage.completion_tokens
            return reply
        except (Overloaded, TimedOut) as fault:
            overloaded = True
            if fault.retry_after_s is not None:
                pace.pause(min(fault.retry_after_s, self.patience_s))
            raise
        finally:
            pace.end(sent, tokens, used, overloaded)

    def _gone(
        self, endpoint: Endpoint, fault: TransientError, tries: int
    ) -> TeacherUnusable | None:
        """The error that gives an endpoint up, where it is time to."""
        silent_s = time.monotonic() - endpoint.last_good
        if isinstance(fault, NobodyThere):
            never = not endpoint.heard and tries >= TRIES_TO_CONNECT
            return TeacherUnusable(str(fault)) if never or silent_s > CONNECT_PATIENCE_S else None
        if (fault.retry_after_s or 0.0) > self.patience_s:
            what = f"it asks to wait {fault.retry_after_s:.0f} s"
        elif silent_s > self.patience_s:
            what = f"no good reply for {silent_s:.0f} s"
        else:
            return None
        return TeacherUnusable(
            f"model '{self.model}' at {endpoint.base_url}: {what}, the last fault was: {fault}; "
            "run again later, received replies are saved"
        )

    def _lasting(self, endpoint: Endpoint, fault: TransientError) -> TeacherUnusable:
        """The error that ends a run in which every answer is the same fault."""
        advice = "see the server's log, or correct model and base_url"
        if lacks_version(endpoint.base_url):
            advice = "correct base_url: it usually ends in /v1"
        return TeacherUnusable(
            f"model '{self.model}' at {endpoint.base_url}: {SAME_FAULTS} times the same answer and no "
            f"good reply: {str(fault).removeprefix(f'{self.model}: ')}; {advice}"
        )

    def _endpoint(self, url: str, key: str) -> Endpoint:
        pace = RateLimiter(self.max_in_flight, self.requests_per_minute, self.tokens_per_minute)
        return Endpoint(
            self.model,
            url,
            key,
            self.sent_headers,
            pace,
            self.timeout_s,
            self.secrets,
            self.answered,
        )


def _rejects_plan(reply: Reply) -> bool:
    """Whether a request was rejected for what may be wrong with all of them.

    A schema that a server does not take is none of it: the recipe then asks in words alone.
    """
    asked_for_schema = reply.request.sampling.response_format is not None
    return isinstance(reply.error, PromptRejected) and not (
        asked_for_schema and refuses_schema(str(reply.error))
    )


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
