"""Build revised answers: the teacher drafts, criticises its draft by principles, and revises it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

from datagen.ask import Ask
from datagen.copies import is_copy
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.row_recipe import RowRecipe
from datagen.teacher import Reply
from warehouse.inputs.rows import Row
from warehouse.records import Message


@dataclass(frozen=True)
class Critique(RowRecipe):
    """A draft, a critique of it by your principles, and a revision, which the student learns.

    The supervised stage of Constitutional AI (Bai et al. 2022, section 3.1), with the draft kept as
    the rejected reply of a pair (objective `preference` with rejected = "recipe"). Rounds without
    training are Self-Refine (Madaan et al. 2023, section 2).
    """

    version: ClassVar[str] = "1"

    constitution: list[str] = field(default_factory=list)
    """The principles that a reply should keep, one or more: ["It should be short.", ...]."""
    principles: Literal["one", "all"] = "one"
    """What a round looks at: one principle, another in each round while there are some, or all."""
    rounds: int = 1
    """Critiques, each followed by a revision."""
    student_sees_passage: bool = True
    """Whether the student's question holds the passage too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.constitution or not all(text.strip() for text in self.constitution):
            raise ValueError(
                'constitution is a list of one or more principles, such as ["It should be short."]'
            )
        if self.rounds < 1:
            raise ValueError("rounds is 1 or more")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """The draft alone where it cannot be used, else a critique and a revision in each round."""
        return (1, 1 + 2 * self.rounds)

    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The question alone: the draft is an answer like any other."""
        return self.question(row)

    def student_question(self, row: Row, folder: Path) -> list[Message]:
        """The question alone."""
        return self.question(row, self.student_sees_passage)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """One example: the last revision; what came before it is among the facts."""
        assert seed.prompt is not None
        shown = seed.prompt.student_messages
        wording = self.wording(ask.folder)
        question = self.question(self.row_of(seed))
        drawn = seed.random.sample(self.constitution, len(self.constitution))
        facts: dict[str, Any] = {"critiques": [], "principles": []}

        def example(reply: Reply, what: str) -> Example:
            status, reason = status_of(reply)
            if reason is not None:
                reason = f"{what}: {reason}"
            text = reply.text.strip()
            return Example(shown, text, status=status, reason=reason, facts=facts)

        reply = await ask(question)
        made = example(reply, "the draft")
        draft = facts["draft"] = made.completion
        for number in range(self.rounds):
            if made.status != "ok":
                break
            principles = self.constitution
            if self.principles == "one":
                principles = [drawn[number % len(drawn)]]
            answered = [*question, {"role": "assistant", "content": made.completion}]
            critique_asked = wording.messages("critique", principles=principles)
            reply = await ask([*answered, *critique_asked])
            criticised = example(reply, f"critique {number + 1}")
            if criticised.status != "ok":
                made = criticised
                break
            facts["principles"].append(principles)
            facts["critiques"].append(criticised.completion)
            said = {"role": "assistant", "content": criticised.completion}
            revision_asked = wording.messages("revise", principles=principles)
            reply = await ask([*answered, *critique_asked, said, *revision_asked])
            made = example(reply, f"revision {number + 1}")
            echoed = [criticised.completion, *principles]
            if made.status == "ok" and any(made.completion.split() == e.split() for e in echoed):
                why = f"revision {number + 1}: it repeats the critique or a principle"
                made = replace(made, status="invalid", reason=why)
        if made.status == "ok" and is_copy(
            made.completion, seed.prompt.question, seed.prompt.passage
        ):
            why = "the answer is the question or the passage again"
            made = replace(made, status="invalid", reason=why)
        if made.status == "ok" and made.completion.split() != draft.split():
            facts["rejected"] = draft
        yield made
