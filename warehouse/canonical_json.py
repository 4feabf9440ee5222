"""Write values as canonical JSON, which content ids hash: one text for equal values, for ever.

The text is that of the standard library's encoder. orjson writes most values alike, in a tenth of
the time; what it might write otherwise is left to the standard library.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import orjson

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_PLAIN = frozenset({str, int, bool, type(None)})
_LEAST_FLOAT, _MOST_FLOAT = 1e-4, 1e15
"""Between these both write a float without an exponent."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        TypeError, RecursionError: it is nothing that JSON has, or nested too deeply.
    """
    fast = _orjson_bytes(value)
    return _ENCODER.encode(value) if fast is None else fast.decode()


def canonical_bytes(value: Any) -> bytes:
    """The same in UTF-8.

    Raises:
        UnicodeEncodeError: a text in it has half a character (an unpaired surrogate).
        TypeError, RecursionError: it is nothing that JSON has, or nested too deeply.
    """
    fast = _orjson_bytes(value)
    return _ENCODER.encode(value).encode() if fast is None else fast


def is_plain(value: Any) -> bool:
    """Whether a value is JSON of whole characters and finite numbers; a few that are get False."""
    return _orjson_bytes(value) is not None


def _orjson_bytes(value: Any) -> bytes | None:
    """What orjson writes; None where the standard library might write another text."""
    try:
        if _is_written_alike(value):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError):  # half a character, a large number, many levels
        return None
    return None


def _is_written_alike(value: Any) -> bool:
    """Whether both encoders give the same text, or orjson raises TypeError."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is float:
        return isfinite(value) and (value == 0 or _LEAST_FLOAT <= abs(value) <= _MOST_FLOAT)
    elif kind is not list and kind is not tuple:
        return kind in _PLAIN
    for part in value:  # noqa: SIM110 - without a call for each part it takes half the time
        if type(part) not in _PLAIN and not _is_written_alike(part):
            return False
    return True
