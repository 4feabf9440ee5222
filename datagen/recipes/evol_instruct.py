"""Evolve given prompts into deeper and broader ones, generation by generation, and answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.phrases import find_phrase, has_words_beside, phrases_in
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.rewritten_rows import TRIES, RewrittenRows
from datagen.similarity import rouge_tokens
from datagen.teacher import Reply
from datagen.wording import Wording
from warehouse.text.words import count_words
from warehouse.wording import did_you_mean

DEFAULT_OPERATIONS = ("add_constraints", "deepen", "concretise", "add_reasoning", "broaden")
OPERATIONS = (*DEFAULT_OPERATIONS, "complicate_input")
BROADEN = "broaden"
SHORT_REPLY = 80
"""Words of an answer below which an apology means that the teacher could not do it."""


class Gain(BaseModel):
    """Whether an evolved prompt is worth more than its parent."""

    adds_something: bool


@dataclass(frozen=True)
class EvolInstruct(RewrittenRows):
    """Prompt -> a harder or a rarer prompt -> ..., each answered by the teacher.

    Evol-Instruct (Xu et al. 2023, WizardLM, section 3.2): in each generation an operation drawn by
    chance rewrites the prompt in depth (a constraint, deepening, a concrete term, more steps of
    reasoning, data to work on) or writes another one in breadth. A failed evolution is eliminated,
    and the next generation starts from its parent again with another operation. It has failed where
    the teacher says that it adds nothing, where it repeats words of the request, and where its
    answer is a short apology or has no word of content.
    """

    version: ClassVar[str] = "1"

    generations: int = 4
    """Evolutions of each prompt, one after the other."""
    operations: list[str] | None = None
    """Drawn with equal chances. Unset: all but complicate_input."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generations < 1:
            raise ValueError("generations is 1 or more")
        if self.operations is not None and not self.operations:
            raise ValueError(f"operations names one or more of {', '.join(OPERATIONS)}")
        for name in self.operations or ():
            if name not in OPERATIONS:
                raise ValueError(f"unknown operation '{name}' ({did_you_mean(name, OPERATIONS)})")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """An evolution that fails at once is one call; else it is judged and answered."""
        return (self.generations, self.generations * (1 + TRIES + 1))

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """An example for each generation, also where its evolution failed."""
        wording = self.wording(ask.folder)
        parent = self.question_of(seed)
        tried: list[str] = []  # operations on this parent
        for generation in range(self.generations):
            operation = self._draw(seed, tried)
            facts = {"operation": operation, "generation": generation + 1, "parent": parent}
            request = self._request(operation, parent, seed, wording)
            rewritten = await ask(request, draw=tried.count(operation))
            tried.append(operation)
            prompt = rewritten.text.strip()
            evolved = Example(
                self.messages_of(seed, prompt),
                "",
                question=prompt,
                passage=seed.value["passage"],
                facts=facts,
            )
            status, reason = status_of(rewritten)
            if status == "ok" and (why := self._fault(prompt, parent, wording)):
                status, reason = "invalid", why
            if status != "ok":
                yield replace(evolved, status=status, reason=f"the evolved prompt: {reason}")
                continue
            try:
                messages = wording.messages("gain", parent=parent, prompt=prompt)
                gain = await ask.into(Gain, messages, tries=TRIES)
            except Unparsed as fault:
                yield replace(evolved, completion=fault.raw, status=fault.status, reason=str(fault))
                continue
            if not gain.adds_something:
                why = "the evolved prompt adds nothing to its parent, says the teacher"
                yield replace(evolved, status="invalid", reason=why)
                continue
            reply = await ask(evolved.messages)
            status, reason = self._status_of(reply, wording)
            made = replace(evolved, completion=reply.text.strip(), status=status, reason=reason)
            if status == "ok":
                parent, tried = prompt, []
                if is_copy(made.completion, prompt):  # the prompt may be evolved on nevertheless
                    made = replace(made, status="invalid", reason="the answer is the prompt again")
            yield made

    def _draw(self, seed: Seed, tried: list[str]) -> str:
        """An operation by chance; one that failed on this parent comes after all others."""
        allowed = list(dict.fromkeys(self.operations or DEFAULT_OPERATIONS))
        fewest = min(map(tried.count, allowed))
        return seed.random.choice([name for name in allowed if tried.count(name) == fewest])

    def _request(self, operation: str, parent: str, seed: Seed, wording: Wording) -> list[Any]:
        passage = seed.value["passage"]
        if operation == BROADEN:
            return wording.messages(BROADEN, prompt=parent, passage=passage)
        how = wording.text(operation)
        return wording.messages("rewrite", prompt=parent, passage=passage, how=how)

    def _fault(self, prompt: str, parent: str, wording: Wording) -> str | None:
        """Why an evolved prompt is a failure that needs no judge."""
        if not has_words_beside(prompt, phrases_in(wording, "stop_words")):
            return "it has no word of content"
        if rouge_tokens(prompt) == rouge_tokens(parent):
            return "it is its parent again"
        leaks = [p for p in phrases_in(wording, "leaks") if not find_phrase(parent, [p])]
        if phrase := find_phrase(prompt, leaks):
            return f"it repeats words of the request ('{phrase}')"
        return None

    def _status_of(self, reply: Reply, wording: Wording) -> tuple[str, str | None]:
        status, reason = status_of(reply)
        if status != "ok":
            return status, reason
        is_short = count_words(reply.text) < SHORT_REPLY
        if is_short and find_phrase(reply.text, phrases_in(wording, "apologies")):
            return "refused", f"the answer apologises in fewer than {SHORT_REPLY} words"
        if not has_words_beside(reply.text, phrases_in(wording, "stop_words")):
            return "invalid", "the answer has no word of content"
        return "ok", None
