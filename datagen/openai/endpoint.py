"""Send requests to one OpenAI-compatible address, limit their rate and classify its errors.

Every fault leaves here as one of ours, with no client's exception behind it: final for
one prompt (`PromptRejected`), final for all (`TeacherUnusable`), or worth another try
(`TransientError` and the three kinds of it here).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import aiohttp
import orjson

from datagen.spending.limits import RateLimiter, retry_after_s, used_up_s
from warehouse.errors import PromptRejected, TeacherError, TeacherUnusable, TransientError

T = TypeVar("T")

NO_KEY = "not-needed"
UNUSABLE = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "access is denied",
    404: "no such model or path",
}
RETRIED = {408, 409, 425, 429}
OVERLOADED = {429, 503, 529}
_AS_JSON: Any = {"headers": {"Content-Type": "application/json"}}
_CONSTANTS = {"-Infinity": -9999.0, "Infinity": 9999.0}
_UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
OUT_OF_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")


class NobodyThere(TransientError):
    """The connection could not be made; nothing was sent."""


class Overloaded(TransientError):
    """The server asks for less; the request was not worked on."""


class ReplyLost(TransientError):
    """The request was sent and no whole reply came back: it may have been charged."""


def key_from(name: str | None, env_file: str | None, who: str) -> str:
    """The key in an environment variable, or in the .env file that the user named.

    Raises:
        TeacherUnusable: the variable is not set in either.
    """
    if name is None:
        return NO_KEY
    key = os.environ.get(name)
    if not key and env_file:
        from dotenv import dotenv_values

        key = dotenv_values(env_file).get(name)
    if not key:
        detail = f" and {env_file} does not have it" if env_file else ""
        raise TeacherUnusable(
            f"{who}: environment variable {name} is not set{detail}; export it, or name another "
            "in api_key_env"
        )
    return key


class TimedOut(ReplyLost):
    """No reply within the time allowed; often a sign of too many at once."""


class Endpoint:
    """An address with a key. Close it when done."""

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str,
        headers: Mapping[str, str],
        pace: RateLimiter,
        timeout_s: float,
    ) -> None:
        self.model, self.base_url, self.pace, self.timeout_s = model, base_url, pace, timeout_s
        self._root = base_url.rstrip("/")  # a whole URL spares the client from joining it
        self.heard = False
        self.last_good = time.monotonic()
        self.gone: TeacherUnusable | None = None
        self._secrets = [
            secret
            for secret in (key, *(value.removeprefix("Bearer ") for value in headers.values()))
            if len(secret) >= 8 and secret != NO_KEY
        ]
        self.client = _client(key, base_url, headers, pace.max_in_flight, timeout_s)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and read its JSON object.

        Raises:
            NobodyThere, Overloaded, ReplyLost, TransientError: worth another try.
            PromptRejected: final for this prompt.
            TeacherUnusable: final for all.
        """
        import httpx2

        response = await self.call(
            self.client.post(
                self._root + path,
                cast_to=httpx2.Response,
                content=orjson.dumps(body),
                options=_AS_JSON,
            )
        )
        limited = "x-ratelimit-remaining-requests" in response.headers
        if limited and (wait := used_up_s(response.headers)):
            self.pace.pause(wait)
        return self._object(response.content)

    async def call(self, job: Awaitable[T]) -> T:
        """Await a call of the client; its error comes out as one of ours."""
        import openai

        try:
            result = await job
        except openai.APIError as error:
            fault = self.sorted(error)
        else:
            self.heard = True
            return result
        raise fault

    def sorted(self, error: Exception) -> TeacherError:
        """What an error of the client means, as one of ours."""
        import openai

        if isinstance(error, openai.APIConnectionError):  # timeouts are of this class too
            chain = _chain(error)
            if any(isinstance(cause, _UNCONNECTED) for cause in chain):
                return NobodyThere(f"{self.model}: no connection to {self.base_url}")
            if any(isinstance(cause, TimeoutError) for cause in chain):
                return TimedOut(f"{self.model}: no reply within {self.timeout_s:g} s")
            return ReplyLost(
                f"{self.model}: connection to {self.base_url} was lost ({type(chain[-1]).__name__})"
            )
        if isinstance(error, openai.APIStatusError):
            self.heard = True
            return self.refused(error.response)
        return TransientError(f"{self.model}: {self.short(str(error))}")

    def refused(self, response: Any) -> TeacherError:
        """What a reply with a status of 400 or more means."""
        status: int = response.status_code
        excerpt, prefix = self.short(response.text), f"{self.model}: HTTP {status}: "
        if status in UNUSABLE:
            return self.unusable(
                f"{UNUSABLE[status]} (HTTP {status}{': ' + excerpt if excerpt else ''})"
            )
        if status == 429 and any(code in response.text for code in OUT_OF_CREDIT):
            return self.unusable(f"{UNUSABLE[402]} (HTTP 429: {excerpt})")
        if status >= 500 or status in RETRIED:
            kind = Overloaded if status in OVERLOADED else TransientError
            wait = retry_after_s(response.headers)
            if wait is None and status in OVERLOADED:
                wait = used_up_s(response.headers)
            return kind(prefix + excerpt, wait)
        return PromptRejected(prefix + excerpt)

    def unusable(self, what: str) -> TeacherUnusable:
        """The error that ends the asking of this endpoint."""
        return TeacherUnusable(
            f"model '{self.model}' at {self.base_url}: {what}; correct api_key_env, model or base_url"
        )

    def clean(self, raw: Any) -> Any:
        """A value of a reply, without secrets."""
        return self._object(orjson.dumps(raw)) if isinstance(raw, dict) else raw

    def _object(self, content: bytes) -> dict[str, Any]:
        for secret in self._secrets:
            if secret.encode() in content:
                content = content.replace(secret.encode(), b"[redacted]")
        try:
            raw = orjson.loads(content)
        except ValueError:
            raw = _lenient(content)
        if not isinstance(raw, dict):
            raise self.garbled(content.decode(errors="replace"))
        return raw

    def garbled(self, text: str) -> ReplyLost:
        """The error for a reply that is no chat completion."""
        return ReplyLost(f"{self.model}: the reply is not a chat completion: {self.short(text)}")

    def short(self, text: str) -> str:
        """A body in one line, without secrets: the server's own message where there is one."""
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        try:
            excerpt = orjson.loads(text)["error"]
            text = str(excerpt["message"] if isinstance(excerpt, dict) else excerpt)
        except (ValueError, LookupError, TypeError):
            text = text or "no body"
        return " ".join(text.split())[:200]

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


def _lenient(content: bytes) -> Any:
    """JSON as some servers write it: infinite log-probabilities, and half a character where
    `max_tokens` cut it. None where it is no JSON at all."""
    try:
        raw = json.loads(content.decode(errors="replace"), parse_constant=_CONSTANTS.get)
        return orjson.loads(json.dumps(raw, ensure_ascii=False).encode(errors="replace"))
    except ValueError:
        return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error with what it came from; the client's own class does not tell a lost connection
    from one that was never made."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


def _client(
    key: str, base_url: str, headers: Mapping[str, str], max_in_flight: int, timeout_s: float
) -> Any:
    from openai import AsyncOpenAI

    from datagen.openai.transport import HttpClient

    for noisy in ("openai", "httpx", "httpx2", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return AsyncOpenAI(
        api_key=key,
        base_url=base_url,
        default_headers=dict(headers),
        max_retries=0,
        timeout=timeout_s,
        http_client=HttpClient(max_in_flight, timeout_s),
    )
