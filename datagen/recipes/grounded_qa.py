"""Build question-answer pairs from passages; each answer is verified to stand in its passage."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, create_model

from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.extraction import extract_facts
from datagen.passage_recipe import Context, PassageRecipe, open_book_messages
from datagen.recipe import Example, Seed
from datagen.wording import Wording
from warehouse.errors import DataError
from warehouse.inputs.rows import find_file, read_rows
from warehouse.records import Message
from warehouse.text.words import caseless, count_words, locate, words

_MOST_TRIES = 3
_REFERS = re.compile(
    r"\b(?:the|this|that)(?: (?:above|given|following|provided))? "
    r"(?:passage|text|paragraph|excerpt|article|extract|document|author|writer|narrator)s?\b"
    r"(?! (?:of|message)\b)"
    r"|\b(?:mentioned|described|stated|listed|given) (?:above|here)\b"
    r"|(?:[这這该該此]|上述|上面的?|以上的?)(?:一?[段篇])?"
    r"(?:文字|文章|文本|段落|短文|课文|課文|文档|文檔|段[话話])"
    r"|(?<![日基根剧劇版])本文(?![化学學明艺藝字献獻])"
    r"|(?<![中英日法德俄语語古作散论論诗詩])文[中里裡](?=[提说說所的，,是有])"
    r"|[根依][据據](?:上面的?|上述|以上|[这這该該此])?(?:[一]?[段篇])?"
    r"(?:上?文(?![献獻化件物])|短文|材料|段落|[资資]料|[内內]容)"
    r"|段落[中里裡]|(?:^|[，,。])作者",
    re.IGNORECASE,
)
"""Words that refer to a passage which the reader does not see; English and Chinese."""


class QaPair(BaseModel):
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class GroundedQa(PassageRecipe):
    """Questions that a passage answers, each with its answer in the passage's own words.

    The teacher is shown a few pairs, drawn anew for each passage, and asked for new ones: task-specific
    imitation as of NQ-Synthetic, which was made from ten seed pairs with five drawn for each call
    (Gudibande et al., The False Promise of Imitating Proprietary LLMs, arXiv 2305.15717, 2023, on
    imitation data sets). Here a passage goes with each call, so that every answer can be checked.
    """

    version: ClassVar[str] = "1"

    pairs: int = 1
    """Pairs asked for in one call, for one passage."""
    book: Literal["open", "closed"] = "open"
    """Whether the student's question holds the passage ("open") or stands alone ("closed")."""
    seed_pairs: str | None = None
    """A file of rows with question, answer and perhaps passage, from which demonstrations are drawn."""
    demonstrations: int = 5
    """Pairs of `seed_pairs` that the teacher is shown, drawn anew for each passage."""
    question_types: list[str] | None = None
    """Kinds of questions in your own words, such as ["who", "when", "how many"]; each comes as often."""
    unanswerable: float = 0.0
    """Share of passages, 0..1, asked for questions that they do not answer; open book alone."""
    max_answer_words: int | None = None
    """A longer answer is marked invalid."""
    context: Context = "passage"
    """What the teacher writes pairs about: the "passage", or an "extract" of facts that it made first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs < 1:
            raise ValueError("pairs is 1 or more")
        if self.demonstrations < 0:
            raise ValueError("demonstrations is 0 or more")
        if not 0 <= self.unanswerable <= 1:
            raise ValueError("unanswerable is a share from 0 to 1")
        if self.unanswerable and self.book == "closed":
            raise ValueError(
                'unanswerable needs book = "open": without the passage nobody can tell such a question'
            )
        if self.question_types is not None and not all(map(str.strip, self.question_types or [""])):
            raise ValueError("question_types is a list of texts; leave it out for any kind")
        if self.max_answer_words is not None and self.max_answer_words < 1:
            raise ValueError("max_answer_words is 1 or more; leave it out for no limit")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """One call, or two where facts are extracted first; each with its tries."""
        calls = 2 if self.context == "extract" else 1
        return (1, calls * _MOST_TRIES)

    def input_files(self, folder: Path) -> list[Path]:
        """The template and the seed pairs."""
        pairs = [find_file(self.seed_pairs, folder)] if self.seed_pairs else []
        return [*super().input_files(folder), *pairs]

    async def prepare(self, folder: Path, ask: Ask) -> dict[str, Any]:
        """Read the seed pairs.

        Raises:
            DataError: they are malformed, have no answer, or are fewer than `demonstrations`.
        """
        found = []
        for row in read_rows(self.seed_pairs, folder) if self.seed_pairs else ():
            if not row.reference:
                raise DataError(f"{row.source} has no answer; a seed pair has prompt and reference")
            found.append(
                {"question": row.prompt, "answer": row.reference[0], "passage": row.passage}
            )
        if self.seed_pairs and len(found) < self.demonstrations:
            raise DataError(
                f"{self.seed_pairs} has {len(found)} pairs, fewer than demonstrations = "
                f"{self.demonstrations}; lower it or add pairs"
            )
        return {"seed_pairs": found}

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """A seed for each passage; what is asked of it is settled here, so that it is balanced."""
        kinds = self.question_types or []
        for order, (text, source, number) in enumerate(self.read_passages(folder)):
            value: dict[str, Any] = {"passage": text}
            before = int(number * self.unanswerable)
            is_unanswerable = int((number + 1) * self.unanswerable) > before
            if kinds:  # balanced among the unanswerable ones and among the others
                first = (before if is_unanswerable else number - before) * self.pairs
                value["types"] = [kinds[(first + n) % len(kinds)] for n in range(self.pairs)]
            if is_unanswerable:
                value["unanswerable"] = True
            yield Seed(value, source, order)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Ask for the pairs of one passage, and check each."""
        wording = self.wording(ask.folder)
        passage, is_unanswerable = seed.value["passage"], "unanswerable" in seed.value
        facts: dict[str, Any] = {}
        shown = passage
        try:
            if self.context == "extract":
                request = wording.messages("facts", passage=passage)
                extraction = await extract_facts(ask, request, passage)
                shown = facts["extract"] = extraction.text
            request = self._request(seed, ask, wording, shown)
            model = (_questions_model if is_unanswerable else _pairs_model)(self.pairs)
            reply: Any = await ask.into(model, request)
        except Unparsed as fault:
            yield Example([], fault.raw, status=fault.status, reason=str(fault), passage=passage)
            return
        if is_unanswerable:
            no_answer = wording.text("not_answered")
            found = [(question.strip(), no_answer) for question in reply.questions]
        else:
            found = [(pair.question.strip(), pair.answer.strip()) for pair in reply.pairs]
        earlier: set[str] = set()
        kinds = seed.value.get("types", [None] * len(found))
        for (question, answer), kind in zip(found, kinds, strict=False):
            span = None if is_unanswerable else locate(passage, answer)
            form = " ".join(words(caseless(question)))
            reason = self._fault(question, answer, is_unanswerable, span)
            if reason is None:
                reason = _copied(question, answer, passage)
            if reason is None and form in earlier:
                reason = "the question came before for this passage"
            if reason is None:
                earlier.add(form)
            told = {"question_type": kind, "answer_span": span and list(span)}
            if is_unanswerable:
                told["unanswerable"] = True
            yield Example(
                open_book_messages(question, passage, self.language)
                if self.book == "open"
                else [{"role": "user", "content": question}],
                answer,
                question,
                [answer],
                passage,
                "ok" if reason is None else "invalid",
                reason,
                facts | {key: value for key, value in told.items() if value is not None},
            )
        if len(found) < self.pairs:
            reason = f"the teacher wrote {len(found)} of {self.pairs} pairs"
            yield Example([], "", status="invalid", reason=reason, passage=passage)

    def _request(self, seed: Seed, ask: Ask, wording: Wording, text: str) -> list[Message]:
        """What the teacher is asked; a demonstration with a passage is a turn before it."""
        asked = {
            "text": text,
            "is_extract": self.context == "extract",
            "pairs": self.pairs,
            "types": seed.value.get("types", []),
            "book": self.book,
        }
        if "unanswerable" in seed.value:
            return wording.messages("ask_unanswerable", **asked)
        pairs = ask.prepared.get("seed_pairs", [])
        drawn = seed.random.sample(pairs, min(self.demonstrations, len(pairs)))
        turns: list[Message] = []
        for pair in drawn:
            if pair["passage"]:
                shown = {"text": pair["passage"], "is_extract": False, "pairs": 1, "types": []}
                turns += wording.messages("ask", **asked | shown, demonstrations=[])
                reply = {"pairs": [{"question": pair["question"], "answer": pair["answer"]}]}
                turns.append(
                    {"role": "assistant", "content": json.dumps(reply, ensure_ascii=False)}
                )
        bare = [pair for pair in drawn if not pair["passage"]]
        return [*turns, *wording.messages("ask", **asked, demonstrations=bare)]

    def _fault(
        self, question: str, answer: str, is_unanswerable: bool, span: tuple[int, int] | None
    ) -> str | None:
        if not words(question):
            return "the question is empty"
        if self.book == "closed" and (match := _REFERS.search(question)):
            return f"the question refers to a passage that is not shown ('{match[0]}')"
        if is_unanswerable:
            return None
        if not answer:
            return "the answer is empty"
        if span is None:
            return "the answer does not stand in the passage"
        number = count_words(answer)
        if self.max_answer_words is not None and number > self.max_answer_words:
            return f"{number} words, more than max_answer_words = {self.max_answer_words}"
        return None


def _copied(question: str, answer: str, passage: str) -> str | None:
    """What of a pair is a copy: a whole passage stands in itself, and answers nothing."""
    if is_copy(question, passage):
        return "the question is the passage again"
    if is_copy(answer, passage):
        return "the answer is the whole passage"
    is_question = words(caseless(answer)) == words(caseless(question))  # however short
    return "the answer is the question again" if is_question else None


@lru_cache(16)
def _pairs_model(most: int) -> type[BaseModel]:
    return create_model("Pairs", pairs=(list[QaPair], Field(min_length=1, max_length=most)))


@lru_cache(16)
def _questions_model(most: int) -> type[BaseModel]:
    return create_model("Questions", questions=(list[str], Field(min_length=1, max_length=most)))
