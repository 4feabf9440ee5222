"""Define the options of all OpenAI-compatible teachers: model, address, key, price, identity."""

from __future__ import annotations

import asyncio
import json
import random
import re
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

from datagen.openai.endpoint import key_from
from datagen.openai.wire_format import body_of
from datagen.spending.limits import Reservation
from datagen.spending.pricing import Price, most_prompt_tokens, price_of
from datagen.teacher import Reply, Request
from warehouse.errors import TeacherUnusable
from warehouse.records import canonical
from warehouse.wording import format_count

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0


_ADDRESS = re.compile(r"@(https?://[^\s/?#]*)([^\s]*)", re.IGNORECASE)
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def normalized_identity(identity: str) -> str:
    """The identity with its address in one spelling, to be compared; never hashed."""

    def normalized(match: re.Match[str]) -> str:
        parts = urlsplit(match[1].lower())
        host = "localhost" if parts.hostname in _THIS_MACHINE else parts.hostname
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return f"@{parts.scheme}://{host}:{port}{match[2].rstrip('/')}"

    try:
        return _ADDRESS.sub(normalized, identity, count=1)
    except ValueError:  # no address that a URL parser takes: then no spelling but its own
        return identity


@dataclass(frozen=True)
class OpenaiApi:
    """The options that its teachers share. The same model at the same address is the same
    teacher, whichever of them asks it: what one was paid for, the other reuses."""

    model: str
    """The model's name as the server knows it."""
    base_url: str = "https://api.openai.com/v1"
    """Where the API starts, usually ending in /v1."""
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
    identity_name: str | None = None
    """A name for the replies that outlives a change of base_url."""
    input_usd_per_million: float | None = None
    """Price of a million prompt tokens in USD. Unset: the known price, if there is one."""
    output_usd_per_million: float | None = None
    """Price of a million completion tokens in USD."""
    tokenizer: str | None = None
    """A tokenizer.json, or a folder with one, to count tokens for the estimate."""
    _adopted: ClassVar[str | None] = None  # of an instance, where it took a known spelling

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model is the name the server knows the model by")
        if not all(url.lower().startswith(("http://", "https://")) for url in self.urls):
            raise ValueError("base_url and more_urls start with http:// or https://")
        if (self.input_usd_per_million is None) != (self.output_usd_per_million is None):
            raise ValueError("give both input_usd_per_million and output_usd_per_million, or none")

    @property
    def urls(self) -> list[str]:
        """Every address of the model."""
        return [self.base_url]

    @property
    def identity(self) -> str:
        """Model, URL and what changes the request; `identity_name` stands in for model and URL."""
        return self._adopted or self._own_identity

    def adopt_identity(self, known: Iterable[str]) -> None:
        """Take the first of the known identities that means this very model and server.

        Its own spelling is kept where it is among them. Another letter case of the host, a
        trailing slash, a default port and the names of this machine make no other server.
        """
        known = list(known)
        meant = normalized_identity(self._own_identity)
        if self._own_identity not in known:
            same = (identity for identity in known if normalized_identity(identity) == meant)
            object.__setattr__(self, "_adopted", next(same, None))

    @property
    def _own_identity(self) -> str:
        name = self.identity_name or f"{self.model}@{self.base_url.rstrip('/')}"
        if self.extra_body:
            name = f"{name} {canonical(self.extra_body)}"
        return f"{name} without {','.join(sorted(self.omit))}" if self.omit else name

    @property
    def price(self) -> Price | None:
        """What its replies cost."""
        return self.ordinary_price

    @cached_property
    def ordinary_price(self) -> Price | None:
        """What was given in the plan, else what is known of the model at this host."""
        if self.input_usd_per_million is not None and self.output_usd_per_million is not None:
            return Price(self.input_usd_per_million, self.output_usd_per_million)
        return price_of(self.model, self.base_url)

    def check(self) -> list[str]:
        """Find the key, and ask each server for its list of models, which costs nothing.

        Raises:
            TeacherUnusable: no key, nobody there, or the key is refused.
        """
        return [self._listed(url, self.key()) for url in self.urls]

    def close(self) -> None:
        """Nothing is held between calls."""

    def key(self) -> str:
        """The API key, from the environment.

        Raises:
            TeacherUnusable: it is not there.
        """
        name = self.api_key_env or ("OPENAI_API_KEY" if self._is_openai else None)
        return key_from(name, self.env_file, f"model '{self.model}' at {self.base_url}")

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON of a request."""
        limit_key = "max_completion_tokens" if self._is_openai else "max_tokens"
        return body_of(self.model, request, self.extra_body, limit_key, self.omit)

    def most(self, request: Request) -> Reservation:
        """What a request can cost at most."""
        extras = [request.sampling.response_format, self.extra_body]
        prompt = most_prompt_tokens(request.messages, extras if any(extras) else None)
        completion = request.sampling.max_tokens
        usd = self.price.most(prompt, completion) if self.price else 0.0
        return Reservation(usd, prompt + completion)

    def _listed(self, url: str, key: str) -> str:
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
                    "correct api_key_env, model or base_url"
                ) from None
            return f"{self.model} at {url} (it lists no models)"
        except OSError:
            raise nobody(url) from None
        except (ValueError, KeyError, TypeError):
            return f"{self.model} at {url} (it lists no models)"
        if self.model in known:
            return f"{self.model} at {url}"
        return (
            f"{self.model} at {url} is not among the {format_count(len(known), 'model')} it lists"
        )

    @property
    def _is_openai(self) -> bool:
        return self.base_url.startswith("https://api.openai.com/")


def backoff_s(sent: int) -> float:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015)."""
    longest: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (sent - 1))
    return random.uniform(0.0, longest)


def nobody(url: str) -> TeacherUnusable:
    """The error for an address where nothing listens."""
    return TeacherUnusable(f"no teacher answers at {url}; start the server or correct base_url")


async def arriving(
    workers: Iterable[Coroutine[Any, Any, None]], replies: asyncio.Queue[Reply | None]
) -> AsyncGenerator[Reply]:
    """Let workers run side by side, and yield what they put into the queue as it arrives.

    A reply counts as done in the queue when the next one is asked for: by then it is kept.
    """
    working = asyncio.gather(*workers)
    working.add_done_callback(lambda _: replies.put_nowait(None))
    try:
        while (reply := await replies.get()) is not None:
            yield reply
            replies.task_done()
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
