"""Find the words that negate, in the languages whose rules are here.

Word lists in the manner of NegEx (Chapman et al., 2001): precise for common wording, blind to irony
and to "fails to".
"""

from __future__ import annotations

import re

import regex

NEGATIONS = {
    "en": re.compile(
        r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|without)\b|n['’]t\b",
        re.I,
    ),
    "de": re.compile(
        r"\b(?:nicht|kein(?:e[mnrs]?)?|nie(?:mals)?|niemand(?:e[mn])?|nichts|weder|ohne)\b",
        re.I,
    ),
    "fr": re.compile(
        r"\bn(?:e\b|['’](?!importe))|\b(?:jamais|aucune?|sans(?! doute)|ni)\b|(?<!\bun )(?<!\ble )\bpas\b",
        re.I,
    ),
    "es": re.compile(
        r"\b(?:no(?! obstante)|nunca|jamás|nadie|nada|ning[uú]n[ao]?|tampoco"
        r"|sin(?! embargo| duda)|ni)\b",
        re.I,
    ),
    # Words in which the sign for "not" denies nothing are left out: different, only, countless.
    "zh": re.compile(
        r"不(?![同仅僅但过過少断斷久论論管禁错錯])|没(?![收落食])|沒(?![收落])"
        r"|無(?![論線錫數疑])|无(?![论线锡数疑])|(?<!除)非(?![常洲凡])|未(?![来來])|勿"
    ),
    # Left out: few, dangerous, must, perhaps, surely, only, "not only", and certainly.
    "ja": re.compile(
        r"(?<!少)(?<!危)(?<!違い)(?<!ければなら)(?<!なくてはなら)(?<!かもしれ)(?<!過ぎ)(?<!すぎ)(?:ない|なかった|ません|無い)"
        r"|(?<!だけ)(?:で|では|じゃ)なく(?!な|て)|[かがさたなばまらわ]なく(?!な|て|とも)"
        r"|(?<![必はわ])(?<!^ま)(?<![、。]ま)ず(?=[、。にと]|$)"
    ),
    "hi": regex.compile(r"(?<![\p{L}\p{M}])(?:नहीं|नही|मत|बिना|न)(?![\p{L}\p{M}])"),
}
"""Language (ISO 639) -> its negating words."""


def has_negation(text: str, language: str) -> bool:
    """Whether a text has a negating word; never in a language that is not known."""
    rule = NEGATIONS.get(language)
    return rule is not None and rule.search(text) is not None
