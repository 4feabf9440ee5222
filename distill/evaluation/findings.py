"""Define the findings of a run's evaluation, which the report shows and `[ship]` checks."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.evaluation.breakdown import Group
from distill.evaluation.calibration import Calibration
from distill.evaluation.comparison import Comparison
from distill.evaluation.economics import BreakEven, CostTotal, Economy
from distill.evaluation.nearest_rows import StillWrong
from distill.evaluation.opening import Opening
from distill.evaluation.robustness import Robustness
from distill.evaluation.scaling import Scaling
from distill.evaluation.statistics import Interval
from distill.evaluation.style_facts import StyleFacts


@dataclass(frozen=True)
class Explored:
    """One item of the report's explorer, with every answer to it."""

    benchmark: str
    item_id: str
    question: str
    passage: str | None
    reference: list[str]
    category: str | None
    said: dict[str, str]
    """Contestant -> text."""
    grades: dict[str, float | None]
    """Contestant -> headline grade."""


@dataclass(frozen=True)
class SameAnswer:
    """How often a contestant gives the teacher's answer, right or wrong."""

    benchmark: str
    contestant: str
    n: int
    agreement: Interval


@dataclass(frozen=True)
class ClassLine:
    """A contestant's precision, recall and F1 on one class, 0..1; None where undefined."""

    benchmark: str
    contestant: str
    label: str
    """The class, or "macro": the mean over the classes."""
    n: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Checked:
    """One condition of the plan and its measurement."""

    condition: str
    met: bool | None
    """None: it could not be measured, which counts as not met."""
    measured: str
    """One phrase with numbers."""


@dataclass(frozen=True)
class ShipVerdict:
    """All conditions; the student ships if every one is met."""

    checked: list[Checked]
    by_chance: float | None = None
    """Probability that a student no better than the base meets all of them, 0..1; None where it is
    not known."""
    chance_sentence: str = ""
    """The same in plain words."""
    rule: str = ""
    """That point estimates decide, where they do (`certain = false`)."""

    @property
    def ships(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.checked)


@dataclass(frozen=True)
class Evaluation:
    """Comparisons and all other findings from the same answers."""

    comparisons: list[Comparison]
    explored: list[Explored] = field(default_factory=list)
    groups: dict[str, list[Group]] = field(default_factory=dict)
    """Benchmark -> groups of its items."""
    classes: list[ClassLine] = field(default_factory=list)
    """Of benchmarks whose answers name a class."""
    style: list[StyleFacts] = field(default_factory=list)
    economics: list[Economy] = field(default_factory=list)
    break_even: list[BreakEven] = field(default_factory=list)
    cost: CostTotal | None = None
    """What the student cost so far; None where no student is evaluated."""
    agreement: list[SameAnswer] = field(default_factory=list)
    robustness: list[Robustness] = field(default_factory=list)
    calibration: list[Calibration] = field(default_factory=list)
    still_wrong: list[StillWrong] = field(default_factory=list)
    scaling: list[Scaling] = field(default_factory=list)
    ship: ShipVerdict | None = None
    opening: Opening | None = None
    """The first lines of the report."""
