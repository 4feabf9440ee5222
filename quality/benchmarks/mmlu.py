"""MMLU: exam questions of 57 subjects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from quality.tasks.benchmark import Grade, Item
from quality.tasks.graders import CHOICE_METRICS, grade_choice
from quality.tasks.question_rows import Questions
from warehouse.catalog import did_you_mean
from warehouse.errors import PlanError
from warehouse.inputs import assets
from warehouse.inputs.rows import Row


@dataclass
class Mmlu(Questions):
    """MMLU (Hendrycks et al., 2021), its test split; worked examples are of the same subject.

    The order is that of a hash, so that a limit takes of all subjects. Five shots are the
    usual number: the subject's development split, where its questions are short.
    """

    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[str, ...]] = CHOICE_METRICS
    content: ClassVar[str | None] = "accuracy"

    subjects: list[str] = field(default_factory=list)
    """Only these subjects, such as "anatomy"; empty for all."""

    def rows(self, folder: Path) -> Iterator[tuple[Row, bool]]:
        """The test split by its hash, then development and validation as they are."""
        every = list(assets.rows("mmlu"))
        known = sorted({raw["category"] for raw in every})
        for subject in self.subjects:
            if subject not in known:
                raise PlanError(f"no MMLU subject '{subject}'; {did_you_mean(subject, known)}")
        wanted = [raw for raw in every if not self.subjects or raw["category"] in self.subjects]
        sides: dict[str, list[Row]] = {"test": [], "dev": [], "validation": []}
        for raw in wanted:
            sides[raw["member"].split("/")[-2]].append(_row(raw))
        for row in sorted(sides["test"], key=lambda row: row.row_id):
            yield row, True
        for row in sides["dev"] + sides["validation"]:
            yield row, False

    def kin(self, row: Row) -> str | None:
        """The subject."""
        return row.category

    def grade(self, item: Item, answer: str) -> Grade:
        """The accuracy of the choice, and whether one could be read."""
        return grade_choice(item.choices, item.row.reference, answer)


def _row(raw: dict[str, object]) -> Row:
    prompt, choices, answer = str(raw["prompt"]), raw["choices"], raw["answer"]
    assert isinstance(choices, list) and isinstance(answer, int)
    return Row(
        prompt,
        [{"role": "user", "content": prompt}],
        [choices[answer]],
        source="mmlu",
        choices=tuple(choices),
        category=str(raw["category"]),
    )
