"""Style against facts: did the student learn what the teacher knows, or how it sounds?"""

from __future__ import annotations

from dataclasses import dataclass

from distill.compare import Interval


@dataclass(frozen=True)
class Measure:
    """A style measure: its mean for base, student and teacher, and how far the student went."""

    name: str
    base: float
    student: float
    teacher: float
    toward: Interval | None
    """(student - base) / (teacher - base); None where base and teacher do not differ clearly."""


@dataclass(frozen=True)
class StyleFacts:
    """Change in style beside change in facts, on one benchmark."""

    benchmark: str
    measures: list[Measure]
    style: Interval | None
    """Mean share of the way from the base's style to the teacher's; None where there is no way to go."""
    facts: Interval | None
    """Student minus base in the content metric (containment or accuracy), in 0..1 units."""
    task: Interval | None
    """Student minus base in the headline metric."""
    outcome: str
    """learned facts | learned the task | learned style only | got worse | no clear change."""
    sentence: str
