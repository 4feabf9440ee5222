"""Convert a request to chat-completions JSON, and a JSON reply to a `Reply`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from datagen.openai.usage import read_usage
from datagen.spending.pricing import Price
from datagen.teacher import Reply, Request

ECHOES = ("prompt", "messages", "input", "prompt_logprobs", "prompt_token_ids", "__verbose")
THINKING = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)


def body_of(
    model: str,
    request: Request,
    extra: Mapping[str, Any] | None = None,
    limit_key: str = "max_tokens",
    omit: Collection[str] = (),
) -> dict[str, Any]:
    """The body of `POST /chat/completions`; `extra` goes over it, `omit` names what is left out."""
    drawn = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        "temperature": drawn.temperature,
        "top_p": drawn.top_p,
        limit_key: drawn.max_tokens,
    }
    if drawn.seed is not None:
        body["seed"] = drawn.seed
    if drawn.stop:
        body["stop"] = drawn.stop
    if drawn.response_format is not None:
        body["response_format"] = drawn.response_format
    if drawn.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": drawn.top_logprobs}
    for name in omit:
        body.pop(name, None)
    return {**body, **extra} if extra else body


def read_reply(
    request: Request, raw: dict[str, Any], latency_s: float, price: Price | None
) -> Reply:
    """A reply's text, its reasoning apart from it, usage, cost and logprobs.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is no chat completion.
    """
    choice = raw["choices"][0]
    message = choice["message"]
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError("content is not a text")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning is None and (thought := THINKING.match(text)):
        reasoning, text = thought[1].strip(), text[thought.end() :]
    used = raw.get("usage")
    usage = read_usage(used)
    logprobs = choice.get("logprobs")
    kept = {key: value for key, value in raw.items() if key not in ECHOES}
    if logprobs:
        rest = {key: value for key, value in choice.items() if key != "logprobs"}
        kept["choices"] = [rest, *raw["choices"][1:]]
    return Reply(
        request,
        text=text,
        finish_reason=str(choice.get("finish_reason") or "stop"),
        usage=usage,
        latency_s=latency_s,
        cost_usd=price.cost(usage) if price and used else None,
        raw=kept,
        reasoning=str(reasoning) if reasoning else None,
        logprobs=_compact(logprobs["content"]) if logprobs and logprobs.get("content") else None,
    )


def _compact(content: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns in place of one object per token: a third of the size."""
    return {
        "tokens": [token["token"] for token in content],
        "logprobs": [round(token["logprob"], 4) for token in content],
        "top": [
            [[top["token"], round(top["logprob"], 4)] for top in token.get("top_logprobs") or []]
            for token in content
        ],
    }
