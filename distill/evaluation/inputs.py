"""Define what an evaluation rests on: answers, the plan's rules, and what the student was made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from datagen.spending.pricing import total_usd
from distill.evaluation.comparison import ItemText
from distill.evaluation.over_seeds import Trained
from quality.tasks.benchmark import Benchmark, Item
from warehouse.records import Answer, Sample, Score


@dataclass(frozen=True)
class BenchmarkAnswers:
    """One benchmark, its items and every contestant's answers to them."""

    benchmark: Benchmark
    role: str
    """task | off_task."""
    items: Sequence[Item]
    answers: Sequence[Answer]
    left_out: Collection[str] = ()
    """Contestants that are not asked these items."""
    trained: Sequence[Trained] = ()
    """The student of each training seed, the plan's own first; empty where there is one seed."""

    @property
    def other_seeds(self) -> dict[str, list[Sequence[Answer]]]:
        """Answers of the student's further seeds, as `compare` takes them."""
        return {"student": [fit.answers for fit in self.trained[1:]]}

    @property
    def texts(self) -> list[ItemText]:
        """What a reader needs to judge the answers."""
        return texts_of(self.items)

    @property
    def group_of(self) -> dict[str, str]:
        """Item -> what it shares with items that are no independent evidence."""
        return {item.item_id: item.group for item in self.texts}

    def answers_of(self, contestant: str) -> dict[str, Answer]:
        """A contestant's answers by item id."""
        return {a.item_id: a for a in self.answers if a.contestant == contestant}


@dataclass(frozen=True)
class Perturbed:
    """One contestant's answers to a benchmark's items under one perturbation."""

    benchmark: str
    perturbation: str
    contestant: str
    answers: Sequence[Answer]
    origin: Mapping[str, str]
    """Perturbed item -> original item."""


@dataclass(frozen=True)
class TrainingProvenance:
    """Training rows, scores and costs behind the student; empty where none is evaluated."""

    kept: Sequence[Sample] = ()
    scores: Sequence[Score] = ()
    costs: Mapping[str, float | None] = field(default_factory=dict)
    """Sample -> USD."""
    scoring_usd: float | None = 0.0
    """Cost of the scorers' replies; None where a price is unknown."""
    training_hours: float = 0.0
    """Hours of this machine: training, and the teacher where it runs here."""

    @property
    def data_usd(self) -> float | None:
        """Cost of all replies behind its rows and their scores; None where a price is unknown."""
        return total_usd([*self.costs.values(), self.scoring_usd])


@dataclass(frozen=True)
class Rules:
    """The plan's settings that affect the evaluation."""

    contestants: Sequence[str]
    usd_per_hour: float | None = None
    at_once: Mapping[str, int] = field(default_factory=dict)
    """Contestants behind a server on this machine -> its parallel requests."""
    ship: Sequence[str] = ()
    certain: bool = True


def texts_of(items: Sequence[Item]) -> list[ItemText]:
    """What a reader needs to judge the answers."""
    return [
        ItemText(item.item_id, item.row.prompt, item.row.passage, item.row.reference, item.category)
        for item in items
    ]
