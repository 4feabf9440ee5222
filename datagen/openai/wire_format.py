"""Convert a request to the JSON of a chat completion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from datagen.teacher import Request


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
