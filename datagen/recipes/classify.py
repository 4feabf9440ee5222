"""Build classification data: the teacher labels texts, with a reason for each label."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.recipe import Example, Seed
from datagen.row_recipe import RowRecipe
from datagen.votes import majority
from datagen.wording import Wording
from warehouse.errors import DataError
from warehouse.inputs.rows import Row
from warehouse.records import Message


@dataclass(frozen=True)
class Vote:
    """What one draw says: a label with its reason, or why there is none."""

    label: str | None
    text: str
    """The reason; of a draw without a label, what it says instead."""
    status: str = "ok"
    fault: str | None = None


@dataclass(frozen=True)
class Classify(RowRecipe):
    """Texts with labels of your own, chosen by the teacher with a reason before each.

    The label is bound to the list by a schema, and the reason comes first, so that it can lead to
    the label instead of excusing it (chain of thought: Wei et al. 2022, section 2). `k` draws vote
    (self-consistency: Wang et al. 2023, section 2), each with the labels in another order, since
    models prefer options by their place (Zheng et al. 2024, section 2).
    """

    version: ClassVar[str] = "1"

    labels: dict[str, str] | list[str] = field(default_factory=list)
    """The labels, two or more: a list, or a table of label = "what it means"."""
    text: Literal["prompt", "passage"] = "prompt"
    """Which column of a row is labelled."""
    k: int = 1
    """Draws per text; their agreement is the confidence in the label."""
    min_agreement: float = 0.5
    """The least share of the k draws that must give the label, 0..1."""
    abstain: bool = False
    """Allow "none of these"; a text of which most draws say so is marked invalid."""
    student_sees: Literal["names", "descriptions", "text"] = "names"
    """What the student's prompt has: the labels, the labels with their meanings, or the text alone."""
    completion: Literal["label", "reasoned"] = "label"
    """What the student learns to say: the label, or the reason and then the label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = list(self.labels)
        if len(names) < 2 or not all(name.strip() for name in names):
            raise ValueError('labels are two or more, such as ["spam", "ham"], none of them empty')
        folded = Counter(name.strip().casefold() for name in names)
        if (twice := folded.most_common(1)[0])[1] > 1:
            raise ValueError(f"label '{twice[0]}' is given twice; letter case makes no other label")
        if self.student_sees == "descriptions" and not isinstance(self.labels, dict):
            raise ValueError('student_sees "descriptions" needs labels = { name = "meaning" }')
        if self.k < 1:
            raise ValueError("k is 1 or more")
        if not 0 <= self.min_agreement <= 1:
            raise ValueError("min_agreement is a share from 0 to 1")

    @property
    def draws(self) -> int:
        """Draws that see the labels in the same order."""
        return math.ceil(self.k / len(self.labels))

    @property
    def calls_expected(self) -> tuple[int, int]:
        """One for each draw, and two more where its JSON is invalid."""
        return (self.k, 3 * self.k)

    def value_of(self, row: Row) -> dict[str, Any]:
        """The text alone: rows with the same text are one seed."""
        return {"text": self._text_of(row)}

    def why_not_asked(self, seed: Seed) -> str | None:
        """A row without the text to label."""
        is_blank = not seed.value["text"].strip()
        return f"the row has no {self.text} to label" if is_blank else None

    def ask_first(self, row: Row, random: Random, folder: Path) -> list[Message]:
        """The first draw's question."""
        return next(self._questions(self._text_of(row), random, self.wording(folder)))

    def student_question(self, row: Row, folder: Path) -> list[Message]:
        """The text with the labels that may be given, in the order of the plan."""
        text = self._text_of(row)
        if self.student_sees == "text":
            return [{"role": "user", "content": text}]
        labels = self._described(list(self.labels), self.student_sees == "descriptions")
        wording = self.wording(folder)
        none = self._none(wording)
        return wording.messages("student", text=text, labels=labels, abstain=none)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """One example: the label that most draws give."""
        assert seed.prompt is not None
        shown, text = seed.prompt.student_messages, seed.value["text"]
        if (why := self.why_not_asked(seed)) is not None:
            yield Example(shown, "", status="invalid", reason=why)
            return
        wording = self.wording(ask.folder)
        none = self._none(wording)
        questions = list(self._questions(text, seed.random, wording))
        votes = await asyncio.gather(
            *(
                self._vote(question, none, number, text, ask)
                for number, question in enumerate(questions)
            )
        )
        counted = Counter(vote.label for vote in votes if vote.label is not None)
        winner, why = majority(counted, self.k, self.min_agreement)
        agreement = max(counted.values(), default=0) / self.k
        facts: dict[str, Any] = {"votes": dict(counted), "agreement": agreement}
        if not counted:
            first = votes[0]
            yield Example(shown, first.text, status=first.status, reason=first.fault, facts=facts)
        elif winner is None:
            yield Example(shown, "", status="invalid", reason=why, facts=facts)
        elif self.abstain and winner == none:
            why = f"abstained: {counted[none]} of {self.k} draws say that no label fits"
            yield Example(shown, winner, status="invalid", reason=why, facts=facts)
        else:
            vote = next(vote for vote in votes if vote.label == winner)
            completion = winner
            if self.completion == "reasoned":
                completion = wording.text("completion", label=winner, reason=vote.text)
            yield Example(shown, completion, facts={**facts, "reason": vote.text})

    async def _vote(
        self, question: list[Message], none: str, number: int, text: str, ask: Ask
    ) -> Vote:
        try:
            given = await ask.into_json(
                self._schema(none), question, name="label", draw=number, check=_fault_of
            )
        except Unparsed as fault:
            return Vote(None, fault.raw, fault.status, str(fault))
        reason = given["reason"].strip()
        if is_copy(reason, text):  # no fault to be answered: another call would have to be paid for
            return Vote(
                None,
                json.dumps(given, ensure_ascii=False),
                "invalid",
                "the reason is the text again",
            )
        return Vote(given["label"], reason)

    def _none(self, wording: Wording) -> str:
        """What stands for no label; empty where that may not be said.

        Raises:
            DataError: a label says the same.
        """
        none = wording.text("abstain") if self.abstain else ""
        if none in self.labels:
            raise DataError(
                f"label '{none}' is also what an abstaining teacher says; rename the label, or give "
                "another block 'abstain' in a template of your own"
            )
        return none

    def _questions(self, text: str, random: Random, wording: Wording) -> Iterator[list[Message]]:
        """What each draw is asked: a shuffled order of the labels, turned by one place each time."""
        order = sorted(self.labels)  # the order of a plan's table is in no id
        random.shuffle(order)
        for number in range(self.k):
            turn = number % len(order)
            labels = self._described([*order[turn:], *order[:turn]])
            yield wording.messages("ask", text=text, labels=labels, abstain=self._none(wording))

    def _described(self, names: Sequence[str], described: bool = True) -> list[dict[str, str]]:
        meanings: Mapping[str, str] = self.labels if isinstance(self.labels, dict) else {}
        return [
            {"name": name, "description": meanings.get(name, "") if described else ""}
            for name in names
        ]

    def _schema(self, none: str) -> dict[str, Any]:
        labels = [*sorted(self.labels), *([none] if none else [])]
        properties = {
            "reason": {"type": "string"},
            "label": {"type": "string", "enum": labels},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def _text_of(self, row: Row) -> str:
        return (row.passage or "") if self.text == "passage" else row.prompt


def _fault_of(given: dict[str, Any]) -> str | None:
    return None if given["reason"].strip() else "the reason is empty"
