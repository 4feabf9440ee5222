"""Find negations, and tell statements from names, in the languages whose rules are here.

A text copied word for word may still say the opposite of its source: "the moon is hot" stands in
"It is not true that the moon is hot", and クジラは魚 in クジラは魚ではない.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

from quality.text.languages import foreign
from warehouse.text.negation_words import NEGATIONS, has_negation
from warehouse.text.words import count_words as _count

LANGUAGES = tuple(NEGATIONS)
"""The languages (ISO 639) whose negations are known."""

# Short verbs by which a text is known to say something.
_VERBS = {
    "en": "is are was were has have had do does did can could will would may might must isn't aren't "
    "wasn't weren't hasn't haven't hadn't don't doesn't didn't can't couldn't won't wouldn't cannot",
    "de": "ist sind war waren wird werden wurde wurden hat haben hatte hatten kann können konnte "
    "konnten muss müssen soll sollen darf dürfen gibt gilt gelten",
    "fr": "est sont était étaient sera seront fut furent a ont avait avaient peut peuvent doit doivent",
    "es": "es son era eran fue fueron será serán está están ha han había hay tiene tienen puede pueden "
    "debe deben",
    "hi": "है हैं था थे थी थीं होता होते होती",
}


def _one_of(verbs: str) -> regex.Pattern[str]:
    """One of several words, with the pronoun or "not" that French puts before it ("n'est")."""
    several = verbs.replace("'", "['’]").replace(" ", "|")
    return regex.compile(
        rf"(?<![\p{{L}}\p{{M}}'’])(?:(?:n|c|qu)['’])?(?:{several})(?![\p{{L}}\p{{M}}])",
        regex.IGNORECASE,
    )


_STATES = {
    **{language: _one_of(verbs) for language, verbs in _VERBS.items()},
    "zh": regex.compile(r"是(?!否)|可以|能[够夠]|[属屬][于於]|位[于於]"),
    "ja": regex.compile(r"(?<=.)[はが](?=.)|です|である|ます|した$|する$|れる$|いる$"),
}
_CLAUSE = regex.compile(
    r"[,;:()–—，；：、（）]|\b(?:but|aber|sondern|mais|pero|sino)\b|लेकिन|परंतु|बल्कि|但是?|而是",
    regex.IGNORECASE,
)
_BEFORE, _AFTER = ("en", "de", "fr", "es", "zh"), ("de", "ja", "hi")  # where a negation stands
_UNSPACED = ("zh", "ja")
_BETWEEN = {"ja": 4}  # words, or characters, between a text and its negation; else 1
_CLAUSES = 4  # in which one text may stand together


def language_of(text: str) -> str:
    """Whose rules a text is read by: those of its script, else of its language, else English."""
    if not text.isascii():
        kana, han = (
            len(re.findall(f"[{script}]", text)) for script in ("\u3040-\u30ff", "\u4e00-\u9fff")
        )
        if kana + han and 4 * (kana + han) > len(re.findall("[A-Za-z]", text)):
            return "ja" if 10 * kana > han else "zh"
    best = foreign(text, ["en"])
    return best if best in NEGATIONS else "en"


def is_negated(text: str, language: str) -> bool:
    """Whether something is denied in a text."""
    return has_negation(text, language)


def is_statement(text: str, language: str) -> bool:
    """Whether a text surely says something, by its verb, and does not only name it."""
    return _STATES[language].search(text) is not None


def is_beside_negation(text: str, clause: str, language: str) -> bool:
    """Whether a negation stands next to a text in a clause, on the side where its language has it.

    In German "nicht" may follow a verb's object, or its subject, which is shorter and not denied.
    """
    after = language in _AFTER and (language != "de" or _count(text) > 2)
    start = clause.casefold().find(text.strip(" .,;:!?。、，！？\"'“”").casefold())
    stop = start + len(text)
    between = _BETWEEN.get(language, 1)
    return start >= 0 and any(
        (
            language in _BEFORE
            and match.end() <= start
            and _count(clause[match.end() : start]) <= between
        )
        or (after and match.start() >= stop and _count(clause[stop : match.start()]) <= between)
        for match in NEGATIONS[language].finditer(clause)
    )


def name_lengths(language: str) -> tuple[int, int]:
    """Tokens of a text that is a name, and of one that may be: one or two words.

    In Chinese and Japanese, where a token is a character, two or three.
    """
    return (2, 3) if language in _UNSPACED else (1, 2)


def clauses(sentence: str) -> Iterator[list[str]]:
    """The clauses of a sentence, then its runs of two neighbouring clauses, of three, and of four."""
    starts = [0, *(match.start() for match in _CLAUSE.finditer(sentence)), len(sentence)]
    for number in range(1, _CLAUSES + 1):
        yield [sentence[a:b] for a, b in zip(starts, starts[number:], strict=False)]
