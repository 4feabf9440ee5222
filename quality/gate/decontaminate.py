"""Index held-out items and find them among training samples.

After Brown et al. (2020, Language Models are Few-Shot Learners, appendix C: n-gram overlap) and
Lambert et al. (2024, Tulu 3, section 3.2: the share of a question's tokens that lie in a shared
8-gram). Precise rather than broad: two questions of one subject share many words, so an overlap
counts only where the answer is the same too, or where next to nothing differs.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from quality.gate.dedup import form, words
from quality.tasks.benchmark import Item
from warehouse.records import Sample, make_id

Kind = Literal["question", "passage", "quoted", "overlap"]

_QUOTED = 5  # words: a shorter text may stand in a passage by chance
_ALONE = 0.95  # so large an overlap needs no equal answer
_SHOWN = 80  # characters of the held-out question in a match
_ARTICLES = frozenset(("a", "an", "the"))
_SAYS_LITTLE = frozenset(("yes", "no", "true", "false", *"abcdefghijklmnopqrstuvwxyz"))


class Decontaminate(BaseModel):
    """`[quality] decontaminate`: what is too like a held-out item, beside what is equal to one."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    ngrams: int = Field(default=8, ge=2)
    """Words of a run that two questions must share; shorter questions are compared word by word."""
    share: float = Field(default=0.7, gt=0, le=1)
    """Least share of a held-out question that must be found in another one."""
    answer: bool = True
    """An overlap counts only with the same answer, or from a share of 0.95."""


@dataclass(frozen=True)
class Match:
    """The held-out item that a sample gives away, and how.

    `question` and `passage`: the same text; `quoted`: one of them stands word for word in the
    sample; `overlap`: much of the question does.
    """

    kind: Kind
    benchmark: str
    item_id: str
    share: float  # of the held-out question, 0..1
    shown: str  # how the held-out question begins

    def as_json(self) -> dict[str, Any]:
        """The match as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Entry:
    benchmark: str
    item_id: str
    question: str
    passage: str
    tokens: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    shown: str
    bag: frozenset[str] = field(init=False)
    numbers: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bag", frozenset(self.tokens))
        numbers = frozenset(word for word in self.tokens if not word.isalpha())
        object.__setattr__(self, "numbers", numbers)

    @classmethod
    def of(cls, benchmark: str, item: Item) -> Self:
        row = item.row
        return cls(
            benchmark,
            item.item_id,
            form(row.prompt),
            form(row.passage or ""),
            tuple(words(row.prompt)),
            tuple(answer for text in row.reference if (answer := _answer(text))),
            " ".join(row.prompt.encode("utf-8", "replace").decode().split())[:_SHOWN],
        )

    def match(self, kind: Kind, share: float = 1.0) -> Match:
        return Match(kind, self.benchmark, self.item_id, round(share, 4), self.shown)


_Quotable = tuple[tuple[str, ...], _Entry]
"""The words of a question or a passage, and whose they are."""


class HeldOut:
    """The benchmark items of a plan. Looking a sample up costs as much as the sample is long."""

    def __init__(self, entries: Sequence[_Entry], options: Decontaminate) -> None:
        """Index the entries; use `HeldOut.of`."""
        self.entries = entries
        self.options = options
        self.questions: dict[str, _Entry] = {}
        self.passages: dict[str, _Entry] = {}
        self.openings: defaultdict[tuple[str, ...], list[_Quotable]] = defaultdict(list)
        self.runs: defaultdict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self.rare: defaultdict[str, list[int]] = defaultdict(list)
        usual = Counter(word for entry in entries for word in entry.bag)
        for number, entry in enumerate(entries):
            if entry.question:
                self.questions.setdefault(entry.question, entry)
            if entry.passage:
                self.passages.setdefault(entry.passage, entry)
            for tokens in (entry.tokens, tuple(words(entry.passage))):
                if len(tokens) >= _QUOTED:
                    self.openings[tokens[:_QUOTED]].append((tokens, entry))
            if len(entry.tokens) >= 2 * options.ngrams:
                for start, run in enumerate(_runs(entry.tokens, options.ngrams)):
                    self.runs[run].append((number, start))
            # Whoever shares enough words with the question shares one of its rarest ones
            # (prefix filtering, Chaudhuri et al., 2006).
            rarest = sorted(entry.bag, key=lambda word: (usual[word], word))
            least = math.ceil(options.share * len(rarest) - 1e-9)
            for word in rarest[: len(rarest) - least + 1]:
                self.rare[word].append(number)
        content = sorted(
            [e.benchmark, e.item_id, e.question, e.passage, e.answers] for e in entries
        )
        self.digest = make_id(content, options.model_dump())
        """Hash of the items, in any order, and the options."""

    @classmethod
    def of(cls, items: Iterable[tuple[str, Item]], options: Decontaminate | None = None) -> HeldOut:
        """Take up (benchmark, item) pairs of all benchmarks."""
        return cls([_Entry.of(*pair) for pair in items], options or Decontaminate())

    def match(self, sample: Sample) -> Match | None:
        """The held-out item that a sample gives away, if there is one; see `match_text`."""
        return self.match_text(
            question=sample.question or str(sample.messages[-1]["content"]),
            passage=sample.passage or "",
            completion=sample.completion,
            reference=sample.reference,
            others=[str(message["content"]) for message in sample.messages],
        )

    def match_text(
        self,
        question: str,
        passage: str = "",
        completion: str = "",
        reference: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> Match | None:
        """The held-out item that a question with its answer gives away, if there is one.

        An equal question or passage always matches, whatever the options. `others` are texts in
        which one may be quoted.
        """
        if entry := self.questions.get(form(question)):
            return entry.match("question")
        if passage and (entry := self.passages.get(form(passage))):
            return entry.match("passage")
        question_words = tuple(words(question))
        for text in dict.fromkeys((passage, completion, *others)):
            if entry := self._quoted(tuple(words(text))):
                return entry.match("quoted")
        if entry := self._quoted(question_words):
            return entry.match("quoted")
        shares = self._shares(question_words)
        if not shares:
            return None
        answers = [_answer(text) for text in (completion, *reference)]
        for number, share in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])):
            entry = self.entries[number]
            if share < self.options.share:
                break
            if share >= _ALONE or not self.options.answer or _same_answer(answers, entry.answers):
                return entry.match("overlap", share)
        return None

    def _quoted(self, tokens: tuple[str, ...]) -> _Entry | None:
        for start, opening in enumerate(_runs(tokens, _QUOTED)):
            for quoted, entry in self.openings.get(opening, ()):
                if tokens[start : start + len(quoted)] == quoted:
                    return entry
        return None

    def _shares(self, question_words: tuple[str, ...]) -> dict[int, float]:
        """How much of each held-out question stands in this one; some that share little are left out.

        By words: the Jaccard similarity, so that a long text does not match by having many words.
        By runs, where the held-out question is long: the share of its words in shared runs.
        Every number of the held-out question must be there: with others it is another question.
        """
        bag = frozenset(question_words)
        shares: dict[int, float] = {}
        for number in {number for word in bag for number in self.rare.get(word, ())}:
            entry = self.entries[number]
            shares[number] = len(bag & entry.bag) / len(bag | entry.bag)
        covered: defaultdict[int, set[int]] = defaultdict(set)
        for run in _runs(question_words, self.options.ngrams):
            for number, start in self.runs.get(run, ()):
                covered[number].update(range(start, start + self.options.ngrams))
        for number, places in covered.items():
            by_runs = len(places) / len(self.entries[number].tokens)
            shares[number] = max(shares.get(number, 0.0), by_runs)
        return {n: share for n, share in shares.items() if self.entries[n].numbers <= bag}


def _runs(tokens: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (tokens[n : n + length] for n in range(len(tokens) - length + 1))


def _answer(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word not in _ARTICLES)


def _same_answer(answers: Iterable[tuple[str, ...]], wanted: Iterable[tuple[str, ...]]) -> bool:
    """Whether something that was said equals or contains a reference that tells anything.

    "Yes" and a letter tell nothing: half of all questions have that answer.
    """
    telling = {answer for answer in wanted if len(answer) > 1 or answer[0] not in _SAYS_LITTLE}
    return any(
        run == answer for text in answers for answer in telling for run in _runs(text, len(answer))
    )
