"""Put a student's change against its base in one metric into numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill.evaluation.comparison import exact_test
from distill.evaluation.intervals import CHANGE, bounded_interval
from distill.evaluation.statistics import MIN_ITEMS, Interval, is_grouped, permutation_p_value
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

    @property
    def evidence(self) -> str:
        """Interval, number of items and p-value."""
        evidence = f"{span(self.interval)}, n = {self.n}, {self.test} p {p_text(self.p_value)}"
        return f"{evidence} after Holm" if self.adjusted else evidence

    def __str__(self) -> str:
        size = points(abs(self.interval.value) if self.direction else self.interval.value)
        name = metric_name(self.metric)
        if not self.direction:
            return f"{name} did not change clearly (a difference of {size} points; {self.evidence})"
        rose = "rose" if self.direction > 0 else "fell"
        return f"{name} {rose} by {size} points ({self.evidence})"


def measure_change(
    metric: str,
    student: Mapping[str, Answer],
    base: Mapping[str, Answer],
    group_of: Mapping[str, str] | None = None,
) -> MetricChange | None:
    """Student minus base on the items graded for both, as `compare.compare` has it; None without any.

    `group_of`: item -> its passage, where several items are of one.
    """
    pairs = {
        item_id: (new, old)
        for item_id in sorted(set(student) & set(base))
        if (new := student[item_id].grades.get(metric)) is not None
        and (old := base[item_id].grades.get(metric)) is not None
    }
    if not pairs:
        return None
    gaps = [new - old for new, old in pairs.values()]
    groups = [(group_of or {}).get(item_id, item_id) for item_id in pairs]
    binary = all(grade in (0.0, 1.0) for pair in pairs.values() for grade in pair)
    return MetricChange(
        metric=metric,
        interval=bounded_interval(gaps, CHANGE, groups),
        p_value=permutation_p_value(gaps, groups),
        n=len(pairs),
        test=exact_test(binary, is_grouped(groups)),
    )
