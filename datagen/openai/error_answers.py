"""Sort what a server answers in place of a completion: final for the prompt, for the run, or passing.

Servers agree neither on the status nor on the shape of an error, so the rules below look at
the status, at the error's own codes and types, and only then at its words. The first rule that
applies decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from datagen.openai.waits import retry_after_s, used_up_s

_DEPTH, _NODES = 8, 300
_READ = 4000
"""Characters of the server's message that are read."""


class ErrorKind(Enum):
    """What an error answer is final for, if anything."""

    PROMPT = "final for this prompt"
    RUN = "final for every prompt"
    OVERLOAD = "the server asks for less; nothing was worked on"
    TRANSIENT = "worth another try"


@dataclass(frozen=True)
class ErrorAnswer:
    """An error as a server put it."""

    status: int
    """The HTTP status, or the error's own where HTTP says 200 or 5xx."""
    message: str
    """The server's words in one line; "no body" where there are none."""
    codes: frozenset[str]
    """Codes, types and reasons in the body, in lower case."""
    wait_s: float | None
    """Seconds that it asks to wait."""


@dataclass(frozen=True)
class _Rule:
    """Applies where the status is among `statuses` (empty: any), and a code or the words match.

    One that `denies_address` says that the path or the model does not exist. A passing fault or a
    prompt that is quoted may have the same words, so words alone count with `_PLAIN` statuses only.
    After a good reply the address exists: then only a code counts, and none with a 5xx.
    """

    kind: ErrorKind
    what: str = ""
    """What happened, for errors that stop the run."""
    advice: str = ""
    """What to do, likewise."""
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    denies_address: bool = False

    def applies(self, error: ErrorAnswer, has_answered: bool) -> bool:
        if self.statuses and error.status not in self.statuses:
            return False
        is_refuted = self.denies_address and has_answered
        if not self.codes and self.words is None:
            return not is_refuted
        if not self.codes.isdisjoint(error.codes) and not (is_refuted and error.status >= 500):
            return True
        if is_refuted or (self.denies_address and error.status not in _PLAIN):
            return False
        return self.words is not None and self.words.search(error.message) is not None


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_PATH = "correct base_url (it usually ends in /v1)"
_CREDIT = (
    "add credit or raise the limit at the provider, then run again; received replies are saved"
)
_BAD = frozenset({0, 400, 413, 414, 422, 500})
_PLAIN = frozenset({0, 400, 404, 405, 422})
_NOT_THERE = frozenset({404, 405, 410, 501, 505})
_SERVER = frozenset(range(500, 600))

RULES = (
    _Rule(  # the words of llama.cpp, vLLM, OpenAI, Anthropic, Google, TGI and their kin
        ErrorKind.PROMPT,
        statuses=_BAD,
        codes=frozenset(
            {
                "context_length_exceeded", "exceed_context_size_error", "string_above_max_length",
                "request_too_large", "context_window_exceeded", "max_context_length_exceeded",
            }
        ),
        words=_words(
            r"context[ _-]?(length|size|window|limit)",
            r"(prompt|input|request|message|text)s?\b.{0,60}\b(is|are|was) (too (long|large|big)|longer than)",
            r"exceeds? .{0,60}\b(tokens?|length|n_ctx|context)\b",
            r"too many (input |prompt )?tokens(?! per)",
            r"(maximum|max)\.? (input|prompt|sequence|model|total) ?(length|tokens?|len)",
            r"reduce the length",
        ),
    ),
    _Rule(
        ErrorKind.PROMPT,
        statuses=frozenset({429}),
        words=_words(r"request too large", r"(tokens?|prompt|input) must be reduced"),
    ),
    _Rule(
        ErrorKind.PROMPT,
        statuses=_BAD | {403, 406, 451},
        codes=frozenset(
            {
                "content_filter", "content_policy_violation", "responsibleaipolicyviolation",
                "data_inspection_failed", "datainspectionfailed", "invalid_prompt",
                "moderation_blocked", "content_blocked", "safety",
            }
        ),
        words=_words(
            r"content[ _](management |policy|filter|moderation)", r"\b(was|been|were) flagged\b",
            r"requires moderation", r"blocked (by|due to|for) .{0,30}(safety|policy|filter)",
        ),
    ),
    _Rule(
        ErrorKind.RUN,
        "the account has no credit",
        _CREDIT,
        statuses=frozenset({402}),
    ),
    _Rule(
        ErrorKind.RUN,
        "the account has no credit",
        _CREDIT,
        statuses=frozenset({0, 400, 401, 403, 429}),
        codes=frozenset(
            {
                "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
                "credit_limit", "insufficient_credits", "insufficient_balance", "arrearage",
                "insufficient_user_quota", "insufficient_funds", "payment_required",
                "credits_exhausted", "billing_error", "exceeded_current_quota_error",
            }
        ),
        words=_words(
            r"credit (balance|limit)", r"insufficient (credit|balance|fund|quota)",
            r"(out of|no|not enough|requires more) credits?\b", r"\bbilling (hard )?limit",
            r"(account|billing|subscription) is (not active|suspended|inactive)", r"account balance",
        ),
    ),
    _Rule(
        ErrorKind.RUN,
        "the key was refused",
        "correct api_key_env",
        statuses=frozenset({401}),
    ),
    _Rule(
        ErrorKind.RUN,
        "the key was refused",
        "correct api_key_env",
        statuses=frozenset({0, 400, 403}),
        codes=frozenset(
            {
                "invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated",
                "unauthorized", "invalid_authentication", "missing_api_key",
            }
        ),
        words=_words(
            r"(invalid|incorrect|missing|no|wrong) api[ _-]?key",
            r"api[ _-]?key (is )?(not valid|invalid|missing)",
        ),
    ),
    _Rule(
        ErrorKind.RUN,
        "access is denied",
        "correct api_key_env, model or base_url",
        statuses=frozenset({403}),
    ),
    _Rule(
        ErrorKind.RUN,
        "no such path",
        _PATH,
        words=_words(
            r"unexpected endpoint", r"unknown (url|endpoint|path|route)", r"invalid url \(",
            r"cannot (post|get) /", r"no (such )?(route|endpoint) ", r"method not allowed",
            r"unsupported method", r"page not found",
        ),
        denies_address=True,
    ),
    _Rule(
        ErrorKind.RUN,
        "no such model",
        "correct model; `distill check PLAN` compares it with the models that the server lists",
        statuses=_PLAIN | _SERVER,
        codes=frozenset(
            {
                "model_not_found", "deploymentnotfound", "no_such_model", "invalid_model",
                "model_not_exist", "unknown_model", "model_not_supported",
            }
        ),
        words=_words(
            r"model ?\S* (does not exist|not found|is not found)",
            r"(unknown|no such|invalid) model\b", r"is not a valid model",
            r"model .{1,80} (does not exist|not found)",
        ),
        denies_address=True,
    ),
    _Rule(
        ErrorKind.RUN,
        "no such model or path",
        "correct model or base_url (it usually ends in /v1)",
        statuses=_NOT_THERE,
        denies_address=True,
    ),
    _Rule(
        ErrorKind.RUN,
        "the proxy wants a user and a password",
        "write them into the proxy variable: http://USER:PASSWORD@HOST:PORT",
        statuses=frozenset({407}),
    ),
    _Rule(
        ErrorKind.RUN,
        "the server does not take a field of the request",
        "name it in omit, or correct extra_body or sampling",
        statuses=frozenset({0, 400, 422}),
        codes=frozenset({"unsupported_parameter", "unknown_parameter", "unsupported_value"}),
    ),
    _Rule(ErrorKind.OVERLOAD, statuses=frozenset({429, 503, 529})),
    _Rule(
        ErrorKind.OVERLOAD,
        statuses=_SERVER | {0},
        codes=frozenset(
            {
                "rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests",
                "resource_exhausted", "overloaded_error", "overloaded", "unavailable",
                "engine_overloaded_error", "server_overloaded", "throttlingexception",
            }
        ),
        words=_words(r"rate limit", r"too many requests", r"\boverloaded\b"),
    ),
    _Rule(
        ErrorKind.TRANSIENT, statuses=_SERVER | _NOT_THERE | {0, 408, 409, 425, 498, 499}
    ),
)  # fmt: skip
_REJECTED = _Rule(ErrorKind.PROMPT)
_QUOTA = _words(r"exceeded your current quota", r"quota .{0,20}(exhausted|used up)")


def read_error(status: int, body: Any, headers: Mapping[str, str] | None = None) -> ErrorAnswer:
    """Read an error answer; never raises.

    Args:
        status: The HTTP status; 200 for an error that came as a completion.
        body: Its text, or the value that its JSON is.
        headers: Its HTTP headers, names in lower case.
    """
    value = _parsed(body)
    codes: set[str] = set()
    messages: list[str] = []
    own_status = 0
    for name, inner in _leaves(value):
        text = " ".join(str(inner).split())
        if name in ("code", "status", "status_code", "statuscode", "error_code"):
            if re.fullmatch(r"[45]\d\d", text):
                own_status = own_status or int(text)
            codes.add(text.lower()[:80])
        elif name in ("type", "reason"):
            codes.add(text.lower()[:80])
        elif text:
            messages.append(text)
    message = messages[0] if messages else "no body"
    if isinstance(value, str) and is_page(value):
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", value, re.IGNORECASE | re.DOTALL)
        message = f"a web page ({' '.join(title[2].split())})" if title else "a web page"
    if status < 300 or status >= 500:
        status = own_status or (status if status >= 300 else 0)
    all_headers = headers or {}
    wait_s = retry_after_s(all_headers, value, message)
    if wait_s is None:
        wait_s = used_up_s(all_headers, value)
    return ErrorAnswer(status, message[:_READ], frozenset(codes), wait_s)


def is_page(text: str) -> bool:
    """Whether a text is a web page."""
    return re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE) is not None


def sort_error(error: ErrorAnswer, has_answered: bool = False) -> tuple[ErrorKind, str, str]:
    """For whom an error is final; for those that stop the run also what happened and what to do.

    Args:
        error: The error.
        has_answered: Whether a good reply came from the same address before.
    """
    rule = next((rule for rule in RULES if rule.applies(error, has_answered)), _REJECTED)
    used_up = error.status in (0, 403, 429) and _QUOTA.search(error.message)
    if rule.kind is ErrorKind.OVERLOAD and used_up and not _comes_back(error):
        return ErrorKind.RUN, "the account has no quota left", _CREDIT
    return rule.kind, rule.what, rule.advice


def _comes_back(error: ErrorAnswer) -> bool:
    """Whether a quota is one per minute or day: Google words these as one that is used up."""
    return error.wait_s is not None or "resource_exhausted" in error.codes


def _parsed(body: Any) -> Any:
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        try:
            return orjson.loads(body.removeprefix("\ufeff"))
        except ValueError:
            return body
    return body


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Codes, types and messages of an error, the outer ones first, whatever it is nested in."""
    level, nodes = [("error", value)], 0
    for _ in range(_DEPTH):
        deeper: list[tuple[str, Any]] = []
        for name, inner in level:
            nodes += 1
            if nodes > _NODES:
                return
            if isinstance(inner, dict):
                deeper += [(str(key).lower(), item) for key, item in inner.items()]
            elif isinstance(inner, list):
                deeper += [(name, item) for item in inner]
            elif isinstance(inner, str) and isinstance(nested := _parsed(inner), dict):
                deeper.append((name, nested))  # the error of another server, as text
            elif name in _CODES or (name in _MESSAGES and isinstance(inner, str)):
                yield name, inner
        level = deeper


_CODES = ("code", "status", "status_code", "statuscode", "error_code", "type", "reason")
_MESSAGES = (
    "error",
    "message",
    "msg",
    "detail",
    "details",
    "errors",
    "error_message",
    "raw",
    "title",
)
