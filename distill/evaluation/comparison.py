"""Collect a comparison of contestants: standings, differences, ratios, examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from distill.evaluation.statistics import Interval
from warehouse.records import Answer
from warehouse.text.words import split_form

MAX_FAILURE_RATE = 0.1
"""Share of failed items up to which a contestant's mean is comparable with others'."""
PAIRS = (("student", "base"), ("student", "teacher"), ("teacher", "base"))
ORDER = ("base", "student", "teacher")


OVER_SEEDS = "hierarchical bootstrap"
"""The test of a difference over training seeds and items."""


def exact_test(binary: bool, is_grouped: bool = False) -> str:
    """The name of the test of a paired difference.

    Of 0/1 grades of items none of which share a passage the permutation test is McNemar's.
    """
    return "McNemar" if binary and not is_grouped else "permutation test"


def speaker_of(contestant: str) -> str:
    """The model in a contestant's name: `student` of "student:1a2b+knn"."""
    return contestant.partition("+")[0].partition(":")[0]


def answers_by_contestant(answers: Iterable[Answer]) -> dict[str, dict[str, Answer]]:
    """Contestant -> item -> answer, in order of their names and ids; an item counts once."""
    answers_by: dict[str, dict[str, Answer]] = {}
    for answer in sorted(answers, key=lambda a: (a.contestant, a.item_id, a.answer_id)):
        answers_by.setdefault(answer.contestant, {}).setdefault(answer.item_id, answer)
    return answers_by


@dataclass(frozen=True)
class ItemText:
    """What a reader needs to judge an answer to one held-out item."""

    item_id: str
    question: str
    passage: str | None
    reference: list[str]
    category: str | None = None

    @property
    def group(self) -> str:
        """What it shares with items that are no independent evidence: its passage, or its
        question where there is none (as `Row.split_key`)."""
        return split_form(self.passage or self.question) or self.item_id


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

    @property
    def answered_most(self) -> bool:
        """Whether it failed on so few items that its mean is one of the same items as others'."""
        return self.failed <= MAX_FAILURE_RATE * self.n


ANSWERED = "answered"
"""The metric of choices and classes that says whether an answer names one."""


@dataclass(frozen=True)
class NamedPart:
    """A difference of two contestants in its parts: by content, and what may be form."""

    n: int
    """Items where both name a choice or class."""
    content: Interval | None
    """Left minus right in the headline on these items; None where there are none."""
    form: float
    """The part of the mean difference, over all items, of the items where one of them names none."""

    def negated(self) -> NamedPart:
        """The same of the difference taken the other way round."""
        return NamedPart(self.n, self.content and self.content.negated(), -self.form)


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
    """After Holm, over its family (see `compare.adjust_p_values`); None where it is the only one."""
    tests: int = 1
    """Tests in its family, that p is adjusted for."""
    binary: bool = True
    """Whether every headline grade of the two is 0 or 1, so that the test is McNemar's where no two
    items are of one passage; else it is a permutation test of the mean."""
    error: float = 0.0
    """Standard error of the headline's mean difference, see `intervals.standard_error`."""
    groups: int = 0
    """Passages (or questions, where there is none) that the items are of; 0: one each."""
    fits: tuple[int, int] = (1, 1)
    """Training seeds of left and right whose mean is compared; 1 also where nothing was trained."""
    freedom: float = 0.0
    """Degrees of freedom of `error`."""
    named: NamedPart | None = None
    """Of choices and classes where an answer of the two names none: what is content, what may be form."""

    @property
    def is_grouped(self) -> bool:
        """Whether several items are of one passage."""
        return 0 < self.groups < self.n

    @property
    def is_over_seeds(self) -> bool:
        """Whether intervals and test cover training seeds beside items."""
        return max(self.fits) > 1

    @property
    def test(self) -> str:
        """The name of the test behind p."""
        if self.is_over_seeds:
            return OVER_SEEDS
        return exact_test(self.binary, self.is_grouped)


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with its interval, or None and the reason why there is none."""

    interval: Interval | None
    reason: str | None
    n: int


@dataclass(frozen=True)
class SeedScore:
    """The student of one training seed on one benchmark."""

    seed: int
    student_id: str
    n: int
    """Items that were graded by the headline."""
    metrics: dict[str, Interval]
    """Means over its graded items; the intervals are over items alone."""


@dataclass(frozen=True)
class GradedAnswer:
    """One contestant's text and headline grade."""

    text: str
    grade: float | None


@dataclass(frozen=True)
class GradedExample:
    """One item with every contestant's answer."""

    item: ItemText
    said: dict[str, GradedAnswer]


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
    wins: list[GradedExample]
    losses: list[GradedExample]
    ties: list[GradedExample]
    role: str = "task"
    """task | off_task: what the student was trained for, or what it must not forget."""
    content: str | None = None
    """The metric that asks for right answers in any form; None where the benchmark has none."""
    higher_is_better: bool = True
    """False where a small headline is good, as of toxicity; wins and losses follow it."""
    common: int = 0
    """Items graded for every contestant."""
    detectable: float | None = None
    """Least difference of student and base that so many items show four times in five, 0..1, at the
    loss rate (or spread) that was observed; where
    there are several benchmarks of its role, at the first step of Holm's procedure."""
    detectable_at_most: float | None = None
    """The same at the upper 95 % bound of the loss rate (or spread)."""
    binary: bool = True
    """Whether every headline grade is 0 or 1; F1 and toxicity are not."""
    groups: int = 0
    """Passages (or questions, where there is none) that the items are of; 0: one each."""
    seeds: list[SeedScore] = field(default_factory=list)
    """The student of each training seed alone, where there are several."""
    notes: list[str] = field(default_factory=list)
    """Caveats: few items, failures, duplicates, abstentions."""

    @property
    def test(self) -> str:
        """The name of the test behind p; of several tests, what they have in common."""
        if any(pair.is_over_seeds for pair in self.differences):
            return "paired test"
        return exact_test(self.binary, 0 < self.groups < self.n)

    def standing(self, contestant: str) -> Standing | None:
        """A contestant's standing, or None where it gave no answer."""
        return next((s for s in self.standings if s.contestant == contestant), None)

    def difference(self, left: str, right: str) -> Difference | None:
        """A pair's difference, or None where one of them gave no answer."""
        matches = (d for d in self.differences if (d.left, d.right) == (left, right))
        return next(matches, None)
