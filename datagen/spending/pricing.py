"""Price tokens and count a prompt's: an upper bound for budgets, an average for estimates.

Prices are list prices of a day (`pricing.toml`, `as_of`).
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize
from urllib.parse import urlsplit

from warehouse.errors import AssetError
from warehouse.records import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PER_MESSAGE_MOST = 8
"""Most tokens that a chat template puts around one message: marks, role, line ends."""
PER_TEMPLATE_MOST = 512
"""Most tokens of a template's own system text."""
BYTES_PER_TOKEN = 4
"""UTF-8 bytes of one token, where there is no tokenizer to ask."""
PER_MESSAGE = 4
"""Tokens around one message, in estimates."""
LEAST_CACHED = 1024
"""Shorter prompts are not put into a server's cache (OpenAI's guide to prompt caching)."""

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply; cached and written ones are part of the prompt's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server read from its cache."""
    written_tokens: int | None = None
    """Those of the prompt that the server put into its cache; None where it does not say."""
    measured: bool = False
    """Whether a count is ours, since the server reported none that is credible."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: float
    """A prompt token."""
    output: float
    """A completion token, reasoning included."""
    cached_input: float | None = None
    """A prompt token read from the server's cache. Unset: as `input`."""
    cache_write: float | None = None
    """A prompt token that the server puts into its cache. Unset: as `input`."""
    long_from: int | None = None
    """A request with more prompt tokens than this is billed by the two factors."""
    long_input: float = 1.0
    """Factor for all prompt tokens of such a request."""
    long_output: float = 1.0
    """Factor for its completion tokens."""
    as_of: date | None = field(default=None, compare=False)
    """The day of a list price. Unset: the user gave the price."""

    def cost(self, usage: Usage) -> float:
        """USD of one reply; the most it can be where cache writes cost more and are not reported."""
        prompt = usage.prompt_tokens
        cached = min(usage.cached_tokens, prompt)
        fresh, written, write = prompt - cached, usage.written_tokens, self.cache_write
        if written is None:
            written = fresh if prompt >= LEAST_CACHED else 0
        written = min(written, fresh) if write is not None else 0
        read = self.input if self.cached_input is None else self.cached_input
        usd_in = (fresh - written) * self.input + written * (write or 0.0) + cached * read
        usd_out = usage.completion_tokens * self.output
        if self.long_from is not None and prompt > self.long_from:
            usd_in, usd_out = usd_in * self.long_input, usd_out * self.long_output
        return (usd_in + usd_out) / 1e6

    def most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The most that so many tokens can cost in one request, in USD, whatever is cached."""
        return self._dearest.cost(Usage(prompt_tokens, completion_tokens))

    @cached_property
    def _dearest(self) -> Price:
        rates = (self.input, self.cached_input, self.cache_write)
        dearest = max(rate for rate in rates if rate is not None)
        return replace(self, input=dearest, cached_input=None, cache_write=None)

    def scaled(self, factor: float) -> Price:
        """All prices times a factor, as of a batch API."""
        return replace(
            self,
            input=self.input * factor,
            output=self.output * factor,
            cached_input=None if self.cached_input is None else self.cached_input * factor,
            cache_write=None if self.cache_write is None else self.cache_write * factor,
        )


FREE = Price(0.0, 0.0)
"""The price of what runs on this machine."""


def total_usd(costs: Iterable[float | None]) -> float | None:
    """The sum of costs; None where one of them is unknown."""
    costs = list(costs)
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


@cache
def _book() -> tuple[date, dict[tuple[str, str], tuple[Price, float | None]]]:
    text = resources.files("datagen.spending").joinpath("pricing.toml").read_text("utf-8")
    book = tomllib.loads(text)
    day = date.fromisoformat(book["as_of"])
    prices: dict[tuple[str, str], tuple[Price, float | None]] = {}
    for entry in book["model"]:
        key, batch = (entry.pop("host"), entry.pop("model")), entry.pop("batch", None)
        long = dict(
            zip(("long_from", "long_input", "long_output"), entry.pop("long", ()), strict=False)
        )
        prices[key] = Price(**entry, **long, as_of=day), batch
    return day, prices


def _entry(model: str, base_url: str) -> tuple[Price | None, float | None]:
    host, book = urlsplit(base_url).hostname or "", _book()[1]
    base = _SNAPSHOT.sub("", model)
    return book.get((host, model)) or book.get((host, base)) or (None, None)


def as_of() -> date:
    """The day of the known prices."""
    return _book()[0]


def price_of(model: str, base_url: str) -> Price | None:
    """The list price of a model at a host; a dated snapshot costs what its base name costs."""
    return _entry(model, base_url)[0]


def batch_factor_of(model: str, base_url: str) -> float | None:
    """What the host's batch API multiplies prices by; None where none is known."""
    return _entry(model, base_url)[1]


def most_prompt_tokens(messages: Sequence[Message], extra: Any = None) -> int:
    """The most tokens that a prompt of texts can have: byte-level BPE has one token per byte at most.

    Pictures and files that a message only names are not bounded.

    Args:
        messages: Chat messages; all but role and text counts by its JSON.
        extra: What else becomes part of the prompt, such as a response format; by its JSON.
    """
    texts = [text for message in messages for text in _texts(message)]
    if extra is not None:
        texts.append(_json(extra))
    around = PER_MESSAGE_MOST * len(messages) + PER_TEMPLATE_MOST
    return around + sum(max(_size(text), _size(normalize("NFC", text))) for text in texts)


def count_prompt_tokens(messages: Sequence[Message], tokenizer: Tokenizer | None) -> int:
    """About how many tokens a prompt has: by the tokenizer, else UTF-8 bytes / 4; 4 per message."""
    texts = [text for message in messages for text in _texts(message)]
    around = PER_MESSAGE * len(messages)
    if tokenizer is None:
        return around + math.ceil(sum(_size(text) for text in texts) / BYTES_PER_TOKEN)
    return around + sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def load_tokenizer(where: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, or of a folder with one.

    Raises:
        AssetError: it is not there, or cannot be read.
    """
    from tokenizers import Tokenizer

    path = Path(where).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises Exception itself
        raise AssetError(
            f"tokenizer {path} cannot be read ({error}); name a tokenizer.json or its folder"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _texts(message: Message) -> list[str]:
    content = message.get("content")
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    parts = content if isinstance(content, list) else [] if content is None else [content]
    return [_text(part) for part in parts] + ([_json(rest)] if rest else [])


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part["text"], str):
        return part["text"]
    return _json(part)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
