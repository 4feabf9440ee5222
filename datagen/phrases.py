"""Find phrases in a text of any script, such as what marks a failed reply.

Which phrases those are depends on the language, so they are blocks of a recipe's template: phrases
divided by commas or line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from datagen.wording import Wording
from warehouse.text.words import caseless, contains_tokens, words


def phrases_in(wording: Wording, block: str) -> list[str]:
    """The phrases of a block of a template."""
    return [
        phrase for part in re.split(r"[\n,，、]", wording.text(block)) if (phrase := part.strip())
    ]


def find_phrase(text: str, phrases: Iterable[str]) -> str | None:
    """The first of the phrases that stands in the text as whole words, whatever their case."""
    tokens = words(caseless(text))
    return next((p for p in phrases if contains_tokens(tokens, words(caseless(p)))), None)


def has_words_beside(text: str, phrases: Iterable[str]) -> bool:
    """Whether a text has any word that is none of these one-word phrases."""
    ignored = {token for phrase in phrases for token in words(caseless(phrase))}
    return any(token not in ignored for token in words(caseless(text)))
