"""Tell whether a reply only copies what it was asked about, such as a whole passage."""

from __future__ import annotations

from warehouse.text.words import caseless, words

MIN_COPIED_WORDS = 4
"""Fewer words may be right by chance: "Hello" is answered by "Hello!"."""


def is_copy(text: str, *originals: str | None) -> bool:
    """Whether a text has all words of one of the originals, in their order, and no other."""
    own = words(caseless(text))
    return len(own) >= MIN_COPIED_WORDS and any(
        own == words(caseless(original)) for original in originals if original is not None
    )
