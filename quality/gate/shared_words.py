"""Compare the words of two texts: runs, misspellings, numbers and signs, short answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import regex

from quality.gate.dedup import words
from quality.gate.rarity import RUN

GAP = 5  # words between two places of one quotation
_ARTICLES = frozenset(("a", "an", "the"))
# Yes, no, true, false, right and wrong, per language; unspaced scripts have a word per character.
_SAYS_LITTLE = frozenset(
    [
        "yes",
        "no",
        "true",
        "false",
        "right",
        "wrong",
        "correct",
        "incorrect",
        "ja",
        "nein",
        "wahr",
        "falsch",
        "richtig",
        "oui",
        "non",
        "vrai",
        "vraie",
        "faux",
        "fausse",
        "correcte",
        "sí",
        "si",
        "verdadero",
        "verdadera",
        "falso",
        "falsa",
        "cierto",
        "correcto",
        "incorrecto",
        "हाँ",
        "हां",
        "नहीं",
        "सही",
        "गलत",
        "ग़लत",
        "सत्य",
        "असत्य",
        "是",
        "是的",
        "不是",
        "否",
        "对",
        "不对",
        "對",
        "不對",
        "错",
        "錯",
        "错误",
        "錯誤",
        "正确",
        "正確",
        "不正确",
        "不正確",
        "真",
        "假",
        "有",
        "没有",
        "沒有",
        "はい",
        "いいえ",
        "正しい",
        "正しくない",
        "正解",
        "不正解",
        "誤り",
        "正",
        "誤",
        "偽",
        "sim",
        "não",
        "verdadeiro",
        "correto",
        "errado",
        "sì",
        "vero",
        "corretto",
        "sbagliato",
        "waar",
        "onwaar",
        "nee",
        "tak",
        "nie",
        "prawda",
        "fałsz",
        "да",
        "нет",
        "верно",
        "неверно",
        "правда",
        "ложь",
        "так",
        "ні",
        "نعم",
        "لا",
        "صحيح",
        "خطأ",
        "evet",
        "hayır",
        "doğru",
        "yanlış",
        "예",
        "네",
        "아니요",
        "아니오",
        "참",
        "거짓",
        "có",
        "không",
        "đúng",
        "sai",
        "ya",
        "tidak",
        "benar",
        "salah",
    ]
)
_LETTER = regex.compile(r"[\p{L}--\p{Han}--\p{Hangul}]\p{M}*", regex.V1)
_OPTIONS = frozenset("甲乙丙丁가나다라마")  # letters of options that are no letters of an alphabet


def runs_of(tokens: Sequence[str], length: int = RUN) -> Iterator[tuple[str, ...]]:
    """Every run of so many words, in order."""
    return zip(*(tokens[n:] for n in range(length)), strict=False)


def bag_of(tokens: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """The weight of each word, of the place where it has most."""
    bag: dict[str, float] = {}
    for word, weight in zip(tokens, weights, strict=True):
        bag[word] = max(weight, bag.get(word, 0.0))
    return bag


def keep_long_runs(places: set[int], least: int) -> set[int]:
    """The places that stand in a row of at least so many."""
    if least <= RUN:
        return places
    starts = [n for n in places if all(n + k in places for k in range(least))]
    return {n + k for n in starts for k in range(least)}


def find_densest_share(places: Sequence[int], weights: Sequence[float]) -> float:
    """The share of found words in the stretch of a text with the most of them."""
    best, start = (0.0, 0.0), 0
    for stop in range(1, len(places) + 1):
        if stop == len(places) or places[stop] - places[stop - 1] > GAP:
            found = sum(weights[n] for n in places[start:stop])
            whole = sum(weights[places[start] : places[stop - 1] + 1])
            best = max(best, (found, found / whole if whole else 0.0))
            start = stop
    return best[1]


def is_sign(word: str) -> bool:
    """Whether a word has a digit, or no letter."""
    return any(map(str.isdigit, word)) or not any(map(str.isalpha, word))


def is_in_order(signs: Sequence[str], among: Sequence[str]) -> bool:
    """Whether signs stand among others in the same order."""
    rest = iter(among)
    return all(sign in rest for sign in signs)


def is_typo(word: str, other: str) -> bool:
    """Whether a word is another one with a letter more, less, changed or swapped."""
    if min(len(word), len(other)) < 4 or abs(len(word) - len(other)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), None)
    if start is None:
        return True
    left, right = word[start:], other[start:]
    return (
        left[1:] == right[1:]
        or left[1:] == right
        or left == right[1:]
        or (left[:2] == right[1::-1] and left[2:] == right[2:])
    )


def answer_words(text: str) -> tuple[str, ...]:
    """The words of an answer without articles."""
    return tuple(word for word in words(text) if word not in _ARTICLES)


def has_same_answer(answers: Iterable[tuple[str, ...]], wanted: Iterable[tuple[str, ...]]) -> bool:
    """Whether one of the answers equals or contains a reference that tells anything.

    "Yes" and a letter tell nothing: half of all questions have that answer.
    """
    telling = {answer for answer in wanted if not _says_little("".join(answer))}
    return any(
        run == answer
        for text in answers
        for answer in telling
        for run in runs_of(text, len(answer))
    )


def _says_little(answer: str) -> bool:
    return answer in _SAYS_LITTLE or answer in _OPTIONS or _LETTER.fullmatch(answer) is not None
