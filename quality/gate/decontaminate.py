"""Decide which training samples give a held-out item away, and how.

After Brown et al. (2020, Language Models are Few-Shot Learners, appendix C: n-gram overlap) and
Lambert et al. (2024, Tulu 3, section 3.2: the share of a question's tokens that lie in a shared
8-gram). Words are weighed by their rarity among the rows and the held-out items
(`quality.gate.rarity`), so that the wording of a template gives nothing away, and runs are short,
so that a quotation with small edits is still found. Precise rather than broad: two questions of
one subject share many words, so an overlap counts only where the answer is the same too, or where
next to nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from quality.gate.held_out_index import HeldOutIndex, HeldOutItem, HeldOutText, form_of
from quality.gate.quotations import Shared
from quality.gate.shared_words import (
    answer_words,
    find_densest_share,
    has_same_answer,
    is_in_order,
    is_sign,
    is_typo,
)
from quality.gate.text_cover import Cover, TextWords
from warehouse.records import Prompt, Sample, make_id
from warehouse.text.question_form import VERSION as FORM_VERSION
from warehouse.tool_calls import text_of

Kind = Literal["question", "passage", "quoted", "overlap"]

VERSION = "3"  # of the rules; a change makes the gate decide again
_ALONE = 0.95  # so large an overlap needs no equal answer
_NEARLY = 0.85  # share of a text that is next to all of it
_PART = 0.6  # least share of a passage, or of the stretch that quotes a good part of one
_EVIDENCE = 4.0  # rare words that are enough evidence, of long texts
_EVIDENCE_SHORT = 2.0  # of short questions
_EVIDENCE_ALONE = 20.0  # of a long question without an equal answer
_FEWEST = 8  # words of a quotation with edits: fewer may stand in a text by chance
_TELLING = 0.3  # what a word tells by itself from here on makes another question
_SHARED = 5  # words in a match


class Decontaminate(BaseModel):
    """`[quality] decontaminate`: what is too like a held-out item, beside what is equal to one."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    ngrams: int = Field(default=3, ge=2)
    """Words of a run that two texts must share to be compared, if they are no short questions."""
    share: float = Field(default=0.7, gt=0, le=1)
    """Least share of a held-out question that must be found in another one, by rarity of words."""
    answer: bool = True
    """An overlap counts only with the same answer, or where next to nothing differs."""


@dataclass(frozen=True)
class Match:
    """The held-out item that a sample gives away, and how.

    `question` and `passage`: the same text; `quoted`: one of them stands in the sample, word for
    word (share 1) or with small edits; `overlap`: much of the question does.
    """

    kind: Kind
    benchmark: str
    item_id: str
    share: float  # of the held-out question or passage, by rarity of words, 0..1
    shown: str  # how the held-out question begins
    shared: list[str]  # the rarest words that both have

    def as_json(self) -> dict[str, Any]:
        """The match as plain values."""
        return asdict(self)


class _LookedUp(NamedTuple):
    """A row in the forms by which it is compared."""

    question: str
    passage: str
    texts: tuple[str, ...]
    """All but the question, each once, in which an item may be quoted."""
    answers: tuple[str, ...]
    """Its completion and references, as they are."""

    @classmethod
    def of(
        cls,
        question: str,
        passage: str,
        completion: str,
        reference: Sequence[str],
        others: Sequence[str],
    ) -> _LookedUp:
        asked, read = form_of(question), form_of(passage)
        texts = dict.fromkeys((read, *map(form_of, dict.fromkeys((completion, *others)))))
        texts.pop(asked, None)
        return cls(asked, read, tuple(texts), (completion, *reference))


class _Overlap(NamedTuple):
    """What another question has of a held-out one."""

    share: float
    alone: bool
    """Whether it counts without an equal answer."""
    shared: list[str]


def digest_of(items: Iterable[HeldOutItem], options: Decontaminate) -> str:
    """Hash of the rules, the items, in any order, and the options."""
    content = sorted([i.benchmark, i.item_id, *i.forms, i.answers] for i in items)
    return make_id(VERSION, FORM_VERSION, content, options.model_dump())


class HeldOut:
    """The benchmark items of a plan. Looking a sample up costs as much as the sample is long."""

    def __init__(
        self,
        items: Sequence[HeldOutItem],
        options: Decontaminate,
        rows: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        """Index the items of all benchmarks.

        `rows` are question and passage of all that may be looked up: what they share is common.
        """
        self.options = options
        self._index = HeldOutIndex(items, options.share, rows)

    def match(self, samples: Sequence[Sample]) -> list[Match | None]:
        """The held-out item that each of some samples gives away, if there is one; see `match_text`."""
        return self._match_all(
            [
                _LookedUp.of(
                    question=question_of(sample),
                    passage=sample.passage or "",
                    completion=sample.completion,
                    reference=sample.reference,
                    others=[text_of(message) for message in sample.messages],
                )
                for sample in samples
            ]
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

        An equal question or passage always matches, whatever the options, unless it tells
        nothing: a question that the items ask about several passages with different answers, a
        passage that most rows have.
        `others` are texts in which one may be quoted.
        """
        return self._match_all([_LookedUp.of(question, passage, completion, reference, others)])[0]

    def _match_all(self, rows: Sequence[_LookedUp]) -> list[Match | None]:
        equal = [self._equal(row) for row in rows]
        unequal = [row for row, match in zip(rows, equal, strict=True) if match is None]
        texts = list(dict.fromkeys(text for row in unequal for text in (*row.texts, row.question)))
        words = [text.split() for text in texts]
        shared = dict(zip(texts, self._index.find_shared(words), strict=True))
        return [match or self._find(row, shared) for row, match in zip(rows, equal, strict=True)]

    def _equal(self, row: _LookedUp) -> Match | None:
        if item := self._index.questions.get(row.question):
            return self._match("question", item, item.question)
        if item := self._index.passages.get(row.passage):
            return self._match("passage", item, item.passage)
        return None

    def _find(self, row: _LookedUp, shared: Mapping[str, Shared]) -> Match | None:
        """The item that is quoted in one of a row's texts, or whose question is much like its own."""
        for text in row.texts:
            if match := self._quoted(self._tokens(text), shared[text]):
                return match
        tokens = self._tokens(row.question)
        return self._quoted(tokens, shared[row.question]) or self._overlap(tokens, row.answers)

    def _tokens(self, form: str) -> TextWords:
        return TextWords(form, self._index.rarity)

    def _match(
        self, kind: Kind, item: HeldOutItem, shared: Sequence[str], share: float = 1.0
    ) -> Match:
        telling = dict(zip(shared, self._index.rarity.weights(shared), strict=True))
        rarest = sorted(telling, key=lambda word: -telling[word])[:_SHARED]
        return Match(kind, item.benchmark, item.item_id, round(share, 4), item.shown, rarest)

    def _quoted(self, tokens: TextWords, shared: Shared) -> Match | None:
        """The held-out text that is quoted: any word for word, a passage also with edits or in part."""
        found = self._index.find_quoted(tokens.words, shared)
        if found.whole is not None:
            return self._match("quoted", found.whole.item, found.whole.words)
        tokens.candidates = found.long_questions
        best: tuple[float, HeldOutText, Cover] | None = None
        for text in found.passages:
            cover = tokens.find_cover(text, self.options.ngrams)
            share = self._share_of_passage(text, tokens, cover)
            if share and (best is None or share > best[0]):
                best = share, text, cover
        if best is None:
            return None
        share, text, cover = best
        return self._match("quoted", text.item, [text.words[n] for n in cover.held], share)

    def _share_of_passage(self, text: HeldOutText, tokens: TextWords, cover: Cover) -> float:
        """How much of a passage is quoted, or of the stretch that quotes from it; 0: too little."""
        share, _ = _share_in_runs(text, tokens, cover)
        if _PART / 2 < share < _PART:
            share = find_densest_share(cover.other, tokens.weights)
        return share if share >= _PART else 0.0

    def _overlap(self, tokens: TextWords, answers: Sequence[str]) -> Match | None:
        """The question of which much stands in this one, with the same answer or by itself.

        By words: the weighted Jaccard similarity, so that a long text does not match by having
        many words. By runs, where the held-out question is long: the share of its words in shared
        runs. Numbers and signs must be the same, in order: with others it is another question.
        """
        compared = [
            (text, self._compare_words(text, tokens))
            for text in self._index.find_short_questions(tokens.bag)
        ]
        compared += [
            (text, self._compare_runs(text, tokens))
            for text in tokens.candidates
            if len(text.words) >= 2 * self.options.ngrams
        ]
        signs = [word for word in tokens.words if is_sign(word)] if compared else []
        said: list[tuple[str, ...]] | None = None
        for text, (share, alone, shared) in sorted(compared, key=lambda pair: -pair[1][0]):
            if share < self.options.share or not is_in_order(text.signs, signs):
                continue
            said = said or [answer_words(answer) for answer in answers]
            if alone or not self.options.answer or has_same_answer(said, text.item.answers):
                return self._match("overlap", text.item, shared, share)
        return None

    def _compare_words(self, text: HeldOutText, tokens: TextWords) -> _Overlap:
        bag = tokens.bag
        shared = [word for word in text.bag if word in bag]
        missing = [word for word in text.bag if word not in bag]
        new = [word for word in bag if word not in text.bag]
        evidence = sum(text.bag[word] for word in shared)
        differing = [*missing, *new]
        for word in missing:
            typo = next((other for other in new if is_typo(word, other)), None)
            if typo is not None:
                evidence += text.bag[word]
                new.remove(typo)
        share = evidence / (text.bag_total + sum(bag[word] for word in new))
        alone = (
            share >= _ALONE and max(self._index.rarity.telling(differing), default=0.0) < _TELLING
        )
        if evidence < _EVIDENCE_SHORT and not alone:
            is_edited = share >= _NEARLY and not tokens.has_usual(new)
            share = share if is_edited else 0.0
        return _Overlap(share, alone, shared)

    def _compare_runs(self, text: HeldOutText, tokens: TextWords) -> _Overlap:
        cover = tokens.find_cover(text, self.options.ngrams)
        share, evidence = _share_in_runs(text, tokens, cover)
        alone = share >= _ALONE or (share >= _NEARLY and evidence >= _EVIDENCE_ALONE)
        return _Overlap(share, alone, [text.words[n] for n in cover.held])


def question_of(row: Sample | Prompt) -> str:
    """What a sample or a prompt asks: its question, or its last message."""
    return row.question or str(row.messages[-1]["content"])


def _share_in_runs(text: HeldOutText, tokens: TextWords, cover: Cover) -> tuple[float, float]:
    """The share of a text that is found in runs, and the evidence for it.

    The share is 0 for a few words, and for little evidence or the wording of a template, unless
    nearly the whole text is found and nothing else stands in its place.
    """
    evidence = sum(text.weights[n] for n in cover.held)
    share = evidence / text.total
    is_weak = len(cover.held) < _FEWEST or (
        (evidence < _EVIDENCE or tokens.is_template(cover))
        and (share < _NEARLY or tokens.varies(text, cover))
    )
    return 0.0 if is_weak else share, evidence
