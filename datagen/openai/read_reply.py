"""Read a chat completion as servers really write it: the text decides, the rest is optional.

What of log-probabilities or finish reason cannot be read is unknown, and named in the reply's
`oddities`. A body without any completion is the one error here, `UnreadableReply`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from datagen.openai.parse_body import DEEPEST, EXCERPT, UnreadableReply, first_choice, parse_body
from datagen.openai.usage import MARK, read_usage
from datagen.spending.pricing import Price
from datagen.teacher import REDACTION, Reply, Request
from warehouse.text import finish_reasons
from warehouse.text.finish_reasons import is_incomplete, is_known, read_finish_reason
from warehouse.text.reasoning import split_reasoning

ECHOES = ("prompt", "messages", "input", "prompt_logprobs", "prompt_token_ids", "__verbose")

NO_LOGPROBS = "log-probabilities were unreadable"
SECRET_LOGPROBS = "log-probabilities were left out: they spell a secret"
ODD_PARTS = "content parts of an unknown kind were left out"
DEEP = "fields nested too deep were left out"
UNKNOWN_REASON = "unknown finish reason"

_THINKING_KEYS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


class ReplyMessage(NamedTuple):
    """What a choice says."""

    text: str
    thoughts: list[str]
    is_refusal: bool
    odd: bool


def read_reply(request: Request, raw: Any, latency_s: float, price: Price | None) -> Reply:
    """A reply's text, its reasoning apart from it, usage, cost and log-probabilities.

    Usage is as the server reports it; `datagen.openai.usage` sees whether it can be believed.

    Args:
        request: What was asked.
        raw: What `parse_body` gave.
        latency_s: Seconds that the reply took.
        price: The price of its tokens, if known.

    Raises:
        UnreadableReply: it is no chat completion, or one without a message.
    """
    choice = first_choice(raw)
    if choice is None:
        has_choices = isinstance(raw, dict) and "choices" in raw
        raise UnreadableReply(_excerpt(raw), is_empty=has_choices and not raw["choices"])
    oddities: list[str] = []
    finish_reason = read_finish_reason(choice.get("finish_reason"))
    message = read_message(choice)
    if message is None:
        if finish_reason not in (finish_reasons.FILTER, finish_reasons.LENGTH):
            raise UnreadableReply(_excerpt(raw), is_empty=True)
        message = ReplyMessage("", [], False, False)
    if message.is_refusal:
        finish_reason = finish_reasons.FILTER
    if message.odd:
        oddities.append(ODD_PARTS)
    if not is_known(finish_reason):
        oddities.append(f"{UNKNOWN_REASON} '{finish_reason}'")
    text, inline = split_reasoning(message.text, is_incomplete(finish_reason))
    if inline:
        message.thoughts.append(inline)
    used = raw.get("usage")
    usage = read_usage(used)
    logprobs = None
    if choice.get("logprobs"):
        logprobs = _read_logprobs(choice["logprobs"])
        if logprobs is None:
            oddities.append(NO_LOGPROBS)
        elif REDACTION in "".join(logprobs["tokens"]):  # the alternatives still have its pieces
            logprobs = None
            oddities.append(SECRET_LOGPROBS)
    kept = _kept(raw, choice, oddities)
    return Reply(
        request,
        text=text,
        finish_reason=finish_reason,
        usage=usage,
        latency_s=latency_s,
        cost_usd=price.cost(usage) if price and used else None,
        raw=kept,
        reasoning="\n\n".join(message.thoughts) or None,
        logprobs=logprobs,
        oddities=tuple(oddities),
    )


def read_message(choice: Mapping[str, Any]) -> ReplyMessage | None:
    """The message of a choice, whatever holds it; None where there is none."""
    message = choice.get("message")
    if message is None:
        message = choice.get("delta")
    if isinstance(message, list) and len(message) == 1:
        message = message[0]
    if not isinstance(message, dict):
        text = message if isinstance(message, str) else choice.get("text")
        return ReplyMessage(text, [], False, False) if isinstance(text, str) else None
    content = message.get("content")
    text, thoughts, is_refusal, odd = (
        ReplyMessage(content, [], False, False)
        if isinstance(content, str)
        else _read_parts(content)
    )
    if not text and isinstance(choice.get("text"), str):
        text = choice["text"]
    if not text and (refusal := _text_of(message.get("refusal"))):
        text, is_refusal = refusal, True
    for key in _THINKING_KEYS:
        if (value := message.get(key)) and (found := _text_of(value).strip()):
            thoughts.insert(0, found)
            break
    if "content" not in message and not (text or thoughts or message.get("tool_calls")):
        return None
    return ReplyMessage(text, thoughts, is_refusal, odd)


def _read_parts(content: Any) -> ReplyMessage:
    """What a content holds that is a list of parts."""
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    odd = False
    for part in content if isinstance(content, list) else [] if content is None else [content]:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = str(part.get("type") or "text").lower() if isinstance(part, dict) else "?"
        if "think" in kind or "reason" in kind:
            thoughts.append(_text_of(part).strip())
        elif "refusal" in kind:
            refusals.append(_text_of(part))
        elif kind in ("text", "output_text") and isinstance(part.get("text"), str | dict):
            texts.append(_text_of(part))
        else:
            odd = True
    text = "".join(texts)
    thoughts = [thought for thought in thoughts if thought]
    return ReplyMessage(text or "".join(refusals), thoughts, not text and any(refusals), odd)


def _text_of(value: Any, depth: int = 8) -> str:
    """The text in a part, wherever servers put it; "" where there is none."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(_text_of(item, depth - 1) for item in value)
    if depth and isinstance(value, dict):
        keys = ("text", "thinking", "reasoning", "content", "value", "summary", "refusal")
        return next((text for key in keys if (text := _text_of(value.get(key), depth - 1))), "")
    return ""


def _read_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """Columns in place of one object per token, a third of the size; None where unreadable.

    Read are the form of chat completions and the columns of the older completions.
    """
    try:
        if content := logprobs.get("content"):
            return {
                "tokens": [str(token["token"]) for token in content],
                "logprobs": [round(float(token["logprob"]), 4) for token in content],
                "top": [_alternatives(token.get("top_logprobs")) for token in content],
            }
        if not (tokens := logprobs.get("tokens")):
            return None
        top = logprobs.get("top_logprobs") or [None] * len(tokens)
        values = [round(float(value), 4) for value in logprobs["token_logprobs"]]
        if not len(tokens) == len(values) == len(top):
            return None
        tops = [_alternatives(alternatives) for alternatives in top]
        return {"tokens": [str(token) for token in tokens], "logprobs": values, "top": tops}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None


def _alternatives(top: Any) -> list[list[Any]]:
    if isinstance(top, dict):
        return [[str(token), round(float(value), 4)] for token, value in top.items()]
    return [[str(one["token"]), round(float(one["logprob"]), 4)] for one in top or ()]


def _kept(raw: dict[str, Any], choice: dict[str, Any], oddities: list[str]) -> dict[str, Any]:
    """The reply as it is stored: without echoes and log-probabilities, with its oddities."""
    kept = {key: value for key, value in raw.items() if key not in ECHOES}
    if choice.get("logprobs"):
        rest = {key: value for key, value in choice.items() if key != "logprobs"}
        others = raw["choices"] if isinstance(raw["choices"], list) else [choice]
        kept["choices"] = [rest if other is choice else other for other in others]
    try:
        orjson.dumps(kept)
    except (TypeError, ValueError):
        kept = parse_body(json.dumps(_shallow(kept)).encode())
        oddities.append(DEEP)
    if oddities:
        kept[MARK] = {"oddities": list(oddities)}
    return kept


def _shallow(value: Any, depth: int = DEEPEST) -> Any:
    """A value without what is nested deeper than `depth`."""
    if isinstance(value, dict):
        return {key: _shallow(item, depth - 1) for key, item in value.items()} if depth else None
    if isinstance(value, list):
        return [_shallow(item, depth - 1) for item in value] if depth else None
    return value


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        return json.dumps(_shallow(value))


def _excerpt(raw: Any) -> str:
    return _dumped(raw)[:EXCERPT]
