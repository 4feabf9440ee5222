"""Build verified reasoning: traces are drawn, and kept only where their final answer is right."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

from datagen.ask import Ask
from datagen.final_answers import count_answers, fault_of, final_answer, missing_for
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.row_recipe import RowRecipe, with_system
from datagen.teacher import Reply
from datagen.votes import majority
from warehouse.inputs.rows import Row
from warehouse.records import Message
from warehouse.text.words import count_words


@dataclass(frozen=True)
class Draw:
    """One reply, and what became of it."""

    number: int
    reply: Reply
    trace: str
    status: str
    reason: str | None
    answer: str | None = None
    """The final answer, where the reply is whole and announces one."""


@dataclass(frozen=True)
class Reasoning(RowRecipe):
    """Step-by-step answers of which only those that end in a right answer are kept.

    Each question is asked `k` times, and a trace is trained on if its final answer is that of the
    reference (STaR: Zelikman et al. 2022, section 3.1, without its hints; rejection-sampling
    fine-tuning: Yuan et al. 2023, section 3.3), or that of most draws (self-consistency: Wang et
    al. 2023, section 2). A right answer does not prove that the steps to it are right.
    """

    version: ClassVar[str] = "1"

    check: Literal["reference", "numeric", "choice", "agreement"] = "reference"
    """What makes an answer right: the reference's words, its number, its option, or most draws."""
    k: int = 4
    """Replies per question; more than 1 need a temperature above 0."""
    min_agreement: float = 0.5
    """With check "agreement": the least share of the k draws that must say the same, 0..1."""
    keep: Literal["all", "shortest", "one"] = "all"
    """Which right draws are kept; "one" stops drawing at the first (not with "agreement")."""
    trace: Literal["visible", "reasoning"] = "visible"
    """What is learned: the reply's text, or the thinking that a reasoning model gives beside it."""
    completion: Literal["trace", "answer"] = "trace"
    """What the student learns to say: the steps and the answer, or the answer alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ValueError("k is 1 or more")
        if not 0 <= self.min_agreement <= 1:
            raise ValueError("min_agreement is a share from 0 to 1")
        if self.check == "agreement" and self.k < 2:
            raise ValueError("check 'agreement' compares draws, so k is 2 or more")

    @property
    def draws(self) -> int:
        """Replies to the same question."""
        return self.k

    @property
    def calls_expected(self) -> tuple[int, int]:
        """Every draw, or as many as it takes to the first right one."""
        return (1 if self._stops_early else self.k, self.k)

    @property
    def _stops_early(self) -> bool:
        return self.keep == "one" and self.check != "agreement"

    def why_not_asked(self, seed: Seed) -> str | None:
        """A row without what its check needs."""
        if self.check == "agreement":
            return None
        row = self.row_of(seed)
        return missing_for(self.check, row.reference, row.choices)

    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The instruction to reason and to announce the answer, then the question."""
        return with_system(self._instruction(folder), self.student_question(row, folder))

    def context(self, row: Row, folder: Path) -> list[Message]:
        """The instruction."""
        return [{"role": "system", "content": self._instruction(folder)}]

    def student_question(self, row: Row, folder: Path) -> list[Message]:
        """The row's question; one of choice has its options."""
        return self.question(row, choices=row.choices if self.check == "choice" else ())

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """The draws, those that are kept first."""
        row = self.row_of(seed)
        shown = self.student_question(row, ask.folder)
        if (why := self.why_not_asked(seed)) is not None:
            yield Example(shown, "", status="invalid", reason=why)
            return
        messages = self.ask_first(row, seed.random, ask.folder)
        marker = self.wording(ask.folder).text("marker")
        draws = await self._draw(row, messages, marker, ask)
        counted = count_answers([draw.answer for draw in draws], row.choices)
        votes = Counter(answer for answer in counted if answer is not None)
        if self.check == "agreement":
            draws = self._with_agreement(draws, counted, votes)
        draws = self._with_kept(draws)
        for draw in sorted(draws, key=lambda draw: draw.status != "ok"):
            facts: dict[str, Any] = {
                "draw": draw.number,
                "answer": draw.answer,
                "votes": dict(votes),
            }
            yield Example(
                shown,
                self._completion(draw, marker),
                status=draw.status,
                reason=draw.reason,
                facts=facts,
                call_id=draw.reply.request.call_id,
            )

    def _instruction(self, folder: Path) -> str:
        wording = self.wording(folder)
        return wording.text("system", marker=wording.text("marker"))

    async def _draw(
        self, row: Row, messages: Sequence[Message], marker: str, ask: Ask
    ) -> list[Draw]:
        """Every draw, or those up to the first right one."""
        if not self._stops_early:
            asked = [ask(messages, draw=number) for number in range(self.k)]
            replies = await asyncio.gather(*asked)
            return [self._judged(n, reply, row, marker) for n, reply in enumerate(replies)]
        draws: list[Draw] = []
        while len(draws) < self.k and not any(draw.status == "ok" for draw in draws):
            reply = await ask(messages, draw=len(draws))
            draws.append(self._judged(len(draws), reply, row, marker))
        return draws

    def _judged(self, number: int, reply: Reply, row: Row, marker: str) -> Draw:
        """A draw on its own; whether others agree is not known yet."""
        text = reply.text.strip()
        status, reason = status_of(reply)
        draw = Draw(number, reply, text, status, reason)
        if status != "ok":
            return draw
        answer = final_answer(text, marker)
        if answer is None:
            return replace(draw, status="invalid", reason=f"no answer is announced by '{marker}'")
        draw = replace(draw, answer=answer)
        if self.trace == "reasoning":
            if not (reply.reasoning or "").strip():
                why = "the reply has no reasoning beside its text; use trace = 'visible'"
                return replace(draw, status="invalid", reason=why)
            draw = replace(draw, trace=f"{(reply.reasoning or '').strip()}\n\n{marker} {answer}")
        if self.check != "agreement":
            fault = fault_of(answer, self.check, row.reference, row.choices)
            if fault is not None:
                return replace(draw, status="invalid", reason=fault)
        return draw

    def _with_agreement(
        self, draws: Sequence[Draw], counted: Sequence[str | None], votes: Counter[str]
    ) -> list[Draw]:
        winner, why = majority(votes, len(draws), self.min_agreement)
        return [
            draw
            if draw.status != "ok" or (winner is not None and answer == winner)
            else replace(draw, status="invalid", reason=why or "most draws give another answer")
            for draw, answer in zip(draws, counted, strict=True)
        ]

    def _with_kept(self, draws: Sequence[Draw]) -> list[Draw]:
        """The draws, each text once; right ones that `keep` leaves out are marked."""
        first_of = {draw.trace: draw for draw in reversed(draws)}
        once = sorted(first_of.values(), key=lambda draw: draw.number)
        right = [draw for draw in once if draw.status == "ok"]
        if self.keep == "shortest":
            right.sort(key=lambda draw: count_words(draw.trace))
        if self.keep == "all" and self.completion == "trace":
            return once
        surplus = {draw.number for draw in right[1:]}
        why = "right, but another right draw is kept"
        return [
            replace(draw, status="invalid", reason=why) if draw.number in surplus else draw
            for draw in once
        ]

    def _completion(self, draw: Draw, marker: str) -> str:
        if draw.status == "ok" and self.completion == "answer" and draw.answer:
            return draw.answer
        return draw.trace
