"""Fold texts to the words and signs by which "the same question" is decided.

Writing is evened out: case, Unicode forms (NFKC), typographic marks, invisible characters,
punctuation, Markdown and thousands separators. What carries meaning stays: combining marks, decimal
points, mathematical and currency signs, emoji, and signs of code where they stand as such. So
"What is 3+4?" is another question than "What is 3-4?", and an unspaced script has a word for each
character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import regex

VERSION = "3"
"""Changes with the rules, so that decisions made by older ones are made again."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_PLAIN_WORD = re.compile(r"[^\W_]+(?:(?<=\d)\.(?=\d)[^\W_]+)*|[%$&@]")
_SIGN = re.compile(r"[-+*/<>=!#^~|\\_`]")
_DOTTED = re.compile(r"\.(?<![^\W_]\.)\w")
_OTHER = regex.compile(rf"[\p{{M}}\p{{Sm}}\p{{So}}{_UNSPACED}]|(?![$])\p{{Sc}}")
"""What needs the rules of `_TOKEN`, which take ten times as long as `_PLAIN_WORD`."""
_HYPHEN = re.compile(r"-(?:(?<=[a-z]-)(?=[a-z][a-z])|(?<=[a-z][a-z]-)(?=[a-z]))")
_TYPOGRAPHIC = str.maketrans({**dict.fromkeys("“”‘’„‚«»‹›—…", " "), **dict.fromkeys("‐‑‒–﹘", "-")})

_SUPERSCRIPT = regex.compile(r"(?<=\S)[⁰¹²³⁴-⁹⁺⁻⁼ⁿⁱ]+")
_FRACTION = regex.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe00-\ufe0f\u0640\u00a9\u00ae\u2122\u2120\p{Cs}\0]")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("×·⋅∗", "*"),
        **dict.fromkeys("÷⁄∕", "/"),
        "≠": "!=",
        "≤": "<=",
        "≥": ">=",
        "⩽": "<=",
        "⩾": ">=",
    }
)
_LAYOUT = regex.compile(
    r"""
    ^\s*(?:[-=*_~\#]\s?){3,}$               # a ruled line
    | ^\s*(?:[-*+>]|\#{1,6})\s(?=\s*\S)     # a bullet, a quotation, a heading
    | (?<![^\W_])_{2,}(?![^\W_])            # a gap to fill in
    """,
    regex.VERBOSE | regex.MULTILINE,
)
_EMPHASIS = regex.compile(r"(?<![\w*])(\*{1,3}|_{1,3})(?=[^\s*_])([^*_\n]+)(?<=\S)\1(?![\w*(])")
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")
_UNSPACED_WORD = re.compile(f"[{_UNSPACED}]")
_OPERATORS = frozenset("+-*/^%!")
_LETTER = r"[\p{Latin}\p{Greek}\p{Cyrillic}]"
_OPERAND_BEFORE = rf"(?:[\d)]|(?<!\w){_LETTER})\s?"
_OPERAND_AFTER = rf"\s?(?:[\d(]|{_LETTER}(?!\w))"
_TOKEN = regex.compile(
    rf"""
    (?![\p{{M}}])[{_UNSPACED}]\p{{M}}*                         # each character of unspaced scripts
    | (?:(?<!\S)\.(?=\w)|(?<![\w.])\.(?=\d))?                  # .NET, .5
      (?:(?![{_UNSPACED}])[\w\p{{M}}])+
      (?:(?<=\d)\.(?=\d)(?:(?![{_UNSPACED}])[\w\p{{M}}])+)*    # 3.14
    | [+/=%&@\\*\p{{Sc}}\p{{So}}−] | (?!-)\p{{Sm}} | \^
    | \#(?=\w) | (?<=\w\#*)\#
    | !(?==) | (?<![\p{{L}}!])!(?=[\w(]) | (?<=\d|\)|(?<!\w){_LETTER})!(?!\w)
    | -(?=[>=]) | (?<=[=+*/^<(]\s?)- | (?<=(?<!\S)-?)-(?=[\w.]) | (?<=\w)-(?=-(?!\w)) | (?<=\w-)-(?!\w)
    | (?<!\p{{L}})-(?=\.?\d) | (?<={_OPERAND_BEFORE})-(?={_OPERAND_AFTER})
    | \((?<=[-+*/^=<>]\s?\() | \)(?=\s?[+*/^=<>]|\s?-\s?[\d(])
    """,
    regex.VERBOSE,
)  # fmt: skip


def comparison_words(text: str) -> list[str]:
    """The words and signs of a text as it is compared; none if it has punctuation only."""
    if not text.isascii():
        text = text.translate(_TYPOGRAPHIC)
    if not text.isascii():
        text = _FRACTION.sub(" ", _SUPERSCRIPT.sub(r"^\g<0>", text))
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).translate(_SIGNS)
        text = unicodedata.normalize("NFKC", text.casefold())
    text = _THOUSANDS.sub("", _HYPHEN.sub(" ", text.lower()))
    if not (
        _SIGN.search(text) or _DOTTED.search(text) or (not text.isascii() and _OTHER.search(text))
    ):
        return _PLAIN_WORD.findall(text)
    text = _EMPHASIS.sub(r"\2", _LAYOUT.sub(" ", text))
    words: list[str] = _TOKEN.findall(text)
    return ["-" if word == "−" else word for word in words]


def comparison_form(text: str) -> str:
    """The form in which a text is compared: equal questions have equal forms.

    A text of punctuation only stays as it is, but for spaces; half a character (a lone surrogate)
    is written out. Empty only if the text is blank.
    """
    plain = " ".join(comparison_words(text)) or " ".join(text.replace("\0", " ").split())
    return plain.encode("utf-8", "backslashreplace").decode()


def is_quotable(words: Sequence[str]) -> bool:
    """Whether a text is too long to stand in another one by chance: five words, ten characters
    where each is a word."""
    return sum(0.5 if _UNSPACED_WORD.match(word) else 1.0 for word in words) >= 5


def stands_at(quoted: Sequence[str], words: Sequence[str], start: int) -> bool:
    """Whether a text stands word for word in another one; "3 + 4" does not stand in "3 + 4 * 2"."""
    stop = start + len(quoted)
    if start < 0 or tuple(words[start:stop]) != tuple(quoted):
        return False
    goes_on = stop < len(words) and not _has_letter(quoted[-1]) and words[stop] in _OPERATORS
    before = start > 0 and not _has_letter(quoted[0]) and words[start - 1] in _OPERATORS
    return not (goes_on or before)


def _has_letter(word: str) -> bool:
    return any(character.isalpha() for character in word)
