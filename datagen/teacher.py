"""Define the teacher interface: answer requests in any order, one reply each."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import ConfigDict

from datagen.spending.limits import Budget
from datagen.spending.pricing import Price, Usage
from warehouse.records import Message, make_id

REDACTION = "[redacted]"
"""Stands in a reply where the server sent a secret of the request back."""

REDACTED = "stillhouse_redacted"
"""Key of a reply's `raw`: how often that was."""


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True
    )

    temperature: float = 0.0
    """0 is greedy; 0.7-1.0 gives variety."""
    max_tokens: int = 512
    """Longest reply in tokens. Not part of a call's identity: raising it re-asks only truncated replies."""
    top_p: float = 1.0
    """Nucleus sampling mass."""
    seed: int | None = None
    """Passed to the teacher where it takes one; another seed is another call."""
    stop: list[str] = field(default_factory=list)
    """Texts that end a reply."""
    response_format: dict[str, Any] | None = None
    """Structured output, as the API takes it: {type = "json_schema", json_schema = {...}}."""
    top_logprobs: int | None = None
    """Log-probabilities of the reply's tokens and of so many alternatives (0: none). Unset: none at all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is 0 or more, not {self.temperature:g}")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p is from 0 to 1, not {self.top_p:g}; 1 takes all tokens")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is 1 or more, not {self.max_tokens}")
        if self.top_logprobs is not None and self.top_logprobs < 0:
            raise ValueError(f"top_logprobs is 0 or more, not {self.top_logprobs}")


_LATER = {"response_format", "top_logprobs"}


@dataclass(frozen=True)
class Request:
    """One question to a teacher. `call_id` is the identity under which its reply is kept."""

    call_id: str
    messages: list[Message]
    sampling: Sampling

    @classmethod
    def of(cls, identity: str, messages: list[Message], sampling: Sampling) -> Request:
        """Hash teacher identity, messages and sampling without `max_tokens`.

        Settings that came later count only where they are used, so that no reply that was
        paid for before is asked for again.
        """
        drawn = {
            key: value
            for key, value in vars(sampling).items()
            if key != "max_tokens" and not (key in _LATER and value is None)
        }
        return cls(make_id("call", identity, messages, drawn), messages, sampling)

    @property
    def subject(self) -> str:
        """Names this request in a failure; with another `max_tokens` it may succeed."""
        return f"{self.call_id}/{self.sampling.max_tokens}"


@dataclass(frozen=True)
class Reply:
    """The outcome of one request: either `text` or an `error`."""

    request: Request
    text: str = ""
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    latency_s: float = 0.0
    cost_usd: float | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    tries: int = 1  # requests sent until this reply came
    reasoning: str | None = None  # the teacher's thinking, apart from its answer
    logprobs: dict[str, Any] | None = None  # {"tokens": [...], "logprobs": [...], "top": [...]}
    oddities: tuple[str, ...] = ()  # what of it could not be read, such as its usage
    error: Exception | None = None  # PromptRejected (final) or TransientError (tries used up)


__all__ = ["Reply", "Request", "Sampling", "Teacher", "Usage"]


class Teacher(Protocol):
    """One file in datagen/teachers; dataclass fields are its options.

    `answer` raises TeacherUnusable when no request can be answered (bad key, unknown
    model, no server). A teacher that holds a process ends it in `close`.
    """

    @property
    def identity(self) -> str:
        """What makes its replies its own: model and where it is served."""
        ...

    @property
    def price(self) -> Price | None:
        """What its replies cost; None where that is not known, zeros where they are free."""
        ...

    def check(self) -> list[str]:
        """Resolve model, key and endpoint without spending; returns lines for `distill check`."""
        ...

    def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """Yield one reply per request, in the order they arrive.

        Every request is reserved in `budget` before it is sent.

        Raises:
            BudgetReached: after the replies to what was in flight.
        """
        ...

    def close(self) -> None:
        """Stop what was started. Safe to call twice."""
        ...
