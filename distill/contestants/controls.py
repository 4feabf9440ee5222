"""Answer held-out items without a model: the controls that a student has to beat.

A benchmark that a script solves says little about a model: what stands in the passage can be
copied, and what is commonest can always be said (the partial-input and majority baselines of
Gururangan et al., 2018, and Kaushik and Lipton, 2018). Controls are deterministic, cost nothing,
take no time, and never see the reference of a held-out item.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from distill.contestants.contestant import Advance, Generation
from distill.contestants.context import Context, Sources
from quality.models.bm25 import Index
from quality.tasks.benchmark import Benchmark, Item
from quality.text.claims import sentences
from warehouse.records import Failure, Message, make_id
from warehouse.text import words
from warehouse.text.lettered import LETTERS, read_choice
from warehouse.text.named import read_class
from warehouse.text.normalize import normalise_answer, numbers
from warehouse.wording import format_count

VERSION = "1"
"""Raise it when a control answers any item differently."""
LONGEST = 3
"""Most words of an answer that is copied: short answers are seldom longer."""

_NO_PASSAGE = "no passage to copy from"
_NO_CLASS = "a class cannot be copied from a passage"
_NOTHING = "nothing was seen from which to take the commonest answer"
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_CLOSING = tuple(".,;:!?)]}。，；：、！？）")
_OPENING = tuple("([{（")
_FUNCTION_WORDS = frozenset((
    "about", "also", "am", "been", "being", "called", "can", "could", "did", "do", "does", "had",
    "has", "have", "he", "her", "his", "how", "its", "known", "may", "most", "she", "some", "than",
    "them", "those", "we", "were", "what", "when", "where", "which", "who", "why", "you",
))  # fmt: skip
"""Beside the English stop words of BM25."""


@dataclass(frozen=True)
class ItemParts(Context):
    """The parts of an item as fields of one message: a script reads no prompt."""

    benchmark: Benchmark

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """One message per item: `content` (the question), `passage` where it is shown, `choices`,
        `classes`, `form` (what an answer is) and `examples` (answers of the worked examples)."""
        return [[self._parts(item)] for item in items]

    def description(self) -> str:
        """What a script reads."""
        return "question, passage and options as data, no instruction and no reference"

    def _parts(self, item: Item) -> Message:
        return {
            "role": "user",
            "content": item.row.prompt,
            "passage": item.passage,
            "choices": list(item.choices),
            "classes": list(getattr(self.benchmark, "classes", None) or ()),
            "form": answer_form(self.benchmark, item),
            "examples": [
                message["content"] for message in item.messages if message["role"] == "assistant"
            ],
        }


def answer_form(benchmark: Benchmark, item: Item) -> str:
    """What an answer to an item is: "choice", "class", "number" or "text"."""
    if item.choices:
        return "choice"
    if has_classes(benchmark):
        return "class"
    return "number" if benchmark.metrics[0] == "numeric" else "text"


def why_no_copy(benchmark: Benchmark, items: Sequence[Item]) -> str | None:
    """Why `control:copy` has no answer to any of the items; None where it has one."""
    reasons = {_no_copy(ItemParts(benchmark)._parts(item)) for item in items}
    return None if None in reasons else min(filter(None, reasons), default=_NO_PASSAGE)


def has_classes(benchmark: Benchmark) -> bool:
    """Whether a benchmark's answers name a class, which nothing can be copied for."""
    return bool(getattr(benchmark, "classes", None))


class _Control:
    """What controls have in common: an answer to each conversation, at once and for nothing."""

    name: str

    @property
    def contestant_id(self) -> str:
        """Hash of the rule's name and version."""
        return make_id("control", self.name, VERSION)

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """The parts of the item; a control has no limit."""
        return {"parts": make_id(messages)}

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """Answer each conversation of one message with the fields of `ItemParts`."""
        for position, (parts,) in enumerate(conversations):
            text, why = self.reply(parts)
            advance(1)
            yield position, Generation(text, "stop", 0, 0, 0.0, 0.0, None, abstained=why)

    def reply(self, parts: Message) -> tuple[str, str | None]:
        """The answer, or an empty one and why there is none."""
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to free."""


class Copy(_Control):
    """`control:copy`: words of the passage's sentence that is nearest to the question.

    The sentence is the first by BM25 over the sentences of the passage, so that rare words that
    question and sentence share count most; where they share none, the passage's first. Words of
    the question (a final s or e aside) and English stop words are taken out of it. What is left are
    runs of neighbouring words, which a removed word or a punctuation mark parts; the answer is the
    first three words of the run with the longest word (of equals the longest run, then the first).

    Of a choice it takes the option that has the largest share of its words in the sentence (of
    equals in the passage, then the first); where a number is wanted, the sentence's first one that
    the question does not have (else the passage's). A class cannot be copied.
    """

    name = "copy"
    description = "a script that copies words of the passage, no model"

    def reply(self, parts: Message) -> tuple[str, str | None]:
        """Copied words, a letter or a number."""
        if why := _no_copy(parts):
            return "", why
        passage, question = parts["passage"], parts["content"]
        sentence = _nearest_sentence(passage, question)
        if parts["form"] == "choice":
            shares = [
                (_share_in(option, sentence), _share_in(option, passage))
                for option in parts["choices"]
            ]
            return LETTERS[shares.index(max(shares))], None
        if parts["form"] == "number":
            known = set(numbers(question))
            fresh = (value for text in (sentence, passage) for value in numbers(text))
            if number := next((value for value in fresh if value not in known), None):
                return number, None
        return _few_words(sentence, question), None


@dataclass(frozen=True)
class Majority(_Control):
    """`control:majority`: the commonest answer of the rows that the student was trained on.

    Of a choice the commonest letter (among those of the item), of a class the commonest class, of
    a number the commonest last number, else the commonest completion after normalisation; of
    equals the first in the alphabet. Where none can be read from a completion, the commonest answer
    of the benchmark's worked examples, which are no held-out items; else the first option or
    class, and no answer where one in words or a number is wanted.
    """

    completions: tuple[str, ...]

    name = "majority"

    @cached_property
    def contestant_id(self) -> str:  # type: ignore[override]
        """Hash of the rule's version and of all completions."""
        return make_id("control", self.name, VERSION, sorted(self.completions))

    @property
    def description(self) -> str:
        """Of how many rows it is the commonest answer."""
        rows = format_count(len(self.completions), "training row")
        return f"always the commonest answer of {rows}, no model"

    def reply(self, parts: Message) -> tuple[str, str | None]:
        """The commonest answer in the form that the item wants."""
        form, letters = parts["form"], tuple(LETTERS[: len(parts["choices"])])
        options = {"choice": letters, "class": tuple(parts["classes"])}.get(form, ())
        if (form, options) not in self._trained:
            self._trained[form, options] = _commonest(self.completions, form, options)
        answer = self._trained[form, options] or _commonest(parts["examples"], form, options)
        if answer is None and options:
            answer = options[0]
        return ("", _NOTHING) if answer is None else (answer, None)

    @cached_property
    def _trained(self) -> dict[tuple[str, tuple[str, ...]], str | None]:
        """Form and options -> the commonest answer of the completions."""
        return {}


def _commonest(seen: Sequence[str], form: str, options: tuple[str, ...]) -> str | None:
    """The commonest answer in the texts, as first written in the alphabet; None without any."""
    written: dict[str, list[str]] = {}
    for text in seen:
        if answer := _read(text, form, options):
            written.setdefault(answer, []).append(text.strip() if form == "text" else answer)
    most = max(map(len, written.values()), default=0)
    commonest = min((answer for answer in written if len(written[answer]) == most), default=None)
    return None if commonest is None else min(written[commonest])


def _read(text: str, form: str, options: tuple[str, ...]) -> str | None:
    """The answer in a completion, in the form that an item wants; None where there is none."""
    if not text.strip():
        return None
    if form == "choice":
        return read_choice(text, [""] * len(options))  # the options of its row are not known
    if form == "class":
        return read_class(text, options)
    if form == "number":
        return next(reversed(numbers(text)), None)
    return normalise_answer(text)


def _no_copy(parts: Message) -> str | None:
    if parts["form"] == "class":
        return _NO_CLASS
    return None if parts["passage"] else _NO_PASSAGE


def _nearest_sentence(passage: str, question: str) -> str:
    parts = sentences(passage) or [passage]
    hits = Index(parts).search([question], k=1)[0]
    return parts[hits[0].position if hits else 0]


def _share_in(option: str, text: str) -> float:
    wanted, present = _forms(option), _forms(text)
    return len(wanted & present) / len(wanted) if wanted else 0.0


def _few_words(sentence: str, question: str) -> str:
    """Up to three words of the sentence, none of which is in the question; the sentence itself
    where each of its words is."""
    runs = _runs(sentence, _forms(question) | _stop_words())
    if not runs:
        return sentence
    longest = [(max(map(len, words.words(run)), default=0), len(run)) for run in runs]
    best = runs[longest.index(max(longest))]
    return _EDGES.sub("", " ".join(best.split()[:LONGEST]))


def _runs(sentence: str, gone: frozenset[str]) -> list[str]:
    """Stretches of the sentence between removed words and punctuation marks."""
    runs: list[str] = []
    start: int | None = None
    last = 0
    for begin, end in words.spans(sentence):
        token = sentence[begin:end]
        removed = not (_forms(token) - gone)
        if start is not None and (removed or token.startswith(_OPENING)):
            runs.append(sentence[start:last])
            start = None
        if removed:
            continue
        start, last = begin if start is None else start, end
        if token.endswith(_CLOSING):
            runs.append(sentence[start:last])
            start = None
    if start is not None:
        runs.append(sentence[start:last])
    return runs


def _forms(text: str) -> frozenset[str]:
    """The words of a text without case, plural s and silent e."""
    return frozenset(_stem(word) for word in words.words(words.caseless(text)))


def _stem(word: str) -> str:
    """The word without a plural s and then a silent e, so that "lives" and "live" are one."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


@cache
def _stop_words() -> frozenset[str]:
    from bm25s.stopwords import STOPWORDS_EN  # type: ignore[import-untyped]

    return frozenset(_stem(word) for word in (*STOPWORDS_EN, *_FUNCTION_WORDS))
