"""Put a student's change against its base in one metric into numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill.evaluation.comparison import exact_test
from distill.evaluation.statistics import MIN_ITEMS, Interval, bootstrap, mean, sign_test_p_value
from distill.evaluation.verdict import metric_name, p_text, points, span
from warehouse.records import Answer


@dataclass(frozen=True)
class MetricChange:
    """Student minus base in one metric, on the items graded for both."""

    metric: str
    interval: Interval
    p_value: float
    n: int
    adjusted: bool = False
    """Whether p is after Holm."""
    test: str = "McNemar"
    """The name of the test that p is of."""

    @property
    def direction(self) -> int:
        """1 or -1 where the change is clear (as `verdict.is_clear` has it), else 0."""
        if self.n < MIN_ITEMS or self.p_value >= 0.05:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)

    def __str__(self) -> str:
        size = points(abs(self.interval.value) if self.direction else self.interval.value)
        evidence = f"{span(self.interval)}, n = {self.n}, {self.test} p {p_text(self.p_value)}"
        evidence += " after Holm" if self.adjusted else ""
        name = metric_name(self.metric)
        if not self.direction:
            return f"{name} did not change clearly (a difference of {size} points; {evidence})"
        return f"{name} {'rose' if self.direction > 0 else 'fell'} by {size} points ({evidence})"


def measure_change(
    metric: str, student: Mapping[str, Answer], base: Mapping[str, Answer], seed: int
) -> MetricChange | None:
    """Student minus base on the items graded for both, as `compare.compare` has it; None without any."""
    pairs = [
        (new, old)
        for item_id in sorted(set(student) & set(base))
        if (new := student[item_id].grades.get(metric)) is not None
        and (old := base[item_id].grades.get(metric)) is not None
    ]
    if not pairs:
        return None
    wins, losses = sum(new > old for new, old in pairs), sum(new < old for new, old in pairs)
    return MetricChange(
        metric=metric,
        interval=bootstrap([[new - old for new, old in pairs]], mean, seed, (-1.0, 1.0)),
        p_value=sign_test_p_value(wins, losses),
        n=len(pairs),
        test=exact_test(all(grade in (0.0, 1.0) for pair in pairs for grade in pair)),
    )
