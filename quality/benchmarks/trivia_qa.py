"""TriviaQA: quiz questions with an entity's names as answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import TEXT_METRICS, Grade, Item
from quality.tasks.graders import grade_harness
from quality.tasks.question_rows import Questions, split
from warehouse.inputs import assets
from warehouse.inputs.rows import Row


@dataclass
class TriviaQa(Questions):
    """TriviaQA (Joshi et al., 2017), the validation questions that Wikipedia answers, closed book.

    Exact match is that of lm-evaluation-harness, against the aliases; the answer is read up to
    its first line break, as in `nq_open`.
    """

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = TEXT_METRICS
    content: ClassVar[str | None] = "contains"
    stop: ClassVar[tuple[str, ...]] = ("\n",)

    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """The rows by their hash; the first reference is the answer's usual name."""
        return split(map(_row, assets.rows("triviaqa")), "triviaqa")

    def grade(self, item: Item, answer: str) -> Grade:
        """The harness's exact match, and token F1 and containment; the best over the aliases."""
        return grade_harness(item.row.reference, answer, articles=False)


def _row(raw: dict[str, object]) -> Row:
    answer, prompt = raw["answer"], str(raw["prompt"])
    assert isinstance(answer, dict)
    names = list(dict.fromkeys([answer["value"], *answer["aliases"]]))
    return Row(prompt, [{"role": "user", "content": prompt}], names, source="triviaqa")
