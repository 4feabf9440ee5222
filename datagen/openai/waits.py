"""Read how long a server asks to wait: from the headers and the body of its answer.

Servers write a wait as seconds, as a duration ("1m30s", "20ms"), as an epoch stamp in seconds or
milliseconds, or as an HTTP or ISO date. Whatever they write, the result is a finite number
of seconds that is not negative, or None: nothing that a server says can hang a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from warehouse.records import now

LONGEST_S = 366 * 86400.0
"""A longer wait is a mistake of the server and counts as none."""
_FIRST_EPOCH = 1e9
"""From this number on it is a stamp (September 2001), not a number of seconds."""
_LAST_EPOCH = 1e20
_LAST_EPOCH_S = 1e11
"""Stamps from this number on are in milliseconds, or in finer units, up to nanoseconds."""
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})", re.IGNORECASE)
_DURATION = re.compile(rf"(?:\d+(?:\.\d+)?\s*{_UNIT}[\s,]*)+", re.IGNORECASE)
_SENTENCE = re.compile(
    rf"(?:try again|retry|retrying|wait)(?:\s+(?:in|after|for|at least))*\s+"
    rf"((?:\d+(?:\.\d+)?\s*{_UNIT}[\s,]*)+)",
    re.IGNORECASE,
)
_SECONDS = ("retryafter", "retryafters", "retryafterseconds", "retrydelay", "estimatedtime")
_DEPTH, _FIELDS = 8, 200


def retry_after_s(headers: Mapping[str, str], body: Any = None, message: str = "") -> float | None:
    """Seconds that an error answer asks to wait; None where it asks for nothing readable.

    In order: `retry-after-ms`, `Retry-After` (RFC 9110, 10.2.3), fields of the body such as
    Google's `retryDelay`, and a sentence such as "Please try again in 7.66s".
    """
    for fields in ({_plain(name): value for name, value in headers.items()}, _fields_of(body)):
        for name in ("retryafterms", *_SECONDS):
            if name in fields and (wait := seconds(fields[name])) is not None:
                return wait / 1000 if name.endswith("ms") else wait
    found = _SENTENCE.search(message)
    return seconds(found[1].strip(" ,")) if found else None


def used_up_s(headers: Mapping[str, str], body: Any = None) -> float | None:
    """Seconds until a used-up limit is filled again, by `x-ratelimit-remaining-*` and `-reset-*`
    and their kin, in the headers or in the body.

    None where no limit is used up or reported.
    """
    fields = _fields_of(body) | {_plain(name): value for name, value in headers.items()}
    waits = [
        seconds(value)
        for name, value in fields.items()
        if "ratelimit" in name and "reset" in name and _is_none_left(fields, name)
    ]
    known = [wait for wait in waits if wait is not None]
    return max(known) if known else None


def seconds(value: Any) -> float | None:
    """The seconds from now on that a text or number means; None where it means none."""
    text = str(value).strip().strip('"')[:100]
    try:
        wait = float(text)
    except ValueError:
        if _DURATION.fullmatch(text):
            wait = sum(float(n) * _unit_s(unit) for n, unit in _PART.findall(text))
        elif (moment := _moment(text)) is not None:
            wait = max(0.0, (moment - now()).total_seconds())
        else:
            return None
    if not abs(wait) < _LAST_EPOCH:  # infinite and NaN too
        return None
    if wait >= _FIRST_EPOCH:
        while wait >= _LAST_EPOCH_S:
            wait /= 1000
        wait -= now().timestamp()
    return max(0.0, wait) if wait <= LONGEST_S else None


def _unit_s(unit: str) -> float:
    unit = unit.lower()
    return _UNIT_S["ms" if unit.startswith(("ms", "mil")) else unit[0]]


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _is_none_left(fields: Mapping[str, str], reset: str) -> bool:
    try:
        return float(fields[reset.replace("reset", "remaining")]) <= 0
    except (KeyError, ValueError):
        return False


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fields_of(body: Any) -> dict[str, str]:
    """Texts and numbers of a body by their plain names; the first of a name counts."""
    fields: dict[str, str] = {}
    for name, value in _walk(body, _DEPTH):
        if len(fields) >= _FIELDS:
            break
        fields.setdefault(_plain(name), value)
    return fields


def _walk(value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth == 0 or not isinstance(value, (dict, list)):
        return
    for name, inner in value.items() if isinstance(value, dict) else ((None, v) for v in value):
        if isinstance(inner, (dict, list)):
            yield from _walk(inner, depth - 1)
        elif isinstance(name, str) and isinstance(inner, (str, int, float)):
            try:
                yield name, str(inner)[:100]
            except ValueError:  # an integer of more digits than Python writes out
                continue
