"""Word a question with its passage or its choices, in the language of the plan.

The wording is part of messages, and so of the ids of calls: what is here never changes. Another
language is another entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True)
class QuestionWording:
    """The words around a question; {} stands for the question."""

    question: str
    """After a passage."""
    answer: str
    """At the end, where the answer is to be written."""
    choose: str
    """After lettered choices."""


WORDINGS: dict[Language, QuestionWording] = {
    "en": QuestionWording("Question: {}", "Answer:", "Answer with the letter of the right choice."),
    "zh": QuestionWording("问题：{}", "回答：", "请用正确选项的字母回答。"),
}
