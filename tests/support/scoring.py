"""A fake language model for scorers that ask one, and samples for them to score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from quality.conformance import sample_of
from quality.scoring.scorer import Question
from warehouse.records import Sample


class FakeAsk:
    """Answers each question by a rule and keeps what it was asked, call by call."""

    def __init__(self, rule: Callable[[Question], Any], name: str = "fake model") -> None:
        self.rule, self.name = rule, name
        self.calls: list[list[Question]] = []

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """The replies; a dict becomes JSON."""
        self.calls.append(list(questions))
        replies = [self.rule(question) for question in questions]
        return [json.dumps(reply) if isinstance(reply, dict) else reply for reply in replies]

    @property
    def questions(self) -> list[Question]:
        """All that it was asked."""
        return [question for call in self.calls for question in call]


def sample(
    completion: str = "c",
    passage: str | None = None,
    reference: Sequence[str] = (),
    question: str = "q",
) -> Sample:
    """A sample whose completion may hold half a character, which no id can be made of."""
    return replace(sample_of("", question, reference, passage), completion=completion)
