"""Call a teacher behind an OpenAI-compatible chat endpoint: a paid API, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from datagen.openai.addresses import lacks_version
from datagen.openai.endpoint import (
    EmptyReply,
    Endpoint,
    Overloaded,
    TimedOut,
)
from datagen.openai.options import OpenaiApi, arriving, backoff_s
from datagen.openai.parse_body import UnreadableReply
from datagen.openai.unreachable import NobodyThere
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

    endpoints: list[Endpoint]
    budget: Budget
    answered: int = 0
    rejected: list[Reply] = field(default_factory=list)
    last_fault: str = ""
    same_faults: int = 0
    stop: StillhouseError | Outcome | None = None
    reached: BudgetReached | None = None
    """Why requests were left that cost more than what is left; cheaper ones went on."""

    def pick(self) -> Endpoint:
        """The reachable endpoint with the most room.

        Raises:
            TeacherUnusable: none is left.
        """
        left = [endpoint for endpoint in self.endpoints if endpoint.gone is None]
        if not left:
            raise self.endpoints[-1].gone or TeacherUnusable("there is no endpoint")
        return max(left, key=lambda endpoint: endpoint.pace.room)

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
    """Further servers of the same model, with the same key; requests are balanced over all."""
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
        key = self.key()
        state = _Round([self._endpoint(url, key) for url in self.urls], budget or Budget())
        waiting = iter(requests)
        number = min(self.max_in_flight * len(state.endpoints), len(requests))
        arrived: asyncio.Queue[Reply | None] = asyncio.Queue()
        workers = [self._work(state, waiting, arrived) for _ in range(number)]
        try:
            async with aclosing(arriving(workers, arrived)) as replies:
                async for reply in replies:
                    yield reply
            if (end := state.stop or state.reached) is not None:
                raise end
        finally:
            for endpoint in state.endpoints:
                await endpoint.close()

    async def _work(
        self, state: _Round, waiting: Iterator[Request], replies: asyncio.Queue[Reply | None]
    ) -> None:
        while state.stop is None and (request := next(waiting, None)) is not None:
            try:
                reply = await self._ask(state, request)
            except BudgetReached as reached:
                state.reached = state.reached or reached
                continue
            except (StillhouseError, Outcome) as error:
                state.stop = state.stop or error
                return
            if isinstance(reply.error, PromptRejected) and not state.answered:
                state.rejected.append(reply)  # reported once other requests are known to succeed
                if len(state.rejected) >= ALL_REJECTED:
                    state.stop = TeacherUnusable(
                        f"the first {ALL_REJECTED} requests were all rejected, the last with: "
                        f"{reply.error}; correct the plan's [teacher] or sampling"
                    )
                    return
                continue
            replies.put_nowait(reply)
        if state.stop is None:
            while state.rejected:
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
            endpoint = state.pick()
            await budget.reserve(most)
            try:
                reply = await self._try(endpoint, request, body, most.tokens)
            except (TransientError, PromptRejected, TeacherUnusable) as fault:
                (budget.lose if fault.is_charged else budget.release)(most)
                if isinstance(fault, PromptRejected):
                    return Reply(request, error=fault, tries=sent)
                if isinstance(fault, TeacherUnusable):
                    endpoint.gone = fault
                    continue
                waits = isinstance(fault, Overloaded) or (
                    isinstance(fault, NobodyThere) and endpoint.heard
                )
                tries += not waits
                empty += isinstance(fault, EmptyReply)
                if empty > 1:
                    return Reply(request, error=PromptRejected(str(fault)), tries=sent)
                endpoint.gone = endpoint.gone or self._gone(endpoint, fault, tries)
                if state.lasts(fault):
                    raise self._lasting(endpoint, fault) from None
                if tries >= self.max_tries:
                    return Reply(request, error=fault, tries=sent)
                await _sleep(backoff_s(sent))
            except BaseException:
                budget.lose(most)  # cut off on the way
                raise
            else:
                reply = self.settle(budget, most, reply)
                state.answered += 1
                return reply if sent == 1 else replace(reply, tries=sent)
        raise AssertionError("count() does not end")

    async def _try(
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


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
