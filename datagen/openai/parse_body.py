"""Parse the body of a reply: JSON as servers really write it, or the chunks of an event stream.

A body without any JSON object is the one error here, `UnreadableReply`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

DEEPEST = 64
"""Levels of a reply that are kept; JSON parsers and writers stop at some hundreds."""
EXCERPT = 500
_CODE_KEYS = ("code", "error_code", "status_code", "status")
_SUCCESS = frozenset(
    ["0", "00", "000", "200", "0.0", "200.0", "ok", "success", "succeeded", "false", "none", "null"]
) | {""}
_STREAMED = re.compile(r"(?:data|event|id|retry):")
_LINE_END = re.compile(r"\r\n|\n|\r")
_COMMENT_LINES = re.compile(r"\A(?:[ \t]*(?::[^\n]*)?\r?\n)+")
_CONSTANTS = {"-Infinity": -9999.0, "Infinity": 9999.0}
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[^"\[\]{}]+', re.DOTALL)


class UnreadableReply(ValueError):
    """A body is no chat completion.

    `is_empty`: it is one, without any message. Asking again rarely helps.
    """

    def __init__(self, message: str, is_empty: bool = False) -> None:
        super().__init__(message)
        self.is_empty = is_empty


def parse_body(content: bytes) -> dict[str, Any]:
    """The JSON object of a body, or that which the chunks of an event stream add up to.

    Read as well are byte order marks, other encodings, comment lines before the object, text
    after it, infinite numbers, half characters, and nesting that no parser takes.

    Raises:
        UnreadableReply: there is no object, and the message is the beginning of the body; or an
            event stream broke off.
    """
    try:
        raw = orjson.loads(content)
    except ValueError:
        raw = _parse_leniently(content)
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]  # as Google wraps its errors
    if not isinstance(raw, dict):
        raise UnreadableReply(_decoded(content[: 4 * EXCERPT])[:EXCERPT])
    return raw


def first_choice(raw: Any) -> dict[str, Any] | None:
    """The first choice of a body; None where it has none."""
    choices = raw.get("choices") if isinstance(raw, dict) else None
    if isinstance(choices, dict):
        return choices
    if not isinstance(choices, list):
        return None
    return next((choice for choice in choices if isinstance(choice, dict)), None)


def _parse_leniently(content: bytes) -> Any:
    text = _COMMENT_LINES.sub("", _decoded(content)).strip()
    if _STREAMED.match(text):
        return _joined(text)
    try:
        return _decode_leniently(text)
    except RecursionError:
        return _decode_leniently(_flattened(text))


def _decode_leniently(text: str) -> Any:
    try:
        raw, _ = _DECODER.raw_decode(text)
        return orjson.loads(json.dumps(raw, ensure_ascii=False).encode(errors="replace"))
    except ValueError:
        return None


def _decoded(content: bytes) -> str:
    """The text of a body: in the encoding that its first bytes tell, without byte order marks."""
    text = content.decode(json.detect_encoding(content), errors="replace")
    return text.lstrip("\ufeff")


def _number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(digits: str) -> Any:
        value = kind(digits) if len(digits) < 300 else float("inf")
        return None if value in (float("inf"), -float("inf")) else value

    return read


_DECODER = json.JSONDecoder(
    strict=False, parse_constant=_CONSTANTS.get, parse_int=_number(int), parse_float=_number(float)
)


def _flattened(text: str) -> str:
    """JSON with null in place of what is nested deeper than `DEEPEST`."""
    kept: list[str] = []
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        mark = token[0]
        if mark in "[{":
            if depth <= DEEPEST:
                kept.append(mark if depth < DEEPEST else "null")
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth < DEEPEST:
                kept.append(mark)
        elif depth <= DEEPEST:
            kept.append(mark)
    return "".join(kept)


def _joined(text: str) -> dict[str, Any] | None:
    """One reply of the chunks of an event stream; None where it holds none.

    Raises:
        UnreadableReply: it broke off. The message has no chunks: a secret may be split over them.
    """
    raw: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": None}
    logprobs: list[Any] = []
    is_done = has_choices = False
    for data in _events(text):
        if data.strip() == "[DONE]":
            is_done = True
            continue
        try:
            chunk = parse_body(data.encode(errors="replace"))
        except UnreadableReply:
            continue
        has_choices = has_choices or "choices" in chunk
        raw |= {key: value for key, value in chunk.items() if key != "choices" and value}
        part = first_choice(chunk)
        if part is None or part.get("index") not in (0, None):
            continue
        choice |= {key: value for key, value in part.items()
                   if key not in ("delta", "message", "logprobs", "text") and value is not None}  # fmt: skip
        found = part.get("logprobs")
        if isinstance(found, dict) and isinstance(found.get("content"), list):
            logprobs += found["content"]
        delta = part.get("delta") or part.get("message")
        delta = delta if isinstance(delta, dict) else {"content": part.get("text")}
        for key, value in delta.items():
            _add(message, key, value)
    if not has_choices:
        return raw or None
    if choice["finish_reason"] is None and not is_done and filled_error(raw.get("error")) is None:
        raise UnreadableReply("the event stream ended before its reply did")
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    return {**raw, "choices": [choice] if message or choice["finish_reason"] else []}


def _add(message: dict[str, Any], key: str, value: Any) -> None:
    old = message.get(key)
    if value is None or (key == "role" and old):
        return
    if isinstance(value, str) and isinstance(old, list):
        value = [value]
    if isinstance(value, list) and isinstance(old, str):
        old = [old]
    joins = isinstance(old, str | list) and type(old) is type(value)
    message[key] = old + value if joins else value


def _events(text: str) -> list[str]:
    """The data of each event: its lines joined, comments left out (WHATWG, server-sent events)."""
    events: list[str] = []
    lines: list[str] = []
    for line in [*_LINE_END.split(text), ""]:
        field, _, value = line.partition(":")
        if field.strip() == "data":
            value = value.removeprefix(" ")
            if lines and (value.startswith("{") or value.strip() == "[DONE]"):
                events.append("\n".join(lines))  # no blank line between two events
                lines = []
            lines.append(value)
        elif not line.strip() and lines:
            events.append("\n".join(lines))
            lines = []
    return events


def filled_error(error: Any) -> Any:
    """An error that says something; None for those that come with good replies: empty ones, and
    those whose code or words say "success"."""
    items = error if isinstance(error, list) else [error]
    return next((item for item in items if not _is_no_error(item)), None)


def _is_no_error(error: Any) -> bool:
    if not isinstance(error, dict):
        return _says_success(error)
    codes = [error[key] for key in _CODE_KEYS if error.get(key) not in (None, "")]
    return _says_success(codes[0]) if codes else all(map(_says_success, error.values()))


def _says_success(value: Any) -> bool:
    if isinstance(value, str | int | float):
        return str(value).strip().lower() in _SUCCESS
    return not value
