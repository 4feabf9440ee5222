"""Reword the prompts or the answers of given rows, and keep what still means the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.rewritten_rows import TRIES, RewrittenRows
from datagen.same_facts import changed_fact
from datagen.similarity import rouge_l, rouge_tokens
from datagen.wording import Wording
from warehouse.text.words import caseless, contains_tokens, count_words, words

MOST_TIMES_AS_LONG = 3
"""A rewording is at most so many times as long as the original, and the other way round."""


class SameMeaning(BaseModel):
    """Whether one text may stand for another."""

    is_same: bool


@dataclass(frozen=True)
class Paraphrase(RewrittenRows):
    """Prompt or answer of a row -> k rewordings of it that mean the same.

    Meaning is checked twice. Rules: numbers, names and negations are kept, and the rewording is not
    the original again, has a length like it, and does not tell a prompt's answer. Then the teacher
    is asked in both directions, since one text may say more than the other. Rewordings of what a
    student is asked make it robust to wording (Gan and Ng 2019, Improving the Robustness of
    Question Answering Systems to Question Paraphrasing).
    """

    version: ClassVar[str] = "1"

    what: Literal["prompt", "answer"] = "prompt"
    """What is reworded; the other one stays: the row's reference, or the teacher's answer."""
    k: int = 3
    """Rewordings of each row."""
    max_similarity: float = 0.8
    """A rewording whose ROUGE-L with the original or an earlier one is above this is dropped, 0..1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ValueError("k is 1 or more")
        if not 0 < self.max_similarity <= 1:
            raise ValueError("max_similarity is above 0 and at most 1")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """The rewordings; two verdicts for each that keeps the rules; the answer without a reference."""
        return (1, TRIES + self.k * 2 * TRIES + 1)

    def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """An example for each rewording, also for those that were dropped."""
        wording = self.wording(ask.folder)
        if self.what == "answer":
            return self._answers(seed, wording, ask)
        return self._prompts(seed, wording, ask)

    async def _prompts(self, seed: Seed, wording: Wording, ask: Ask) -> AsyncIterator[Example]:
        original, passage = self.question_of(seed), seed.value["passage"]
        facts = {"original": original}
        try:
            rewordings = await self._reword(
                ask, wording.messages("prompt", text=original, number=self.k, passage=passage)
            )
        except Unparsed as error:
            yield Example([], error.raw, status=error.status, reason=str(error), facts=facts)
            return
        faults: list[str | None] = []
        for number, rewording in enumerate(rewordings):
            requests = [
                wording.messages("same_prompt", first=first, second=second, passage=passage)
                for first, second in ((original, rewording), (rewording, original))
            ]
            earlier = [original, *rewordings[:number]]
            if is_copy(rewording, passage):
                faults.append("the rewording is the passage")
            elif _tells_answer(rewording, original, seed.value["reference"]):
                faults.append("the rewording of the prompt has the answer in it")
            else:
                faults.append(await self._fault(rewording, earlier, requests, ask))
        answer, status, reason = await self._answer(seed, ask) if None in faults else ("", "", None)
        for rewording, fault in zip(rewordings, faults, strict=True):
            shown = self.messages_of(seed, rewording)
            if fault:
                yield Example(
                    shown, "", question=rewording, passage=passage,
                    status="invalid", reason=fault, facts=facts,
                )  # fmt: skip
            else:
                yield Example(
                    shown, answer, question=rewording, reference=seed.value["reference"],
                    passage=passage, status=status, reason=reason, facts=facts,
                )  # fmt: skip

    async def _answers(self, seed: Seed, wording: Wording, ask: Ask) -> AsyncIterator[Example]:
        question, shown = self.question_of(seed), self.messages_of(seed)
        original, status, reason = await self._answer(seed, ask)
        if status != "ok":
            yield Example(shown, original, status=status, reason=reason)
            return
        facts = {"original": original}
        try:
            rewordings = await self._reword(
                ask,
                wording.messages("answer", question=question, text=original, number=self.k),
            )
        except Unparsed as error:
            yield Example(shown, error.raw, status=error.status, reason=str(error), facts=facts)
            return
        for number, rewording in enumerate(rewordings):
            requests = [
                wording.messages("same_answer", question=question, first=first, second=second)
                for first, second in ((original, rewording), (rewording, original))
            ]
            earlier = [original, *rewordings[:number]]
            if is_copy(rewording, question, seed.value["passage"]):
                fault: str | None = "the rewording is the question or the passage"
            else:
                fault = await self._fault(rewording, earlier, requests, ask)
            yield Example(
                shown, rewording, question=question, reference=seed.value["reference"],
                passage=seed.value["passage"], status="invalid" if fault else "ok", reason=fault,
                facts=facts,
            )  # fmt: skip

    async def _answer(self, seed: Seed, ask: Ask) -> tuple[str, str, str | None]:
        """(answer to the original, its status, why): the row's reference, else the teacher's."""
        for reference in seed.value["reference"]:
            return str(reference), "ok", None
        reply = await ask(self.messages_of(seed))
        status, reason = status_of(reply)
        if status == "ok" and is_copy(reply.text, self.question_of(seed), seed.value["passage"]):
            status, reason = "invalid", "it is the question or the passage again"
        return reply.text.strip(), status, reason and f"the answer to the original: {reason}"

    async def _reword(self, ask: Ask, messages: list[dict[str, Any]]) -> list[str]:
        texts = {
            "type": "array",
            "items": {"type": "string"},
            "minItems": self.k,
            "maxItems": self.k,
        }
        schema = {
            "type": "object",
            "properties": {"rewordings": texts},
            "required": ["rewordings"],
            "additionalProperties": False,
        }
        reply = await ask.into_json(schema, messages, name="rewordings", tries=TRIES)
        return [text.strip() for text in reply["rewordings"]]

    async def _fault(
        self,
        rewording: str,
        earlier: Sequence[str],
        requests: Sequence[list[dict[str, Any]]],
        ask: Ask,
    ) -> str | None:
        """Why a rewording is dropped: by the rules, else by the teacher's verdict in a direction.

        Args:
            rewording: The text.
            earlier: The original, and the rewordings before it.
            requests: For the verdicts.
            ask: The teacher.
        """
        tokens, original = rouge_tokens(rewording), earlier[0]
        if not tokens:
            return "the rewording has no word"
        if tokens == rouge_tokens(original):
            return "the rewording is the original again"
        if any(rouge_l(rewording, text) > self.max_similarity for text in earlier):
            return (
                "the rewording is too similar to the original or to an earlier one "
                f"(ROUGE-L above {self.max_similarity:g})"
            )
        lengths = sorted((count_words(original), count_words(rewording)))
        if lengths[0] * MOST_TIMES_AS_LONG < lengths[1]:
            return f"the rewording is over {MOST_TIMES_AS_LONG} times as long as the original, or as short"
        if changed := changed_fact(original, rewording, self.language):
            return f"the rewording changes a fact: {changed}"
        for request in requests:
            try:
                verdict = await ask.into(SameMeaning, request, tries=TRIES)
            except Unparsed as fault:
                return f"no verdict on its meaning: {fault}"
            if not verdict.is_same:
                return "the rewording means something else, says the teacher"
        return None


def _tells_answer(rewording: str, original: str, references: Sequence[str]) -> bool:
    """Whether a rewording of a prompt has a right answer in it that the prompt has not."""
    tokens, before = (words(caseless(text)) for text in (rewording, original))
    answers = [words(caseless(reference)) for reference in references]
    return any(
        contains_tokens(tokens, answer) and not contains_tokens(before, answer)
        for answer in answers
    )
