"""Measure how a text is written, apart from what it says.

After The False Promise of Imitating Proprietary LLMs (Gudibande et al., 2023, section 4): a
student takes over its teacher's style (length, lists, an authoritative tone) sooner than its
facts, so the two are measured apart. All measures are counts and shares: no model is asked.
"""

from __future__ import annotations

import re
from collections import Counter

import regex

from warehouse.text import words

_WORD = regex.compile(r"[\w\p{M}\u200c\u200d]+(?:['’-][\w\p{M}]+)*")
_LIST_LINE = re.compile(r"^[ \t]*(?:[-*+•–]|\d{1,3}[.)]|[a-zA-Z][.)])[ \t]+\S", re.MULTILINE)
_HEDGES = (
    "may", "might", "could", "perhaps", "maybe", "possibly", "probably", "likely", "unlikely",
    "seem", "seems", "appear", "appears", "suggest", "suggests", "generally", "usually", "often",
    "sometimes", "roughly", "approximately", "i think", "i believe", "in my opinion",
    "it depends", "not sure", "to some extent", "can vary",
)  # fmt: skip
_AUTHORITY = (
    "certainly", "clearly", "definitely", "obviously", "undoubtedly", "absolutely", "indeed",
    "in fact", "of course", "must", "always", "never", "essential", "crucial", "important",
    "overall", "in conclusion", "in summary", "therefore", "furthermore", "moreover",
    "according to", "research shows", "studies show", "experts", "it is well known",
)  # fmt: skip

MEASURES = ("words", "sentences", "list_lines", "hedges", "authority", "overlap")
ENGLISH_MEASURES = ("hedges", "authority")


def measures(text: str, other: str | None = None, markers: bool = True) -> dict[str, float]:
    """Measures of a text's style.

    Args:
        text: What is measured.
        other: Another text on the same subject; without one there is no `overlap`.
        markers: Whether the text is English, so that it can have `ENGLISH_MEASURES`.

    Returns:
        `words`, `sentences` and `list_lines` are counts, in any language; `hedges` and
        `authority` are English markers per 100 words; `overlap` is the F1 of the words both
        have, 0..1.
    """
    text_words = words_of(text)
    values = {
        "words": float(len(text_words)),
        "sentences": float(_sentences(text)),
        "list_lines": float(len(_LIST_LINE.findall(text))),
    }
    if markers:
        values["hedges"] = _per_hundred(_HEDGE_PATTERN, text_words)
        values["authority"] = _per_hundred(_AUTHORITY_PATTERN, text_words)
    if other is not None:
        values["overlap"] = _overlap(text_words, words_of(other))
    return values


def words_of(text: str) -> list[str]:
    """The words of a text without case and signs; empty where it has none."""
    found = _WORD.findall(words.caseless(text))
    return [part for word in found for part in words.tokens(word)]


def _sentences(text: str) -> int:
    """Ends of sentences, and the last one where it has none. A line of a list is one too."""
    lines = (line for line in text.splitlines() if _WORD.search(line))
    return sum(max(1, len(words.SENTENCE_END.findall(line.strip()))) for line in lines)


def _any_of(markers: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(markers, key=len, reverse=True)
    return re.compile(rf"(?<!\S)(?:{'|'.join(longest_first)})(?!\S)")


_HEDGE_PATTERN, _AUTHORITY_PATTERN = _any_of(_HEDGES), _any_of(_AUTHORITY)


def _per_hundred(pattern: re.Pattern[str], text_words: list[str]) -> float:
    return 100 * len(pattern.findall(" ".join(text_words))) / len(text_words) if text_words else 0.0


def _overlap(text_words: list[str], others: list[str]) -> float:
    if not text_words or not others:
        return 0.0
    common = (Counter(text_words) & Counter(others)).total()
    return 2 * common / (len(text_words) + len(others))
