"""Send requests to one OpenAI-compatible address, limit their rate and classify its errors.

Every fault leaves here as one of ours, with no client's exception behind it: final for
one prompt (`PromptRejected`), final for all (`TeacherUnusable`), or worth another try
(`TransientError` and its kinds).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Iterable, Mapping
from functools import cached_property, lru_cache
from importlib import metadata
from typing import Any, TypeVar

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from datagen.openai.addresses import (
    api_root,
    lacks_version,
    query_of,
    sendable_headers,
    split_query,
)
from datagen.openai.embedded_errors import error_in, has_output
from datagen.openai.error_answers import ErrorKind, is_page, read_error, sort_error
from datagen.openai.keys import Redactor
from datagen.openai.parse_body import UnreadableReply, parse_body
from datagen.openai.transport import ReplyTooLarge, WholeReply, Wire, http_client
from datagen.openai.unreachable import explain_unreachable
from datagen.openai.waits import used_up_s
from datagen.spending.limits import RateLimiter
from datagen.teacher import REDACTED
from warehouse.errors import (
    PromptRejected,
    TeacherError,
    TeacherUnusable,
    TransientError,
)

T = TypeVar("T")

SHOWN = 200
"""Characters of a server's message that are shown."""
LONGEST_PAUSE_S = 600.0
"""Longest pause after a good reply, whatever the server says of its limits."""
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)


class Overloaded(TransientError):
    """The server asks for less; the request was not worked on."""

    is_server_fault = False
    """Whether it said so with 5xx, as one does that is starting, or has lost what is behind it."""


class NoSuchPath(TeacherUnusable):
    """The server knows no such path; where it was the list of models, it may have none."""


class ReplyLost(TransientError):
    """The request was sent and no whole reply came back: it may have been charged."""

    is_charged = True


class EmptyReply(ReplyLost):
    """The reply has no message; another request rarely brings one."""


class TimedOut(ReplyLost):
    """No reply within the time allowed; often a sign of too many at once."""


class Endpoint:
    """An address with a key, which is kept out of replies and messages, as `secrets` are.

    Close it when done. `answered` are the addresses of which a good reply came; the caller keeps
    them from one endpoint to the next.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str,
        headers: Mapping[str, str],
        pace: RateLimiter,
        timeout_s: float,
        secrets: Iterable[str] = (),
        answered: set[str] | None = None,
    ) -> None:
        self.model, self.base_url, self.pace, self.timeout_s = model, base_url, pace, timeout_s
        self._root = split_query(base_url)[0]  # a whole URL spares the client from joining it
        headers = sendable_headers(headers, f"model '{model}' at {base_url}")
        self.heard = False
        self._answered = set() if answered is None else answered
        self.last_good = time.monotonic()
        self.gone: TeacherUnusable | None = None
        self._redactor = Redactor((key, *secrets))
        self._headers = _own_headers(key, headers)
        self._query = split_query(base_url)[1]
        self._wire = Wire(pace.max_in_flight, timeout_s)
        self._client_options = key, headers

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and read its JSON object.

        Raises:
            NobodyThere, Overloaded, ReplyLost, TransientError: worth another try.
            PromptRejected: final for this prompt.
            TeacherUnusable: final for all.
        """
        reply = await self._send("POST", path, orjson.dumps(body))
        limited = any("ratelimit" in name.lower() for name in reply.headers)
        if limited and (wait := used_up_s(reply.headers)):
            self.pace.pause(min(wait, LONGEST_PAUSE_S))
        try:
            raw: dict[str, Any] = self.redact(parse_body(reply.content))
        except UnreadableReply as error:
            fault: TeacherError | None = self.unreadable(error)
        else:
            fault = self.embedded_error(raw, reply.headers, reply.redirected_to)
        if fault is not None:
            raise fault
        return raw

    async def get(self, path: str) -> Any:
        """Read what the server has at a path, from its JSON.

        Raises:
            PromptRejected, TeacherUnusable, TransientError: as `post`; TeacherUnusable also
                where there is a web page.
        """
        reply = await self._send("GET", path)
        try:
            value = orjson.loads(reply.content)
        except ValueError:
            raise self.not_an_api(reply.text) from None
        if isinstance(value, dict) and value.get("error"):
            raise self.error_of(reply.status, reply.text, reply.headers, reply.redirected_to)
        return self.redact(value)

    async def _send(self, method: str, path: str, data: bytes | None = None) -> WholeReply:
        """A reply of status 2xx; anything else comes out as one of our errors."""
        try:
            reply = await self._wire.send(
                method, _url(self._root + path + self._query), self._headers, data
            )
        except (TeacherError, aiohttp.ClientError, OSError, ValueError) as error:
            fault = self._unconnected(_chain(error))  # TimeoutError is an OSError
        else:
            self.heard = True
            if 200 <= reply.status < 300:
                return reply
            fault = self.error_of(reply.status, reply.text, reply.headers, reply.redirected_to)
        raise fault

    @cached_property
    def client(self) -> Any:
        """The `openai` client, for files and batches; it sends the same way."""
        from openai import AsyncOpenAI

        for noisy in ("openai", "httpx", "httpx2", "httpcore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        key, headers = self._client_options
        return AsyncOpenAI(
            api_key=key,
            base_url=self._root,
            default_query=query_of(self.base_url),
            default_headers=dict(headers),
            max_retries=0,
            timeout=self.timeout_s,
            http_client=http_client(self._wire, self.timeout_s),
        )

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
            return self._unconnected(_chain(error))
        if isinstance(error, openai.APIStatusError):
            self.heard = True
            reply = error.response
            target = reply.extensions.get("redirected_to")
            return self.error_of(reply.status_code, reply.text, reply.headers, target)
        return TransientError(f"{self.model}: {self.short(str(error))}")

    def _unconnected(self, chain: list[BaseException]) -> TeacherError:
        """What it means that no reply came, by the errors that led to it."""
        url, name = self.base_url, type(chain[-1]).__name__
        for cause in chain:
            if isinstance(cause, TeacherError):
                return cause
            if isinstance(cause, (aiohttp.InvalidURL, UnicodeError)):
                return self.unusable("this is no address", "correct base_url")
            if isinstance(cause, _UNTRUSTED):
                return self._untrusted(cause)
            if (unreachable := explain_unreachable(cause, url)) is not None:
                return unreachable
            if isinstance(cause, ReplyTooLarge):
                return ReplyLost(f"{self.model}: {cause} was not read to its end")
            if isinstance(cause, TimeoutError):
                return TimedOut(
                    f"{self.model}: no reply within {self.timeout_s:g} s; a larger timeout_s "
                    "waits longer"
                )
        return ReplyLost(f"{self.model}: connection to {url} was lost ({name})")

    def _untrusted(self, cause: Exception) -> TeacherError:
        reason = str(getattr(cause, "certificate_error", cause))
        if "certificate" in reason.lower():
            return self.unusable(
                f"its certificate is not trusted ({self.short(reason)})",
                "name the certificates to trust in SSL_CERT_FILE, or correct base_url",
            )
        return self.unusable(
            f"no encrypted connection could be made ({self.short(reason)})",
            "correct base_url: a server without TLS has an http:// address",
        )

    def error_of(
        self,
        status: int,
        body: Any,
        headers: Mapping[str, str] | None = None,
        redirected_to: URL | None = None,
    ) -> TeacherError:
        """What an error answer means.

        Args:
            status: The HTTP status; 200 for an error that came in place of a completion.
            body: Its text, or the value that its JSON is.
            headers: Its HTTP headers.
            redirected_to: The address that answered, where it is another one than was asked.
        """
        error = read_error(status, body, headers)
        excerpt, target = self.short(body), redirected_to
        if 300 <= status < 400:
            location = self._redactor.redact(str((headers or {}).get("location", "nowhere")))
            return self.unusable(
                f"the server redirects requests to {location} (HTTP {status})",
                f"set base_url to {api_root(location) or 'the address where the API is'}",
            )
        error_kind, what, advice = sort_error(error, self.has_answered)
        if error_kind is ErrorKind.RUN:
            if target is not None and status in (401, 403):
                what += f" by {target.host}, to which it redirects: keys stay with their address"
                advice = f"set base_url to {target.origin()} and its path"
            if error.status in (404, 405) and lacks_version(self.base_url):
                advice = f"base_url has no /v1: try {self._root}/v1, or correct model"
            words = f": {excerpt}" if excerpt != "no body" else ""
            unusable = self.unusable(f"{what} (HTTP {status}{words})", advice)
            return NoSuchPath(str(unusable)) if status in (404, 405, 501) else unusable
        message = f"{self.model}: HTTP {status}: {excerpt}"
        if error_kind is ErrorKind.PROMPT:
            return PromptRejected(message)
        kind = Overloaded if error_kind is ErrorKind.OVERLOAD else TransientError
        fault = kind(message, error.wait_s)
        if isinstance(fault, Overloaded):
            fault.is_server_fault = status >= 500
        return fault

    def embedded_error(
        self,
        raw: Any,
        headers: Mapping[str, str] | None = None,
        redirected_to: URL | None = None,
    ) -> TeacherError | None:
        """The error in a body that came with HTTP 200, which is charged for where it has a text or
        usage; None without one."""
        error = error_in(raw)
        if error is None:
            return None
        fault = self.error_of(200, error, headers, redirected_to)
        fault.is_charged = fault.is_charged or has_output(raw)
        return fault

    @property
    def has_answered(self) -> bool:
        """Whether a good reply came from this address: then its path and its model exist."""
        return self.base_url in self._answered

    def note_good_reply(self) -> None:
        """Remember that a good reply came."""
        self.last_good = time.monotonic()
        self._answered.add(self.base_url)

    def unusable(
        self, what: str, advice: str = "correct api_key_env, model or base_url"
    ) -> TeacherUnusable:
        """The error that ends the asking of this endpoint."""
        return TeacherUnusable(f"model '{self.model}' at {self.base_url}: {what}; {advice}")

    def not_an_api(self, text: str) -> TeacherError:
        """The error for a text where JSON was expected."""
        error = self.garbled(text)
        if not is_page(text):
            return error
        return self.unusable(
            f"{self.short(text)} is here, not an API", "correct base_url (it usually ends in /v1)"
        )

    def redact(self, raw: Any) -> Any:
        """A parsed body without secrets; an object says how often one stood in it."""
        redacted = self._redactor.redact_value(raw)
        return {**raw, REDACTED: redacted} if redacted and isinstance(raw, dict) else raw

    def unreadable(self, error: UnreadableReply) -> ReplyLost:
        """The error for a reply that is no chat completion, or one without a message."""
        if error.is_empty:
            shown = self._redactor.redact(str(error))[:SHOWN]
            return EmptyReply(f"{self.model}: the reply has no message: {shown}")
        return self.garbled(str(error))

    def garbled(self, text: str) -> ReplyLost:
        """The error for a text that is no chat completion."""
        return ReplyLost(f"{self.model}: the reply is not a chat completion: {self.short(text)}")

    def short(self, body: Any) -> str:
        """A body in one line, without secrets: the server's own message where there is one."""
        return self._redactor.redact(read_error(200, body).message)[:SHOWN]

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()


def _chain(error: BaseException) -> list[BaseException]:
    """An error with what it came from; the client's own class does not tell a lost connection
    from one that was never made."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    """An address, parsed once.

    Raises:
        aiohttp.InvalidURL: it is none.
    """
    try:
        parsed = URL(url)
    except ValueError:
        raise aiohttp.InvalidURL(url) from None
    if not parsed.absolute:
        raise aiohttp.InvalidURL(url)
    return parsed


def _own_headers(key: str, headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers of each request; those of the plan stand for ours of the same name."""
    own = CIMultiDict(
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"stillhouse/{metadata.version('stillhouse')}",
            "Authorization": f"Bearer {key}",
        }
    )
    own.update(headers)
    return own
