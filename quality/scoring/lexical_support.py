"""Score by words whether a passage supports a text. Shared by `grounded` and `retrieved`.

Lexical support is the cheapest of the checks in the FActScore family (Min et al., 2023): claim
by claim, by the share of the claim's n-grams that the evidence has, as ROUGE counts them (Lin,
2004). It accepts no paraphrase, so it is precise and misses some good answers. Overlap alone
misses small lies, so a number, date or name that is not in the evidence, and a "not" on one
side only, cap a claim's support.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import regex

from quality.scoring.scorer import Verdict
from quality.text.claims import claims, sentences
from quality.text.echoes import echoes
from quality.text.languages import foreign, foreign_script, no_rules
from quality.text.negation import (
    LANGUAGES,
    clauses,
    is_beside_negation,
    is_negated,
    is_statement,
    language_of,
    name_lengths,
)
from warehouse.text import normalize as texts
from warehouse.text.words import caseless, count_words, space_scripts
from warehouse.text.words import tokens as tokens_of

Over = Literal["worst", "mean"]

CAP = 0.49
"""The most support of a claim with a number, date, name or negation that the evidence lacks."""

SHORT = 10
"""A completion of one claim with at most so many words is an answer: a span, or a share of words."""

SHOWN = 20
"""So many claims, the least supported ones, are kept in a verdict's details."""

ECHO = "echoes the question: each of its telling words stands there already"

_TOKEN = regex.compile(r"(?<!\w)[-−]?\d+(?:[.,]\d+)*|[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_ARTICLES = frozenset(("a", "an", "the"))
# "by", "before", "more" and their like are left in: they turn a claim around.
_FUNCTION = frozenset((
    "is", "are", "was", "were", "be", "been", "being", "am", "and", "or", "of", "in", "on",
    "at", "to", "for", "from", "with", "as", "that", "which", "this", "these", "those", "it",
    "its", "they", "their", "he", "she", "his", "her", "has", "have", "had", "do", "does",
    "did", "also", "there",
))  # fmt: skip
_NAME = re.compile(r"(?<![\w'’])[^\W\d_a-z][^\W_]*")
_SHOWS_LANGUAGE = 500  # characters
_NEAR = 32  # sentences compared with one claim, those with its rarest words


@dataclass(frozen=True)
class Support:
    """How far a claim is supported, 0..1, and what is missing where it is below 1."""

    claim: str
    value: float
    why: str | None = None
    unsure: str | None = None
    """Why no rule here can tell; then the value says nothing."""


def tokens(text: str, apostrophe: str = "") -> list[str]:
    """Words and numbers without case and articles; hyphens part words, apostrophes do not.

    With a space for `apostrophe` they do, so that Orsay is a word of "d'Orsay", and İstanbul one
    of "İstanbul'un".
    """
    plain = space_scripts(_APOSTROPHE.sub(apostrophe, caseless(text)))
    found: list[str] = _TOKEN.findall(plain)
    if not plain.isascii():
        found = [part for word in found for part in tokens_of(word)]
    return [word for word in found if word not in _ARTICLES]


def _forms(text: str) -> tuple[list[str], list[str], list[str]]:
    """How a span may be written: as it is, with numbers and dates in one form, cut at apostrophes."""
    plain, canonical = tokens(text), texts.canonical(text)
    return (
        plain,
        plain if canonical == text else tokens(canonical),
        tokens(text, apostrophe=" ") if _APOSTROPHE.search(caseless(text)) else plain,
    )


def _flat(words: Iterable[str]) -> str:
    return f" {' '.join(words)} "


def _content(words: Iterable[str]) -> list[str]:
    return [word for word in words if word not in _FUNCTION]


def _with_parts(dates: Iterable[str]) -> frozenset[str]:
    """Dates, and the less precise ones they hold: 1999-03-03 also 1999-03 and --03-03."""
    known = frozenset(dates)
    whole = [date for date in known if len(date) == len("1999-03-03")]
    return known | {date[:7] for date in whole} | {f"-{date[4:]}" for date in whole}


class _Row:
    """The words of a passage in a row, and whether others stand in it one after another."""

    def __init__(self, words: list[str]) -> None:
        self.words = frozenset(words)
        self._pairs = frozenset(pairwise(words))
        self._flat = _flat(words)

    def has(self, words: list[str]) -> bool:
        if not words or not self.words.issuperset(words):
            return False
        # The row is searched only where every pair is known: thousands of claims may ask.
        return self._pairs.issuperset(pairwise(words)) and _flat(words) in self._flat


class Evidence:
    """A passage made ready: judging a claim against it takes time in proportion to the claim."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.language = language_of(text[:_SHOWS_LANGUAGE])
        self.foreign = foreign(text[:_SHOWS_LANGUAGE], LANGUAGES)
        forms = _forms(text)
        rows = {id(words): _Row(words) for words in forms}  # the forms of most texts are one
        self.rows = [rows[id(words)] for words in forms]
        self.known = frozenset[str]().union(*(row.words for row in self.rows))
        self.numbers = frozenset(texts.numbers(text))
        self.dates = _with_parts(texts.dates(text))
        self.sentences = sentences(text)
        cut = [forms if sentence == text else _forms(sentence) for sentence in self.sentences]
        self.wholes = frozenset(_flat(plain) for plain, _, _ in cut)
        self.content: list[frozenset[str]] = []
        self.bigrams: set[tuple[str, str]] = set()
        self.where: defaultdict[str, list[int]] = defaultdict(list)
        for number, (_, canonical, parted) in enumerate(cut):
            row = _content(canonical)
            self.content.append(frozenset(row).union(_content(parted)))
            self.bigrams.update(pairwise(row))
            for word in self.content[-1]:
                self.where[word].append(number)

    def supports(self, parts: Sequence[str], answer: bool = False) -> list[Support]:
        """Support of each claim; a claim that comes again is judged once."""
        said = " ".join(parts[:_NEAR])[:_SHOWS_LANGUAGE]
        language = foreign_script(said, LANGUAGES) if answer else foreign(said, LANGUAGES)
        supports = {part: self.support(part, answer, language) for part in dict.fromkeys(parts)}
        return [supports[part] for part in parts]

    def support(self, claim: str, answer: bool = False, language: str | None = None) -> Support:
        """Support of one claim, or of a short answer (`answer`), by this passage.

        `language` is that of the claim where there are no rules for it.
        """
        forms = _forms(claim)
        words, canonical, _ = forms
        content = _content(canonical)
        if any(row.has(form) for row, form in zip(self.rows, forms, strict=True)):
            return self._span(claim, forms, content)
        missing = self._missing(claim)
        if answer and not missing and texts.contains(self.text, claim):
            return self._span(claim, forms, content)
        missing += filter(None, [self._mismatch(claim, content)])
        if answer or not content:
            value = sum(word in self.known for word in words) / (len(words) + 1)
            reason = "not a span of the passage"
        else:
            value, reason = self._coverage(content)
        if answer and not value:
            # A few words of a foreign language may be a name; where none is found, they tell.
            language = language or foreign(claim, LANGUAGES)
        language = self.foreign or language
        unsure = no_rules(language, LANGUAGES) if language else None
        if missing:
            return Support(claim, min(value, CAP), "; ".join(missing), unsure)
        return Support(claim, value, None if value == 1 else reason, unsure)

    def _span(self, claim: str, forms: Sequence[list[str]], content: list[str]) -> Support:
        """Support of a text that stands in the passage, unless what it says is denied there.

        The span of a short answer carries no "not" of its own; a statement's does, and so do
        several words beside a negation. Of others nobody can tell by rule, nor in a language
        without rules, unless the span is one word or a whole sentence.
        """
        words = forms[0]
        if self.foreign:
            whole = len(words) == 1 or _flat(words) in self.wholes
            return Support(claim, 1.0, unsure=None if whole else no_rules(self.foreign, LANGUAGES))
        states = is_statement(claim, self.language)
        name, may_be_name = name_lengths(self.language)
        if not states and len(words) <= name:
            return Support(claim, 1.0)
        negated = is_negated(claim, self.language)
        around = self._around(forms, content)
        if not around or any(is_negated(clause, self.language) == negated for clause in around):
            return Support(claim, 1.0)
        why = _mismatch_reason(negated, around[0])
        if states or all(is_beside_negation(claim, clause, self.language) for clause in around):
            return Support(claim, CAP, why)
        return Support(claim, 1.0, unsure=why if len(words) > may_be_name else None)

    def _around(self, forms: Sequence[list[str]], content: list[str]) -> list[str]:
        """The clauses in which a text stands, or the fewest neighbouring ones that hold all of it."""
        spans = [_flat(form) for form in forms]
        around: list[str] = []
        for number in self._near(content):
            for runs in clauses(self.sentences[number]):
                found = [
                    run
                    for run in runs
                    if any(
                        span in _flat(form) for span, form in zip(spans, _forms(run), strict=True)
                    )
                ]
                if found:
                    around += found
                    break
        return around

    def _coverage(self, content: list[str]) -> tuple[float, str]:
        pairs = list(pairwise(content))
        hits = sum(word in self.known for word in content)
        hits += sum(pair in self.bigrams for pair in pairs)
        unknown = [f'"{word}"' for word in dict.fromkeys(content) if word not in self.known]
        reason = (
            f"not in the passage: {', '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''}"
            if unknown
            else "its words stand in the passage, but not together"
        )
        return hits / (len(content) + len(pairs)), reason

    def _missing(self, claim: str) -> list[str]:
        """Numbers, dates and names of the claim that the passage lacks, each in words."""
        missing = [
            f"date {date} is not in the passage"
            for date in texts.dates(claim)
            if date not in self.dates
        ]
        missing += [
            f"number {number} is not in the passage"
            for number in texts.numbers(texts.without_dates(claim))
            if number not in self.numbers and f"{number}%" not in self.numbers
        ]
        first = re.search(r"[^\W_]", claim)
        for name in _NAME.finditer(claim):
            plain = "".join(tokens(name[0]))
            if name.start() == (first.start() if first else 0) or not plain or plain == "i":
                continue  # a capital at the beginning says nothing
            if name[0][0].isupper() and self.known.isdisjoint(
                (plain, f"{plain}s", plain.removesuffix("s"))
            ):
                missing.append(f"name {name[0][:80]} is not in the passage")
        return list(dict.fromkeys(missing))[:3]

    def _near(self, content: list[str]) -> list[int]:
        """The sentences that hold most of a claim's words, if they hold half of them at least."""
        wanted = frozenset(content)
        rows = sorted((row for word in wanted if (row := self.where.get(word))), key=len)
        positions: dict[int, None] = {}
        for row in rows:
            positions.update(dict.fromkeys(row[: _NEAR - len(positions)]))
            if len(positions) >= _NEAR:
                break
        shared = {number: len(wanted & self.content[number]) for number in positions}
        most = max(shared.values(), default=0)
        return [
            number for number in positions if shared[number] == most and 2 * most >= len(wanted)
        ]

    def _mismatch(self, claim: str, content: list[str]) -> str | None:
        near = self._near(content)
        negated = is_negated(claim, self.language)
        if not near or any(
            is_negated(self.sentences[number], self.language) == negated for number in near
        ):
            return None
        return _mismatch_reason(negated, self.sentences[min(near)])


def _mismatch_reason(negated: bool, sentence: str) -> str:
    quoted = f'"{sentence.strip()[:120]}"'
    if negated:
        return f"negation: the claim has one, the passage has none: {quoted}"
    return f"negation: the claim has none, the passage has one: {quoted}"


def split(completion: str) -> tuple[list[str], bool]:
    """The claims of a completion that have a word, and whether it is one short answer."""
    parts = [part for part in claims(completion) if tokens(part)]
    return parts, len(parts) == 1 and count_words(parts[0]) <= SHORT


def echo_verdict(found: Verdict, completion: str, question: str) -> Verdict:
    """The verdict, 0.0 instead if the completion has only words of the question to say.

    Such words stand in any passage on the subject, so their support says nothing of an answer.
    One that abstains stays: where a passage cannot be read by rule, nothing is said of it.
    """
    if not found.value or not echoes(completion, question):
        return found
    details = {**(found.details or {}), "labels": {"worst": 0.0, "mean": 0.0}}
    return Verdict(0.0, ECHO, details)


def verdict(supports: Sequence[Support], over: Over, **details: Sequence[Any]) -> Verdict:
    """The verdict on a completion: its least supported claim, or the mean over its claims.

    It abstains where one of the claims cannot be judged. `details` are columns beside the claims (the passage that supports each one, ...).
    """
    if unsure := next((support.unsure for support in supports if support.unsure), None):
        return Verdict(None, unsure)
    values = [support.value for support in supports]
    worst, mean = min(values), sum(values) / len(values)
    kept = sorted(sorted(range(len(values)), key=values.__getitem__)[:SHOWN])
    rows = [
        {
            "text": supports[n].claim[:300],
            "support": values[n],
            "why": supports[n].why,
            **{name: column[n] for name, column in details.items()},
        }
        for n in kept
    ]
    lowest = supports[values.index(worst)]
    why = lowest.why
    if why and len(supports) > 1:
        why = f'claim "{lowest.claim[:80]}": {why}'
    return Verdict(
        worst if over == "worst" else mean,
        why,
        {"labels": {"worst": worst, "mean": mean}, "claims": rows, "of": len(supports)},
    )
