"""Normalise texts for comparison, and split them into words and sentences in any script.

English goes through unchanged: on ASCII texts `fold` does nothing and words end at white space
and signs, so SQuAD's and lm-evaluation-harness's figures stay what they are. For the rest:

- Text is compared in NFC, with compatibility forms (full-width letters, ligatures), typographic
  quotes and dashes in one form (Unicode Standard Annex 15 and Technical Standard 10).
- A combining mark belongs to the letter before it (UAX 29, rule WB4).
- Chinese and Japanese count by characters, as the evaluation scripts of CMRC 2018 (Cui et al.,
  2019), MLQA (Lewis et al., 2020) and JSQuAD (Kurihara et al., 2022) do. Thai, Lao, Khmer and
  Myanmar are split into words by the dictionaries of ICU.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence

import regex

VERSION = "1"
"""Raise it when a result changes for any text, and with it the versions of the scorers
and benchmarks that use it: grades by other rules are never compared."""

_SIGNS = {ord(sign): '"' for sign in "“”„‟«»″"} | {ord(sign): "'" for sign in "‘’‚‛‹›ʼ′´"}
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width space, word joiner, BOM
_SYLLABLE_SIGNS = "\u0f0b\u0f0c\u1361"  # of Tibetan and Ethiopic: they part words as spaces do
_KEPT_FORMS = ("<super>", "<fraction>")  # 10² is not 102, and 1½ not 11/2

_BY_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}ー々〆"
_BY_DICTIONARY = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNSPACED = regex.compile(rf"[{_BY_CHARACTER}{_BY_DICTIONARY}]")
_DICTIONARY_CHARACTER = regex.compile(rf"[{_BY_DICTIONARY}]")
_PIECE = regex.compile(
    rf"(?P<character>[{_BY_CHARACTER}]\p{{M}}*)"
    rf"|(?P<dictionary>[{_BY_DICTIONARY}][{_BY_DICTIONARY}\p{{M}}\u200c\u200d]*)"
    rf"|[^{_BY_CHARACTER}{_BY_DICTIONARY}]+"
)
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*")
_JOINED_WORD = regex.compile(rf"[\p{{L}}\p{{N}}][\p{{L}}\p{{N}}\p{{M}}\u200c\u200d{_INVISIBLE}]*")
_EDGE = regex.compile(
    rf"(?<=[{_BY_CHARACTER}{_BY_DICTIONARY}])(?=[\p{{Latin}}\p{{N}}])"
    rf"|(?<=[\p{{Latin}}\p{{N}}])(?=[{_BY_CHARACTER}{_BY_DICTIONARY}])"
)
_CLOSING = r"[\"'”’»」』）〉》)\]]*"
SENTENCE_END = regex.compile(rf"[.!?…؟۔]+{_CLOSING}(?=\s|$)|[。｡！？।॥។៕။።]+{_CLOSING}")
"""Where a sentence ends: a sign before white space, or a full stop of a script that needs none."""
_CLAUSE_GAP = regex.compile(r"(?<=[\p{Thai}\p{Lao}]) +(?=[\p{Thai}\p{Lao}])")
_CLAUSE_WORDS = 3


class _Folded(dict[int, str | None]):
    """Code point -> its one form, worked out when it is first met."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = folded = _fold_character(char)
        return folded


class _Stripped(dict[int, str | None]):
    """Code point -> itself, or None for punctuation."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        punctuation = char in string.punctuation or unicodedata.category(char).startswith("P")
        self[code] = kept = None if punctuation else char
        return kept


def _fold_character(char: str) -> str | None:
    if char in _INVISIBLE:
        return None
    if ord(char) in _SIGNS:
        return _SIGNS[ord(char)]
    category = unicodedata.category(char)
    if category == "Pd" or char == "−":
        return "-"
    form = unicodedata.decomposition(char).partition(" ")[0]
    # White space is split on as it is; the dictionaries of Thai and Lao want their vowels whole.
    if not form.startswith("<") or form in _KEPT_FORMS or category == "Zs":
        return char
    plain = unicodedata.normalize("NFKC", char)
    return char if _DICTIONARY_CHARACTER.match(char) or plain.startswith(" ") else plain


_folded = _Folded()
_stripped = _Stripped({ord(sign): " " for sign in _SYLLABLE_SIGNS})


def fold(text: str) -> str:
    """The text in NFC, with compatibility forms, quotes and dashes in one form; case is kept."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_folded))


def caseless(text: str) -> str:
    """The folded text without differences of case ("Straße" and "STRASSE" are one)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", fold(text).casefold())


def strip_punctuation(text: str) -> str:
    """The text without punctuation, of ASCII (`$+<=>^`|~` too, as SQuAD does it) and of Unicode."""
    return text.translate(_stripped)


def split_form(text: str) -> str:
    r"""Lower case, runs of `\w` only, single spaces: what the held-out split hashes.

    Frozen. It knows no combining marks and no NFC, and stays so: with another form other rows
    would be held out, and students would be asked what they were trained on.
    """
    return " ".join(re.findall(r"\w+", text.lower()))


def has_unspaced_script(text: str) -> bool:
    """Whether it holds a script that is written without spaces between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def count_unspaced(text: str) -> int:
    """Characters of scripts that are written without spaces."""
    return sum(1 for _ in _UNSPACED.finditer(text))


def tokens(text: str) -> list[str]:
    """The text split at white space, and within scripts without spaces into words or characters.

    Signs stay where they are: strip or fold them first. The tokens of a text without such
    scripts are those of `str.split`.
    """
    if not has_unspaced_script(text):
        return text.split()
    return [token for chunk in text.split() for token in _pieces(chunk)]


def split_at_signs(text: str) -> Iterator[list[str]]:
    """Each run of letters, digits and their marks, as its words: one, but in unspaced scripts."""
    unspaced = has_unspaced_script(text)
    for word in _WORD.findall(text):
        yield list(_pieces(word)) if unspaced else [word]


def words(text: str) -> list[str]:
    """Runs of letters, digits and their marks, as written; signs and underscores part them."""
    return [part for word in split_at_signs(text) for part in word]


def count_words(text: str) -> int:
    """How many words it has: stretches between white space, cut in scripts without spaces."""
    if not has_unspaced_script(text):
        return len(text.split())
    return sum(1 if not _UNSPACED.search(chunk) else len(words(chunk)) for chunk in text.split())


def spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each of the text's tokens."""
    found = []
    for chunk in regex.finditer(r"\S+", text):
        start = chunk.start()
        for piece in _pieces(chunk[0]) if has_unspaced_script(chunk[0]) else [chunk[0]]:
            found.append((start, start + len(piece)))
            start += len(piece)
    return found


def contains_tokens(text: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the tokens stand in the text one after another; see `find_tokens`."""
    return find_tokens(text, wanted) is not None


def find_tokens(text: Sequence[str], wanted: Sequence[str]) -> tuple[int, int] | None:
    """(first, end) of the text's tokens in which the wanted ones stand one after another.

    In Thai and its like the cut may fall elsewhere within a longer text: there the letters
    have to agree, and a word has to begin where they begin and to end where they end.
    """
    if not wanted:
        return None
    around, inner = f" {' '.join(text)} ", f" {' '.join(wanted)} "
    if (start := around.find(inner)) >= 0:
        return _token_places(around, start, start + len(inner))
    if not any(_DICTIONARY_CHARACTER.match(token) for token in wanted):
        return None
    parts = [
        " ?".join(map(regex.escape, token))
        if _DICTIONARY_CHARACTER.match(token)
        else regex.escape(token)
        for token in wanted
    ]
    pattern = parts[0]
    for last, token, part in zip(wanted, wanted[1:], parts[1:], strict=False):
        both = _DICTIONARY_CHARACTER.match(last) and _DICTIONARY_CHARACTER.match(token)
        pattern += (" ?" if both else " ") + part
    match = regex.search(f" {pattern} ", around)
    return _token_places(around, *match.span()) if match else None


def _token_places(around: str, start: int, end: int) -> tuple[int, int]:
    first = around.count(" ", 0, start)
    return first, first + around.count(" ", start, end) - 1


def locate(text: str, wanted: str) -> tuple[int, int] | None:
    """(start, end) of the characters in which some words first stand in a text, in any script.

    Whole words are compared, in their one form and without differences of case, whatever signs
    are between them. Where nothing but signs is wanted, they are looked for as they are.
    """
    words_wanted = _word_forms(wanted)
    if not words_wanted:
        start = text.find(wanted.strip()) if wanted.strip() else -1
        return None if start < 0 else (start, start + len(wanted.strip()))
    places = _word_forms(text)
    found = find_tokens([form for form, _, _ in places], [form for form, _, _ in words_wanted])
    return None if found is None else (places[found[0]][1], places[found[1] - 1][2])


def _word_forms(text: str) -> list[tuple[str, int, int]]:
    """(form for comparison, start, end) of each word."""
    found = []
    unspaced = has_unspaced_script(text)
    for word in _JOINED_WORD.finditer(text):
        start = word.start()
        for piece in _pieces(word[0]) if unspaced else [word[0]]:
            form = "".join(caseless(piece).split())  # some ligatures have spaces in them
            if form:
                found.append((form, start, start + len(piece)))
            start += len(piece)
    return found


def space_scripts(text: str) -> str:
    """The text with a space where a script without spaces meets a word or number: "在 1969 年"."""
    return _EDGE.sub(" ", text) if has_unspaced_script(text) else text


def cut_sentences(text: str) -> list[str]:
    """The text cut after the full stops of scripts that put no space after them.

    Thai and Lao have none: there a space parts sentences and clauses, so the text is cut at
    spaces, into parts of three words and more.
    """
    if text.isascii():
        return [text]
    parts, start = [], 0
    for end in (*(match.end() for match in SENTENCE_END.finditer(text)), len(text)):
        if part := text[start:end].strip():
            parts += _clauses(part)
        start = end
    return parts


def _clauses(text: str) -> list[str]:
    clauses: list[str] = []
    for gap in _CLAUSE_GAP.split(text):
        if clauses and (min(count_words(clauses[-1]), count_words(gap)) < _CLAUSE_WORDS):
            clauses[-1] += f" {gap}"
        else:
            clauses.append(gap)
    return clauses


def _pieces(chunk: str) -> Iterator[str]:
    """A stretch without white space, cut into characters, dictionary words and the rest."""
    for piece in _PIECE.finditer(chunk):
        if piece["dictionary"]:
            from icu4py.breakers import WordBreaker

            yield from WordBreaker(piece[0], "en")  # the script names the dictionary
        else:
            yield piece[0]
