"""Corrupt a text so that a true statement becomes false, or paraphrase it so that it stays true.

Each follows its rule and a stable hash alone, so it changes the same thing on any machine.
"""

from __future__ import annotations

import re

from warehouse.records import make_id
from warehouse.text.words import split_form

_NUMBER_WORDS = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
_NUMBER = re.compile(
    r"(?<![\w.,)-])(?<!figure )(?<!table )\d+(?:[.,]\d+)*(?!\w)"  # no part of a name or formula
    rf"|\b(?:{'|'.join(_NUMBER_WORDS)})\b",
    re.I,
)
_NOT = re.compile(r"(?:\s+not\b|n['’]t\b|(?<=\bcan)not\b)", re.I)
_VERB = re.compile(r"\b(?:is|are|was|were|can|will|must|do|does|did)\b", re.I)
_ASKING = frozenset((
    "what", "which", "when", "where", "whose", "that", "this", "these", "those", "with", "from",
    "into", "than", "have", "does", "were", "been", "they", "their", "there", "your", "some", "many",
    "most", "called", "term", "name", "type", "kind", "known", "example",
))  # fmt: skip
_REWORDED = {
    r"\bcalled\b": "known as", r"\bbecause\b": "since", r"\bsuch as\b": "like",
    r"\boccur(s?)\b": r"happen\1", r"\blarge\b": "big", r"\bmany\b(?! of)": "a lot of",
    r"\busually\b": "as a rule", r"\bhelp(s?)\b": r"assist\1", r"\bbegin(s?)\b": r"start\1",
    r"\bis not\b": "isn't", r"\bare not\b": "aren't", r"\balso\s+": "",
    r"\bmade of\b": "composed of", r"\bdifferent\b": "distinct", r"\bimportant\b": "essential",
    r"\bcontain(s?)\b": r"hold\1", r"\bproduce(s?)\b": r"generate\1", r"\bsmall\b": "little",
    r"\bwhen\b": "whenever", r"\bwithin\b": "inside", r"\bcause(s?)\b": r"bring\1 about",
}  # fmt: skip


def other_number(text: str, seed: str) -> str | None:
    """The text with one of its numbers changed; None where it has none."""
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    match = matches[pick(len(matches), "which", seed, text)]
    word = match[0]
    if word[0].isdigit():
        digits = re.match(r"\d+", word)
        assert digits is not None
        last = digits.end() - 1
        least = 1 if last == 0 else 0
        others = [str(n) for n in range(least, 10) if str(n) != word[last]]
        new = word[:last] + others[pick(len(others), "digit", seed, text)] + word[last + 1 :]
    else:
        others = [candidate for candidate in _NUMBER_WORDS if candidate != word.lower()]
        new = others[pick(len(others), "word", seed, text)]
        new = new.capitalize() if word[0].isupper() else new
    return text[: match.start()] + new + text[match.end() :]


def other_negation(text: str) -> str | None:
    """The text with its first 'not' taken out, or one put behind its first verb form of *be*,
    *do*, *can*, *will*, *must*; None where it has neither."""
    denied = _NOT.search(text)
    if denied:
        return text[: denied.start()] + text[denied.end() :]
    verb = _VERB.search(text)
    return text[: verb.end()] + " not" + text[verb.end() :] if verb else None


def other_entity(text: str, answer: str, other: str) -> str | None:
    """The text with the answer replaced by another; None where it does not hold the answer."""
    match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.I)
    if not match:
        return None
    new = other[:1].upper() + other[1:] if match[0][:1].isupper() else other
    return text[: match.start()] + new + text[match.end() :]


def echo(question: str, passage: str, answer: str, seed: str) -> str | None:
    """A run of words of the question that stands in the passage, as a false answer.

    The longest run of words that are no function words, three at most, or another as long; None
    where each one shares a word with the answer.
    """
    right = frozenset(split_form(answer).split())
    words, around = split_form(question).split(), f" {split_form(passage)} "
    fit = [len(word) > 3 and word not in _ASKING and word not in right for word in words]
    for count in (3, 2, 1):
        runs = [
            " ".join(words[start : start + count])
            for start in range(len(words) - count + 1)
            if all(fit[start : start + count])
        ]
        able = sorted({run for run in runs if f" {run} " in around})
        if able:
            return able[pick(len(able), "echo", seed, question)]
    return None


def reword(sentence: str) -> str:
    """The sentence with some words replaced by their like, as true or false as it was."""
    for pattern, other in _REWORDED.items():
        sentence = re.sub(pattern, other, sentence, flags=re.I)
    return sentence[:1].upper() + sentence[1:]


def pick(among: int, *seed: str) -> int:
    """A number below `among` that follows from the seed."""
    return int(make_id(*seed), 16) % among
