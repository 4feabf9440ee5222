"""Name the columns of a row, guess what an unknown one is meant as, and read single cells."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

COLUMNS = ("prompt", "messages", "reference", "aliases", "passage", "choices", "category")
"""The columns of a row; a plan's `columns` maps them to those of a file."""

_SYNONYMS = {
    "prompt": "query question instruction input user ask request problem text",
    "messages": "chat conversation dialog dialogue turns message",
    "reference": "answer answers output response target label completion gold expected expected_output"
    " solution ground_truth correct_answer answerkey answer_key reply ideal references result chosen",
    "aliases": "alias alternatives answer_aliases",
    "passage": "context contexts document doc article support evidence background source_text",
    "choices": "options candidates endings",
    "category": "subject topic",
}
_SYNONYM_OF = {word: column for column, words in _SYNONYMS.items() for word in words.split()}


def nearest_column(name: str, present: Mapping[str, Any]) -> str | None:
    """The column of ours that a column may be meant as, unless the row has that one."""
    word = name.strip().lower().replace(" ", "_").replace("-", "_")
    near = word if word in COLUMNS else _SYNONYM_OF.get(word)
    if near is None:
        close = difflib.get_close_matches(word, [*COLUMNS, *_SYNONYM_OF], n=1, cutoff=0.8)
        near = _SYNONYM_OF.get(close[0], close[0]) if close else None
    if near in ("prompt", "messages") and {"prompt", "messages"} & present.keys():
        return None
    return None if near in present else near


def text_of(value: Any) -> str:
    """A text or number as a text; a whole number has no point, however it is stored."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def is_missing(value: Any) -> bool:
    """Whether a cell holds no value: null, an empty text, NaN."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or value == ""
