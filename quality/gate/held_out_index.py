"""Index held-out items by their words, and look up which ones a text may give away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from quality.gate.dedup import form
from quality.gate.quotations import Quotations, Shared
from quality.gate.rarity import RUN, Rarity
from quality.gate.shared_words import answer_words, bag_of, is_sign, runs_of
from quality.gate.short_questions import ShortQuestions
from quality.tasks.benchmark import Item
from warehouse.text.question_form import is_quotable, stands_at

LONG = 16
"""Words of a question that is looked for within longer texts, as passages are."""
_SPELT = 0.7  # of the least share, in words that are spelt the same
_OFTEN = 20  # texts: a run in more of them leads to no candidate, if there are others
_LOOKED_UP = 4  # runs by which a text is found at least
_SEVERAL = 3  # rows and items: a passage that fewer have is no common one
_MOST = 0.25  # of the rows and of the items: a passage that stands with so many tells nothing
_SHOWN = 80  # characters of the held-out question in a match: its beginning and its end


@dataclass(frozen=True)
class HeldOutItem:
    """A benchmark item in the words by which it is compared."""

    benchmark: str
    item_id: str
    question: tuple[str, ...]
    passage: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    shown: str
    forms: tuple[str, str]  # of question and passage
    texts: tuple[str, str]

    @classmethod
    def of(cls, benchmark: str, item: Item) -> Self:
        """The item of a benchmark."""
        row = item.row
        forms = form(row.prompt), form(row.passage or "")
        return cls(
            benchmark,
            item.item_id,
            tuple(forms[0].split()),
            tuple(forms[1].split()),
            tuple(answer for text in row.reference if (answer := answer_words(text))),
            _shorten(" ".join(row.prompt.encode("utf-8", "replace").decode().split())),
            forms,
            (row.prompt, row.passage or ""),
        )


@dataclass(frozen=True)
class HeldOutText:
    """A held-out question or passage that tells which one it is."""

    item: HeldOutItem
    words: tuple[str, ...]
    is_passage: bool
    weights: list[float]
    total: float
    bag: dict[str, float]
    """The weight of each word, of the place where it tells most."""
    bag_total: float
    signs: tuple[str, ...]
    """Its numbers and signs, in order."""


class Quoted(NamedTuple):
    """What a text may quote."""

    whole: HeldOutText | None
    """One that stands in it word for word."""
    passages: list[HeldOutText]
    """Those that share several runs with it, where none stands in it."""
    long_questions: list[HeldOutText]
    """The same."""


class HeldOutIndex:
    """The benchmark items of a plan, and what of them tells anything among the rows of a run."""

    def __init__(
        self,
        items: Sequence[HeldOutItem],
        share: float,
        rows: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        """Index items; `share` is the least that two short questions have to share.

        Rows are read once and not kept: they may be millions.
        """
        self._share = share
        self._frames = _frame_questions(items)
        asked = _Rows(rows, _common_passages(item.forms for item in items))
        self.rarity = Rarity(asked.words_beside(items))
        self.rarity.forget_texts()
        self._common = asked.common_passages
        self.questions: dict[str, HeldOutItem] = {}
        self.passages: dict[str, HeldOutItem] = {}
        self._texts: list[HeldOutText] = []
        self._quotations = Quotations()
        for item in items:
            self._add(item)

    def _add(self, item: HeldOutItem) -> None:
        question, passage = item.forms
        if question and question not in self._frames and question not in self.questions:
            self.questions[question] = item
            self._index(item, item.question, is_passage=False)
        if passage and passage not in self._common and passage not in self.passages:
            self.passages[passage] = item
            self._index(item, item.passage, is_passage=True)

    def _index(self, item: HeldOutItem, tokens: tuple[str, ...], is_passage: bool) -> None:
        if not tokens:
            return
        repeats = self.rarity.repeats(tokens)
        runs = list(runs_of(tokens))
        often = [max(repeats[n : n + RUN]) for n in range(len(runs))]
        rarest = sorted(range(len(runs)), key=lambda place: often[place])
        weights = self.rarity.weights(tokens)
        bag = bag_of(tokens, self.rarity.lone(tokens))
        number = len(self._texts)
        starts = [
            start
            for place, start in enumerate(rarest)
            if often[start] <= _OFTEN or place < _LOOKED_UP
        ]
        self._quotations.add(
            number, tokens, starts if is_quotable(tokens) else [], rarest[0] if rarest else 0
        )
        self._texts.append(
            HeldOutText(
                item,
                tokens,
                is_passage,
                weights,
                sum(weights),
                bag,
                sum(bag.values()),
                tuple(word for word in tokens if is_sign(word)),
            )
        )

    def find_shared(self, texts: Sequence[Sequence[str]]) -> list[Shared]:
        """What each of some texts, given as its words, shares with held-out ones."""
        return self._quotations.find(texts)

    def find_quoted(self, words: Sequence[str], shared: Shared) -> Quoted:
        """The held-out text that stands in another one word for word; or those that share runs."""
        for number, begin in shared.quoted:
            text = self._texts[number]
            if stands_at(text.words, words, begin):
                return Quoted(text, [], [])
        if not len(shared.alike):
            return Quoted(None, [], [])
        passages, questions = (shared.alike[kind[shared.alike]].tolist() for kind in self._kinds)
        return Quoted(None, [self._texts[n] for n in passages], [self._texts[n] for n in questions])

    @cached_property
    def _kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which texts are passages, and which are long questions."""
        are_passages = np.array([text.is_passage for text in self._texts], dtype=bool)
        are_long = np.array([len(text.words) >= LONG for text in self._texts], dtype=bool)
        return are_passages, are_long & ~are_passages

    def find_short_questions(self, asked: Mapping[str, float]) -> list[HeldOutText]:
        """The short questions that may share enough of their words with those asked, by weight."""
        return [self._short[n] for n in self._short_questions.find(asked)]

    @cached_property
    def _short(self) -> list[HeldOutText]:
        return [text for text in self._texts if not text.is_passage and len(text.words) < LONG]

    @cached_property
    def _short_questions(self) -> ShortQuestions:
        return ShortQuestions([text.bag for text in self._short], self._share, _SPELT)


def telling_texts(
    items: Sequence[HeldOutItem], rows: Iterable[tuple[str, str | None]]
) -> list[tuple[str, str | None]]:
    """Question and passage of each item; blank where a text tells nothing about it among the rows."""
    asked = _Rows(rows, _common_passages(item.forms for item in items))
    if asked.may_be_common:
        asked.read()
    frames, common = _frame_questions(items), asked.common_passages
    return [
        (
            "" if item.forms[0] in frames else item.texts[0],
            None if item.forms[1] in common else item.texts[1] or None,
        )
        for item in items
    ]


def _frame_questions(items: Sequence[HeldOutItem]) -> frozenset[str]:
    """Questions whose answer lies in the passage alone, such as "What is the tone of this review?".

    The held-out items show it: they ask it about several passages, never without one, and no
    answer is right for all. What rows ask shows nothing: with three passages of their own they
    could have a held-out question taken for one.
    """
    asked: defaultdict[str, list[HeldOutItem]] = defaultdict(list)
    for item in items:
        asked[item.forms[0]].append(item)
    return frozenset(
        question
        for question, alike in asked.items()
        if len({item.forms[1] for item in alike}) > 1
        and all(item.forms[1] for item in alike)
        and not frozenset.intersection(*(frozenset(item.answers) for item in alike))
    )


class _Rows:
    """The different rows among which items are looked up, by question and passage."""

    def __init__(
        self, rows: Iterable[tuple[str, str | None]], common_of_items: frozenset[str]
    ) -> None:
        self._rows = rows
        self._had = dict.fromkeys(common_of_items, 0)
        self._count = 0

    def words_beside(self, items: Sequence[HeldOutItem]) -> Iterator[list[str]]:
        """The words of each different question and passage of the items and of the rows."""
        texts: set[int] = set()
        pairs: set[int] = set()

        def words_of(pair: tuple[str, str]) -> Iterator[list[str]]:
            for text in pair:
                if (key := hash(text)) not in texts:
                    texts.add(key)
                    yield text.split()

        for item in items:
            yield from words_of(item.forms)
        for question, passage in self._rows:
            pair = form_of(question), form_of(passage or "")
            if (key := hash(pair)) not in pairs:
                pairs.add(key)
                self._count_row(pair)
                yield from words_of(pair)

    @property
    def may_be_common(self) -> bool:
        """Whether the items have common passages at all."""
        return bool(self._had)

    def read(self) -> None:
        """Go through the rows, for what they have of them."""
        for _ in self.words_beside(()):
            pass

    def _count_row(self, pair: tuple[str, str]) -> None:
        self._count += 1
        if pair[1] in self._had:
            self._had[pair[1]] += 1

    @property
    def common_passages(self) -> frozenset[str]:
        """Those of the items' common passages that a good part of the rows have too."""
        least = max(_SEVERAL, _MOST * self._count)
        return frozenset(passage for passage, count in self._had.items() if count >= least)


def _common_passages(pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Passages that a good part of the items have, such as the rules of a shop."""
    of_items = list(pairs)
    counts = Counter(passage for _, passage in dict.fromkeys(of_items) if passage)
    least = max(_SEVERAL, _MOST * len(of_items))
    return frozenset(passage for passage, count in counts.items() if count >= least)


@lru_cache(4096)
def form_of(text: str) -> str:
    """The form in which a text is compared; a passage comes with several questions."""
    return form(text)


def _shorten(question: str) -> str:
    """A question in one line; of a long one its end too, since those of a template begin alike."""
    if len(question) <= _SHOWN:
        return question
    return f"{question[: _SHOWN // 3]} ... {question[-2 * _SHOWN // 3 + 5 :]}"
