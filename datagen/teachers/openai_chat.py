"""A teacher behind an OpenAI-compatible chat endpoint: a paid API, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any

from datagen.endpoint import (
    Endpoint,
    NobodyThere,
    Overloaded,
    ReplyLost,
    TimedOut,
    key_from,
)
from datagen.limits import Budget, Pace, Reservation
from datagen.pricing import Price, most_prompt_tokens, price_of
from datagen.teacher import Reply, Request
from datagen.wire import body_of, read_reply
from warehouse.errors import (
    BudgetReached,
    PromptRejected,
    StillhouseError,
    TeacherUnusable,
    TransientError,
)
from warehouse.records import canonical

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
TRIES_TO_CONNECT = 3
"""Before an address that was never heard from is given up."""
CONNECT_PATIENCE_S = 30.0
"""Before an address that has fallen silent is given up."""
ALL_REJECTED = 20
"""So many rejected requests and no reply: it is the plan, not the prompts."""


@dataclass
class _Round:
    """What the workers of one `answer` know of each other."""

    endpoints: list[Endpoint]
    budget: Budget
    answered: int = 0
    rejected: list[Reply] = field(default_factory=list)
    stop: StillhouseError | None = None

    def pick(self) -> Endpoint:
        """The endpoint with the most room among those that are there.

        Raises:
            TeacherUnusable: none is left.
        """
        left = [endpoint for endpoint in self.endpoints if endpoint.gone is None]
        if not left:
            raise self.endpoints[-1].gone or TeacherUnusable("there is no endpoint")
        return max(left, key=lambda endpoint: endpoint.pace.room)


@dataclass(frozen=True)
class OpenaiChat:
    """Any server with an OpenAI-compatible `/chat/completions`.

    Rate limits, server faults, lost connections and unreadable replies are tried again
    with exponential waits and full jitter, never sooner than the server asks. The number
    of requests in flight follows what the server bears, up to `max_in_flight`.
    """

    model: str
    """The model's name as the server knows it."""
    base_url: str = "https://api.openai.com/v1"
    """Where the API starts, usually ending in /v1."""
    more_urls: list[str] = field(default_factory=list)
    """Further servers of the same model, with the same key; requests are balanced over all."""
    api_key_env: str | None = None
    """The environment variable with the key. Unset: OPENAI_API_KEY for api.openai.com, else none."""
    env_file: str | None = None
    """A .env file to look in where the environment does not have the key."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Extra HTTP headers."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Extra fields of the request's JSON; part of the teacher's identity."""
    omit: list[str] = field(default_factory=list)
    """Fields that the server does not take, such as "temperature"; part of the identity."""
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
    identity_name: str | None = None
    """A name for the replies that outlives a change of base_url."""
    input_usd_per_million: float | None = None
    """Price of a million prompt tokens in USD. Unset: the known price, if there is one."""
    output_usd_per_million: float | None = None
    """Price of a million completion tokens in USD."""
    tokenizer: str | None = None
    """A tokenizer.json, or a folder with one, to count tokens for the estimate."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model is the name the server knows the model by")
        for url in self._urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError("base_url and more_urls start with http:// or https://")
        if min(self.max_in_flight, self.max_tries) < 1 or min(self.timeout_s, self.patience_s) <= 0:
            raise ValueError(
                "max_in_flight and max_tries are 1 or more, timeout_s and patience_s above 0"
            )
        for rate in (self.requests_per_minute, self.tokens_per_minute):
            if rate is not None and rate <= 0:
                raise ValueError("requests_per_minute and tokens_per_minute are above 0")
        if (self.input_usd_per_million is None) != (self.output_usd_per_million is None):
            raise ValueError("give both input_usd_per_million and output_usd_per_million, or none")

    @property
    def identity(self) -> str:
        """Model, URL and what changes the request; `identity_name` stands in for model and URL."""
        name = self.identity_name or f"{self.model}@{self.base_url.rstrip('/')}"
        if self.extra_body:
            name = f"{name} {canonical(self.extra_body)}"
        return f"{name} without {','.join(sorted(self.omit))}" if self.omit else name

    @cached_property
    def price(self) -> Price | None:
        """What was given in the plan, else what is known of the model at this host."""
        if self.input_usd_per_million is not None and self.output_usd_per_million is not None:
            return Price(self.input_usd_per_million, self.output_usd_per_million)
        return price_of(self.model, self.base_url)

    def check(self) -> list[str]:
        """Find the key, and ask each server for its list of models, which costs nothing.

        Raises:
            TeacherUnusable: no key, nobody there, or the key is refused.
        """
        return [self._check(url, self._key()) for url in self._urls]

    def _check(self, url: str, key: str) -> str:
        listing = urllib.request.Request(f"{url.rstrip('/')}/models", headers=self.headers)
        if not listing.has_header("Authorization"):
            listing.add_unredirected_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(listing, timeout=10) as response:
                known = [str(model["id"]) for model in json.load(response)["data"]]
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                what = "the key was refused" if error.code == 401 else "access is denied"
                raise TeacherUnusable(
                    f"model '{self.model}' at {url}: {what} (HTTP {error.code}); "
                    "mend api_key_env, model or base_url"
                ) from None
            return f"{self.model} at {url} (it lists no models)"
        except OSError:
            raise _nobody(url) from None
        except (ValueError, KeyError, TypeError):
            return f"{self.model} at {url} (it lists no models)"
        if self.model in known:
            return f"{self.model} at {url}"
        return f"{self.model} at {url} is not among the {len(known)} models it lists"

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request as they arrive.

        Raises:
            TeacherUnusable, BudgetReached: after the replies that were already on their way.
        """
        key = self._key()
        state = _Round([self._endpoint(url, key) for url in self._urls], budget or Budget())
        waiting = iter(requests)
        number = min(self.max_in_flight * len(state.endpoints), len(requests))
        replies: asyncio.Queue[Reply | None] = asyncio.Queue()
        workers = asyncio.gather(*(self._work(state, waiting, replies) for _ in range(number)))
        ended = asyncio.ensure_future(_when_done(workers, replies))
        try:
            while (reply := await replies.get()) is not None:
                yield reply
            await workers
            if state.stop is not None:
                raise state.stop
        finally:
            workers.cancel()
            ended.cancel()
            await asyncio.gather(workers, ended, return_exceptions=True)
            for endpoint in state.endpoints:
                await endpoint.close()

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _work(
        self, state: _Round, waiting: Iterator[Request], replies: asyncio.Queue[Reply | None]
    ) -> None:
        while state.stop is None and (request := next(waiting, None)) is not None:
            try:
                reply = await self._ask(state, request)
            except (TeacherUnusable, BudgetReached) as error:
                state.stop = state.stop or error
                return
            if isinstance(reply.error, PromptRejected) and not state.answered:
                state.rejected.append(reply)  # told once it is known that others are not
                if len(state.rejected) >= ALL_REJECTED:
                    state.stop = TeacherUnusable(
                        f"the first {ALL_REJECTED} requests were all rejected, the last with: "
                        f"{reply.error}; mend the plan's [teacher] or sampling"
                    )
                    return
                continue
            state.answered += reply.error is None
            replies.put_nowait(reply)
        if state.stop is None:
            while state.rejected:
                replies.put_nowait(state.rejected.pop())

    async def _ask(self, state: _Round, request: Request) -> Reply:
        """Try until there is a reply, or an error that is final for this request."""
        body = body_of(self.model, request, self.extra_body, self._limit_key, self.omit)
        most, budget, tries = self._most(request), state.budget, 0
        for sent in count(1):
            if state.stop is not None:
                raise state.stop
            endpoint = state.pick()
            await budget.reserve(most)
            try:
                reply = await self._try(endpoint, request, body, most.tokens)
            except TransientError as fault:
                (budget.lose if isinstance(fault, ReplyLost) else budget.release)(most)
                waits = isinstance(fault, Overloaded) or (
                    isinstance(fault, NobodyThere) and endpoint.heard
                )
                tries += not waits
                endpoint.gone = endpoint.gone or self._gone(endpoint, fault, tries)
                if tries >= self.max_tries:
                    return Reply(request, error=fault, tries=sent)
                await _sleep(_jittered(sent))
            except PromptRejected as fault:
                budget.release(most)
                return Reply(request, error=fault, tries=sent)
            except TeacherUnusable as fault:
                budget.release(most)
                endpoint.gone = fault
            except BaseException:
                budget.lose(most)  # cut off on the way
                raise
            else:
                tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
                cost = most.usd if reply.cost_usd is None else reply.cost_usd
                budget.settle(most, cost, tokens or most.tokens)
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
                reply = read_reply(request, raw, latency_s, self.price)
            except (ValueError, LookupError, TypeError, AttributeError):
                raise endpoint.garbled(json.dumps(raw)) from None
            endpoint.last_good = time.monotonic()
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
            return _nobody(endpoint.base_url) if never or silent_s > CONNECT_PATIENCE_S else None
        if (fault.retry_after_s or 0.0) > self.patience_s:
            what = f"it asks to wait {fault.retry_after_s:.0f} s"
        elif silent_s > self.patience_s:
            what = f"no good reply for {silent_s:.0f} s"
        else:
            return None
        return TeacherUnusable(
            f"model '{self.model}' at {endpoint.base_url}: {what}, the last fault was: {fault}; "
            "run again later, what was received is kept"
        )

    def _most(self, request: Request) -> Reservation:
        """What a request can cost at most."""
        also = [request.sampling.response_format, self.extra_body]
        prompt = most_prompt_tokens(request.messages, also if any(also) else None)
        completion = request.sampling.max_tokens
        usd = self.price.most(prompt, completion) if self.price else 0.0
        return Reservation(usd, prompt + completion)

    def _endpoint(self, url: str, key: str) -> Endpoint:
        pace = Pace(self.max_in_flight, self.requests_per_minute, self.tokens_per_minute)
        return Endpoint(self.model, url, key, self.headers, pace, self.timeout_s)

    @property
    def _urls(self) -> list[str]:
        return [self.base_url, *self.more_urls]

    @property
    def _is_openai(self) -> bool:
        return self.base_url.startswith("https://api.openai.com/")

    @property
    def _limit_key(self) -> str:
        return "max_completion_tokens" if self._is_openai else "max_tokens"

    def _key(self) -> str:
        name = self.api_key_env or ("OPENAI_API_KEY" if self._is_openai else None)
        return key_from(name, self.env_file, f"model '{self.model}' at {self.base_url}")


async def _when_done(workers: asyncio.Future[Any], replies: asyncio.Queue[Reply | None]) -> None:
    await asyncio.wait([workers])
    replies.put_nowait(None)


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _jittered(sent: int) -> float:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015)."""
    longest: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (sent - 1))
    return random.uniform(0.0, longest)


def _nobody(url: str) -> TeacherUnusable:
    return TeacherUnusable(f"no teacher answers at {url}; start it or mend base_url")
