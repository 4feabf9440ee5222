"""Tell by rules whether a rewording keeps what must not change: numbers, names and negations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import regex

from warehouse.text.negation_words import has_negation
from warehouse.text.words import caseless, fold, words

_NUMBER = regex.compile(r"\d+(?:[.,:/]\d+)*")
_THOUSANDS = regex.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LATIN_WORD = regex.compile(r"(?<![\p{L}\p{N}])\p{Latin}[\p{Latin}\p{M}\p{N}]*")
_STARTS = regex.compile(r"(?:^|[\n.!?…:;。！？：；])[\s\"'“”‘’«»「」『』(\[*#>-]*$|^\s*\d+[.)]\s*$")
_PRONOUN = "I"


def changed_fact(original: str, rewording: str, language: str = "en") -> str | None:
    """What of a text is lost, or new, in its rewording; None where all is kept.

    Compared are digits (a number that is written out is another text: "2" is not "two"), words in
    Latin capitals that no sentence begins with, and whether there is a negation at all, in the
    languages of `warehouse.text.negation_words`. A language that writes nouns in capitals, such as
    German, has each of them kept.

    Args:
        original: The text.
        rewording: The same in other words.
        language: ISO 639.
    """
    before, after = _numbers(original), _numbers(rewording)
    for number in [*(before - after), *(after - before)]:
        return f"the number {number} is {'lost' if number in before else 'new'}"
    for text, other, what in ((original, rewording, "lost"), (rewording, original, "new")):
        known = set(words(caseless(other)))
        for name in _names(text):
            if not set(words(caseless(name))) <= known:
                return f"the name '{name}' is {what}"
    if has_negation(original, language) != has_negation(rewording, language):
        return f"a negation is {'lost' if has_negation(original, language) else 'new'}"
    return None


def _numbers(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(_THOUSANDS.sub("", fold(text))))


def _names(text: str) -> Iterator[str]:
    """Words in capitals, but those that may have them because a sentence begins."""
    plain = fold(text)
    for match in _LATIN_WORD.finditer(plain):
        word = match[0]
        inner = any(char.isupper() for char in word[1:])
        begins = _STARTS.search(plain, 0, match.start()) is not None
        if word != _PRONOUN and (inner or (word[0].isupper() and not begins)):
            yield word
