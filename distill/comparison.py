"""What a comparison of contestants says: standings, differences, ratios, examples."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.paired import Interval

PAIRS = (("student", "base"), ("student", "teacher"), ("teacher", "base"))
ORDER = ("base", "student", "teacher")


@dataclass(frozen=True)
class ItemText:
    """What a reader needs to judge an answer to one held-out item."""

    item_id: str
    question: str
    passage: str | None
    reference: list[str]
    category: str | None = None


@dataclass(frozen=True)
class Standing:
    """One contestant on one benchmark. `n` = graded + abstained + failed."""

    contestant: str
    n: int
    graded: int
    abstained: int
    failed: int
    metrics: dict[str, Interval]
    prompt_tokens: int
    completion_tokens: int
    mean_latency_s: float | None
    cost_usd: float | None


@dataclass(frozen=True)
class Difference:
    """`left` minus `right` on the `n` items graded for both; counts and p are the headline's."""

    left: str
    right: str
    n: int
    metrics: dict[str, Interval]
    wins: int
    losses: int
    ties: int
    p_value: float
    p_adjusted: float | None = None
    """After Holm, over the same pair on all benchmarks of the run; None where there is one alone."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with its interval, or None and the reason why there is none."""

    interval: Interval | None
    reason: str | None
    n: int


@dataclass(frozen=True)
class Said:
    """One contestant's text and headline grade."""

    text: str
    grade: float | None


@dataclass(frozen=True)
class Example:
    """One item with what every contestant said to it."""

    item: ItemText
    said: dict[str, Said]


@dataclass(frozen=True)
class Comparison:
    """All contestants on one benchmark."""

    benchmark: str
    headline: str
    n: int
    metrics: list[str]
    standings: list[Standing]
    differences: list[Difference]
    retention: Ratio
    gap_closed: Ratio
    wins: list[Example]
    losses: list[Example]
    ties: list[Example]
    role: str = "task"
    """task | outside: what the student was made for, or what it must not forget."""
    lower_is_better: bool = False
    """Whether a small headline is a good one, as of toxicity; wins and losses are counted so."""
    common: int = 0
    """Items graded for every contestant."""
    detectable: float | None = None
    """Least difference of student and base that so many items show four times in five; 0..1."""
    binary: bool = True
    """Whether every headline grade is 0 or 1; F1 and toxicity are not."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know: few items, failures, duplicates, abstentions."""

    def standing(self, contestant: str) -> Standing | None:
        """A contestant's standing, or None where it gave no answer."""
        return next((s for s in self.standings if s.contestant == contestant), None)

    def difference(self, left: str, right: str) -> Difference | None:
        """A pair's difference, or None where one of them gave no answer."""
        found = (d for d in self.differences if (d.left, d.right) == (left, right))
        return next(found, None)
