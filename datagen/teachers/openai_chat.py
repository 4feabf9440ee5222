"""A teacher behind an OpenAI-compatible chat endpoint: a paid API, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from datagen.teacher import Reply, Request, Usage
from warehouse.errors import PromptRejected, TeacherError, TeacherUnusable, TransientError
from warehouse.records import canonical, now

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 600.0
TRIES_TO_CONNECT = 3
NO_KEY = "not-needed"
UNUSABLE = {401: "the key was refused", 403: "access is denied", 404: "no such model or path"}
RETRIED = {408, 409, 425, 429}
ECHOES = ("prompt", "messages", "input", "prompt_logprobs", "prompt_token_ids", "__verbose")


class _NobodyThere(TransientError):
    """The connection could not be made."""


@dataclass
class _Round:
    """What the workers of one `answer` know of each other."""

    heard: bool = False
    unusable: TeacherUnusable | None = None


@dataclass(frozen=True)
class OpenaiChat:
    """Any server with an OpenAI-compatible `/chat/completions`.

    Rate limits, server faults, lost connections and unreadable replies are tried again
    with exponential waits and jitter, never sooner than the server's Retry-After asks.
    """

    model: str
    """The model's name as the server knows it."""
    base_url: str = "https://api.openai.com/v1"
    """Where the API starts, usually ending in /v1."""
    api_key_env: str | None = None
    """The environment variable with the key. Unset: OPENAI_API_KEY for api.openai.com, else none."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Extra HTTP headers."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Extra fields of the request's JSON; part of the teacher's identity."""
    max_in_flight: int = 32
    """Most requests open at once."""
    timeout_s: float = 120.0
    """Longest wait for one reply, in seconds."""
    max_tries: int = 6
    """Tries per request before it counts as failed."""
    identity_name: str | None = None
    """A name for the replies that outlives a change of base_url."""
    input_usd_per_million: float | None = None
    """Price of a million prompt tokens in USD."""
    output_usd_per_million: float | None = None
    """Price of a million completion tokens in USD."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model is the name the server knows the model by")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError("base_url starts with http:// or https://")
        if min(self.max_in_flight, self.max_tries) < 1 or self.timeout_s <= 0:
            raise ValueError("max_in_flight and max_tries are 1 or more, timeout_s is above 0")
        if (self.input_usd_per_million is None) != (self.output_usd_per_million is None):
            raise ValueError("give both input_usd_per_million and output_usd_per_million, or none")

    @property
    def identity(self) -> str:
        """Model, URL and extra body; `identity_name` stands in for model and URL."""
        name = self.identity_name or f"{self.model}@{self.base_url.rstrip('/')}"
        return f"{name} {canonical(self.extra_body)}" if self.extra_body else name

    def check(self) -> list[str]:
        """Find the key, and ask the server for its list of models, which costs nothing.

        Raises:
            TeacherUnusable: no key, nobody there, or the key is refused.
        """
        key = self._key()
        listing = urllib.request.Request(
            f"{self.base_url.rstrip('/')}/models", headers=self.headers
        )
        if not listing.has_header("Authorization"):
            listing.add_unredirected_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(listing, timeout=10) as response:
                known = [str(model["id"]) for model in json.load(response)["data"]]
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise self._unusable(error.code) from None
            return [f"{self.model} at {self.base_url} (it lists no models)"]
        except OSError:
            raise self._nobody() from None
        except (ValueError, KeyError, TypeError):
            return [f"{self.model} at {self.base_url} (it lists no models)"]
        if self.model in known:
            return [f"{self.model} at {self.base_url}"]
        return [f"{self.model} at {self.base_url} is not among the {len(known)} models it lists"]

    async def answer(self, requests: Sequence[Request]) -> AsyncGenerator[Reply]:
        """One reply per request as they arrive, `max_in_flight` at a time.

        Raises:
            TeacherUnusable: after the replies that were already on their way.
        """
        state = _Round()
        waiting = iter(requests)
        replies: asyncio.Queue[Reply | None] = asyncio.Queue(maxsize=self.max_in_flight)
        client = self._client(self._key())
        workers = asyncio.gather(
            *(
                self._work(client, state, waiting, replies)
                for _ in range(min(self.max_in_flight, len(requests)))
            )
        )
        ended = asyncio.ensure_future(_when_done(workers, replies))
        try:
            while (reply := await replies.get()) is not None:
                yield reply
            await workers
            if state.unusable is not None:
                raise state.unusable
        finally:
            workers.cancel()
            ended.cancel()
            await asyncio.gather(workers, ended, return_exceptions=True)
            await client.close()

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _work(
        self,
        client: Any,
        state: _Round,
        waiting: Iterator[Request],
        replies: asyncio.Queue[Reply | None],
    ) -> None:
        while state.unusable is None and (request := next(waiting, None)) is not None:
            try:
                reply = await self._ask_again(client, state, request)
            except TeacherUnusable as error:
                state.unusable = state.unusable or error
            else:
                await replies.put(reply)

    async def _ask_again(self, client: Any, state: _Round, request: Request) -> Reply:
        from tenacity import (
            AsyncRetrying,
            RetryCallState,
            retry_if_exception_type,
            wait_exponential_jitter,
        )

        grow = wait_exponential_jitter(
            multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=FIRST_WAIT_S
        )

        def wait(tried: RetryCallState) -> float:
            return max(grow(tried), _fault(tried).retry_after_s or 0.0)

        def stop(tried: RetryCallState) -> bool:
            fault, tries = _fault(tried), tried.attempt_number
            if isinstance(fault, _NobodyThere) and not state.heard and tries >= TRIES_TO_CONNECT:
                return True
            too_long = (fault.retry_after_s or 0.0) > LONGEST_RETRY_AFTER_S
            return tries >= self.max_tries or too_long or state.unusable is not None

        again = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait,
            stop=stop,
            sleep=_sleep,
            reraise=True,
        )
        try:
            return await again(partial(self._ask, client, state, request))
        except _NobodyThere as error:
            if not state.heard:
                raise self._nobody() from None
            return Reply(request, error=TransientError(str(error)))
        except (TransientError, PromptRejected) as error:
            return Reply(request, error=error)

    async def _ask(self, client: Any, state: _Round, request: Request) -> Reply:
        """One try. Every fault leaves here as one of ours, without the client's own behind it."""
        import openai

        fault: TeacherError
        start = time.perf_counter()
        try:
            response = await client.chat.completions.with_raw_response.create(**self._body(request))
        except openai.APITimeoutError as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                fault = _NobodyThere(f"no connection to {self.base_url}")
            else:
                fault = TransientError(f"{self.model}: no reply within {self.timeout_s:g} s")
        except openai.APIConnectionError as error:
            lost = type(error.__cause__).__name__
            kind = _NobodyThere if lost == "ConnectError" else TransientError
            fault = kind(f"{self.model}: connection to {self.base_url} failed ({lost})")
        except openai.APIStatusError as error:
            state.heard = True
            fault = self._sorted(error.status_code, error.response)
        else:
            state.heard = True
            return self._reply(request, response.http_response.text, time.perf_counter() - start)
        raise fault

    def _body(self, request: Request) -> dict[str, Any]:
        drawn = request.sampling
        limit = "max_completion_tokens" if self._is_openai else "max_tokens"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.messages,
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            limit: drawn.max_tokens,
        }
        if drawn.seed is not None:
            body["seed"] = drawn.seed
        if drawn.stop:
            body["stop"] = drawn.stop
        if self.extra_body:
            body["extra_body"] = self.extra_body
        return body

    def _reply(self, request: Request, text: str, latency_s: float) -> Reply:
        try:
            raw = json.loads(self._redacted(text))
            choice = raw["choices"][0]
            message = choice["message"]
            said = message.get("content") or message.get("refusal") or ""
            used = raw.get("usage") or {}
            usage = Usage(
                int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
            )
            finish_reason = str(choice.get("finish_reason") or "stop")
            if not isinstance(said, str):
                raise TypeError("content is not a text")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise TransientError(
                f"{self.model}: the reply is not a chat completion: {self._short(text)}"
            ) from None
        return Reply(
            request,
            text=said,
            finish_reason=finish_reason,
            usage=usage,
            latency_s=latency_s,
            cost_usd=self._cost(usage) if used else None,
            raw={key: value for key, value in raw.items() if key not in ECHOES},
        )

    def _cost(self, usage: Usage) -> float | None:
        if self.input_usd_per_million is None or self.output_usd_per_million is None:
            return None
        into = usage.prompt_tokens * self.input_usd_per_million
        return (into + usage.completion_tokens * self.output_usd_per_million) / 1e6

    def _sorted(self, status: int, response: Any) -> TeacherError:
        said = self._short(response.text)
        if status in UNUSABLE:
            return self._unusable(status, said)
        if status >= 500 or status in RETRIED:
            return TransientError(
                f"{self.model}: HTTP {status}: {said}", _retry_after(response.headers)
            )
        return PromptRejected(f"{self.model}: HTTP {status}: {said}")

    def _unusable(self, status: int, said: str = "") -> TeacherUnusable:
        what = f"{UNUSABLE[status]} (HTTP {status}{': ' + said if said else ''})"
        return TeacherUnusable(
            f"model '{self.model}' at {self.base_url}: {what}; mend api_key_env, model or base_url"
        )

    def _nobody(self) -> TeacherUnusable:
        return TeacherUnusable(f"no teacher answers at {self.base_url}; start it or mend base_url")

    @property
    def _is_openai(self) -> bool:
        return self.base_url.startswith("https://api.openai.com/")

    def _key(self) -> str:
        name = self.api_key_env or ("OPENAI_API_KEY" if self._is_openai else None)
        if name is None:
            return NO_KEY
        if not os.environ.get(name):
            raise TeacherUnusable(
                f"model '{self.model}' at {self.base_url}: environment variable {name} is not set; "
                "export it, or name another in api_key_env"
            )
        return os.environ[name]

    def _client(self, key: str) -> Any:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        for noisy in ("openai", "httpx", "httpx2", "httpcore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        limits = httpx2.Limits(
            max_connections=self.max_in_flight, max_keepalive_connections=self.max_in_flight
        )
        timeout = httpx2.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s))
        return AsyncOpenAI(
            api_key=key,
            base_url=self.base_url,
            default_headers=self.headers,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(limits=limits, timeout=timeout),
        )

    def _redacted(self, text: str) -> str:
        secrets = [self._key()] + [value.removeprefix("Bearer ") for value in self.headers.values()]
        for secret in secrets:
            if len(secret) >= 8 and secret != NO_KEY:
                text = text.replace(secret, "[redacted]")
        return text

    def _short(self, text: str) -> str:
        """A body in one line: the server's own message where there is one."""
        text = self._redacted(text)
        try:
            said = json.loads(text)["error"]
            text = str(said["message"] if isinstance(said, dict) else said)
        except (ValueError, LookupError, TypeError):
            text = text or "no body"
        return " ".join(text.split())[:200]


async def _when_done(workers: asyncio.Future[Any], replies: asyncio.Queue[Reply | None]) -> None:
    await asyncio.wait([workers])
    await replies.put(None)


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _fault(tried: Any) -> TransientError:
    error = tried.outcome.exception()
    return error if isinstance(error, TransientError) else TransientError(str(error))


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait by `Retry-After`, given as seconds or as an HTTP date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, (parsedate_to_datetime(value) - now()).total_seconds())
        except (ValueError, TypeError):
            return None
