"""Read the usage that a server reports, and measure it where it is missing or not credible.

A budget must hold whatever a server claims. Reported tokens are believed within bounds that no
honest meter leaves: a prompt or a reply has no less than a token per `LONGEST_TOKEN` bytes, and
no more than `MOST_OVERRUN` times what was reserved for it. Else they are measured: by the
tokenizer where the plan names one, else as UTF-8 bytes / 4, the average that estimates use too.
That is an average and no bound, so a measured reply counts against the budget with all that was
reserved for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datagen.spending.limits import MOST_OVERRUN
from datagen.spending.pricing import (
    BYTES_PER_TOKEN,
    Price,
    Usage,
    count_prompt_tokens,
    most_prompt_tokens,
)
from datagen.teacher import Reply

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST_TOKEN = 16
"""UTF-8 bytes that tokens of a text do not exceed on average, in any tokenizer and script."""
SLACK = 16
"""Tokens more that a short reply may have: the marks at its end."""
MARK = "stillhouse"
"""The key of a raw reply under which our own remarks stand."""
TOO_LONG = "the text is far longer than max_tokens allows: the server ignores the limit"
MEASURED = "usage was missing or not credible and was measured"


def read_usage(reported: Any) -> Usage:
    """The usage in a reply's JSON; what cannot be read as a count of tokens is 0."""
    if not isinstance(reported, dict):
        return Usage()
    details = reported.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    prompt = _count(reported.get("prompt_tokens", reported.get("input_tokens"))) or 0
    completion = reported.get("completion_tokens", reported.get("output_tokens"))
    return Usage(
        prompt,
        _count(completion) or 0,
        min(_count(details.get("cached_tokens")) or 0, prompt),
        _count(details.get("cache_write_tokens")),
    )


def check_usage(
    reply: Reply,
    price: Price | None,
    extra_body: Mapping[str, Any],
    tokenizer: Tokenizer | None = None,
) -> Reply:
    """A reply with credible usage and its cost; `usage.measured` where a count was replaced.

    What the server reported stays in `raw`, which also names the counts that were replaced.
    """
    reported = reply.raw.get("usage")
    usage = reply.usage if reported is None else read_usage(reported)
    messages, sampling = reply.request.messages, reply.request.sampling
    measured: dict[str, int] = {}
    extras = [sampling.response_format, extra_body]
    most = most_prompt_tokens(messages, extras if any(extras) else None)
    least = sum(_size(text) for text in _texts(messages)) / LONGEST_TOKEN
    if not max(1, least) <= usage.prompt_tokens <= MOST_OVERRUN * most and (
        _has_texts_alone(messages) or usage.prompt_tokens < 1
    ):
        measured["prompt_tokens"] = count_prompt_tokens(messages, tokenizer)
    written = f"{reply.reasoning or ''}{reply.text}"
    longest = MOST_OVERRUN * longest_reply(sampling.max_tokens, extra_body) + SLACK
    if not _size(written) / LONGEST_TOKEN <= usage.completion_tokens <= longest:
        measured["completion_tokens"] = _measure(written, tokenizer)
    if not measured:
        usage = replace(usage, cached_tokens=min(usage.cached_tokens, usage.prompt_tokens))
        return replace(reply, usage=usage, cost_usd=price.cost(usage) if price else None)
    cached = 0 if "prompt_tokens" in measured else usage.cached_tokens
    usage = replace(usage, **measured, cached_tokens=cached, written_tokens=None, measured=True)
    raw = {**reply.raw, MARK: {**reply.raw.get(MARK, {}), "measured": sorted(measured)}}
    cost_usd = price.cost(usage) if price else None
    oddities = (*reply.oddities, MEASURED)
    if measured.get("completion_tokens", 0) > longest:
        oddities = (*oddities, TOO_LONG)
    return replace(reply, usage=usage, cost_usd=cost_usd, raw=raw, oddities=oddities)


def longest_reply(max_tokens: int, extra_body: Mapping[str, Any]) -> int:
    """Most completion tokens that a request asks for, in all its choices together."""
    limits = [_count(extra_body.get(key)) for key in ("max_tokens", "max_completion_tokens")]
    given = [limit for limit in limits if limit]
    return max(given or [max_tokens]) * max(1, _count(extra_body.get("n")) or 1)


def _count(value: Any) -> int | None:
    """A count of tokens; None for what is no finite number that is 0 or more."""
    if type(value) is int and 0 <= value < 2**53:
        return value
    try:
        number = float(value) if isinstance(value, (int, float, str)) else -1.0
    except (ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not 0 <= number < 2**53:
        return None
    return math.ceil(number)


def _measure(text: str, tokenizer: Tokenizer | None) -> int:
    if tokenizer is None:
        return math.ceil(_size(text) / BYTES_PER_TOKEN)
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _has_texts_alone(messages: list[dict[str, Any]]) -> bool:
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts)


def _texts(messages: list[dict[str, Any]]) -> list[str]:
    return [text for message in messages if isinstance(text := message.get("content"), str)]


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
