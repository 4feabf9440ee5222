"""Define the options of all OpenAI-compatible teachers: model, address, key, price, identity."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

from datagen.openai.addresses import lacks_version, split_query
from datagen.openai.endpoint import Endpoint, NoSuchPath
from datagen.openai.keys import key_from, value_from
from datagen.openai.read_reply import read_reply
from datagen.openai.unreachable import NobodyThere
from datagen.openai.usage import MARK, check_usage, longest_reply
from datagen.openai.wire_format import body_of
from datagen.spending.limits import Budget, RateLimiter, Reservation
from datagen.spending.pricing import Price, load_tokenizer, most_prompt_tokens, price_of
from datagen.teacher import Reply, Request
from warehouse.canonical_json import canonical
from warehouse.errors import PromptRejected, TeacherUnusable, TransientError
from warehouse.secrets import EnvReference, is_secret_header, references_in, resolve
from warehouse.wording import format_count

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
CHECK_S = 10.0
"""Longest wait for a server's list of models."""

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
    headers: dict[str, str | EnvReference] = field(default_factory=dict, repr=False)
    """Extra HTTP headers. A secret stands in the environment: { Authorization = { env = "NAME" } }."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Extra fields of the request's JSON; part of the teacher's identity. A secret: { env = "NAME" }."""
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
        for url in self.urls:
            root = urlsplit(url)._replace(query="", fragment="").geturl().rstrip("/")
            for path in ("/chat/completions", "/completions", "/responses"):
                if root.endswith(path):
                    raise ValueError(f"base_url ends before {path}: {root.removesuffix(path)}")
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

        The requests go the way that `answer` takes: the same client, headers, proxies and
        certificates.

        Raises:
            TeacherUnusable: no key, nobody there, the key is refused, base_url is not where the
                API is, or the model is not among those that the server lists.
        """
        key = self.key()

        async def check_all() -> list[str]:
            return [await self._check_server(url, key) for url in self.urls]

        return asyncio.run(check_all())

    @cached_property
    def answered(self) -> set[str]:
        """The addresses of which this teacher had a good reply."""
        return set()

    def close(self) -> None:
        """Nothing is held between calls."""

    def key(self) -> str:
        """The API key, from the environment.

        Raises:
            TeacherUnusable: it is not there.
        """
        return key_from(self._key_name, self.env_file, f"model '{self.model}' at {self.base_url}")

    @property
    def variables(self) -> list[str]:
        """The environment variables that are read when a request is sent."""
        return [*filter(None, [self._key_name]), *self.references]

    @property
    def references(self) -> list[str]:
        """The environment variables that `headers` and `extra_body` refer to."""
        found = [*references_in(self.headers), *references_in(self.extra_body)]
        return list(dict.fromkeys(reference.env for reference in found))

    @cached_property
    def sent_headers(self) -> dict[str, str]:
        """`headers` with the values of the variables that they refer to.

        Raises:
            TeacherUnusable: a variable is not set.
        """
        headers: dict[str, str] = resolve(self.headers, self._from_environment)
        return headers

    @cached_property
    def secrets(self) -> list[str]:
        """What must not appear in anything that is kept or shown, beside the key.

        Raises:
            TeacherUnusable: a variable is not set.
        """
        literal = [value for name, value in self.sent_headers.items() if is_secret_header(name)]
        return [*(self._from_environment(name) for name in self.references), *literal]

    def _from_environment(self, name: str) -> str:
        who = f"model '{self.model}' at {self.base_url}"
        return value_from(name, self.env_file, who, "headers or extra_body")

    @cached_property
    def _sent_extra_body(self) -> dict[str, Any]:
        body: dict[str, Any] = resolve(self.extra_body, self._from_environment)
        return body

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON of a request."""
        limit_key = "max_completion_tokens" if self._is_openai else "max_tokens"
        return body_of(self.model, request, self._sent_extra_body, limit_key, self.omit)

    def most(self, request: Request) -> Reservation:
        """What a request can cost at most."""
        extras = [request.sampling.response_format, self.extra_body]
        prompt = most_prompt_tokens(request.messages, extras if any(extras) else None)
        completion = longest_reply(request.sampling.max_tokens, self.extra_body)
        usd = self.price.most(prompt, completion) if self.price else 0.0
        return Reservation(usd, prompt + completion)

    def read(self, request: Request, raw: dict[str, Any], latency_s: float) -> Reply:
        """A reply from its JSON, with credible usage.

        Raises:
            UnreadableReply: it is no chat completion.
        """
        reply = read_reply(request, raw, latency_s, self.price)
        return check_usage(reply, self.price, self.extra_body, self._tokenizer)

    def settle(self, budget: Budget, most: Reservation, reply: Reply) -> Reply:
        """Put what a reply did cost in place of what was reserved for it.

        Returns:
            The reply; one that was measured says by how much more it counts, for later runs.
        """
        usd = most.usd if reply.cost_usd is None else reply.cost_usd
        tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
        if not reply.usage.measured:
            budget.settle(most, usd, tokens)
            return reply
        more_usd, more_tokens = budget.settle_measured(most, usd, tokens)
        mark = {**reply.raw.get(MARK, {}), "unmetered": {"usd": more_usd, "tokens": more_tokens}}
        return replace(reply, raw={**reply.raw, MARK: mark})

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.tokenizer) if self.tokenizer else None

    async def _check_server(self, url: str, key: str) -> str:
        """What `distill check` says of one server."""
        listing = await self._models_at(url, key)
        if listing is None and lacks_version(url):
            root, query = split_query(url)
            with_version = f"{root}/v1{query}"
            if await self._models_at(with_version, key) is not None:
                raise TeacherUnusable(
                    f"model '{self.model}' at {url}: the API is not here but at {with_version}; "
                    "correct base_url"
                )
        if listing is None:
            return f"{self.model} at {url} (it lists no models)"
        plain = {_plain_name(name) for name in listing}
        has_deployments = _is_azure(url)  # under names of their own, beside the models it lists
        if _plain_name(self.model) in plain or has_deployments:
            return f"{self.model} at {url}"
        near = get_close_matches(self.model, listing, n=3, cutoff=0.4) or sorted(listing)[:3]
        raise TeacherUnusable(
            f"{self.model} at {url} is not among the {format_count(len(listing), 'model')} that it "
            f"lists; correct model ({', '.join(near)})"
        )

    async def _models_at(self, url: str, key: str) -> list[str] | None:
        """The models that a server lists; None where it lists none.

        Raises:
            TeacherUnusable: nobody there, the key is refused, or this is no API.
        """
        endpoint = Endpoint(
            self.model, url, key, self.sent_headers, RateLimiter(1), CHECK_S, self.secrets
        )
        try:
            listing = await endpoint.get("/models")
        except NobodyThere as fault:
            raise TeacherUnusable(str(fault)) from None
        except (NoSuchPath, PromptRejected, TransientError):
            return None
        finally:
            await endpoint.close()
        models = (
            listing.get("data", listing.get("models")) if isinstance(listing, dict) else listing
        )
        if not isinstance(models, list):
            return None
        models = [model for model in models if isinstance(model, dict)]
        if any(model.get("owned_by") == "llamacpp" for model in models):
            return None  # it serves its one model under every name
        names = [model.get("id") or model.get("name") for model in models]
        return [str(name) for name in names if name] or None

    @property
    def _key_name(self) -> str | None:
        return self.api_key_env or ("OPENAI_API_KEY" if self._is_openai else None)

    @property
    def _is_openai(self) -> bool:
        return self.base_url.startswith("https://api.openai.com/")


def backoff_s(sent: int) -> float:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015)."""
    longest: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(sent - 1, 60))
    return random.uniform(0.0, longest)


def _plain_name(model: str) -> str:
    """A model's name as servers accept it: Google lists `models/x` for x, Ollama `x:latest`."""
    return model.removeprefix("models/").removesuffix(":latest")


def _is_azure(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.endswith((".azure.com", ".microsoft.com")) or "api-version=" in url


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
