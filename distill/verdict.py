"""The verdict: what a comparison says, in plain sentences and no more than it can bear."""

from __future__ import annotations

from distill.compare import Comparison, Difference, Interval

SMALL = 30
"""Below so many common items a verdict says that n is small."""
METRIC_NAMES = {"exact_match": "exact match", "f1": "F1", "contains": "containment"}


def metric_name(metric: str) -> str:
    """A metric's name in running text."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def points(value: float) -> str:
    """A share as points (hundredths), one decimal; never "-0.0"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def p_text(p_value: float) -> str:
    """A p value as readers expect it: "= 0.034" or "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def is_clear(difference: Difference, metric: str) -> bool:
    """Whether the headline's interval leaves out zero and the exact test agrees at 0.05."""
    interval = difference.metrics[metric]
    return (interval.low > 0 or interval.high < 0) and difference.p_value < 0.05


def verdict(comparison: Comparison) -> str:
    """Two to four plain sentences: student against base, against teacher, and warnings.

    'Beats' and 'is worse' are said only where the paired interval leaves out zero and
    the exact test gives p < 0.05: the interval alone is too sure of itself on few items.
    """
    sentences = [_on_base(comparison), _on_teacher(comparison)]
    pair = comparison.difference("student", "base")
    if pair and comparison.headline in pair.metrics and comparison.headline != "contains":
        rise, contained = pair.metrics[comparison.headline], pair.metrics.get("contains")
        if contained and rise.value > 0 > contained.value:
            sentences.append(
                f"Containment of the reference fell by {points(-contained.value)} points meanwhile "
                f"({_span(contained)}): part of the gain is the form of the answers, and some "
                "right answers were lost."
            )
    counted = [d.n for d in comparison.differences if d.left == "student"]
    if counted and 0 < min(counted) < SMALL:
        sentences.append(f"n = {min(counted)} is small: a rerun on other items may say otherwise.")
    return " ".join(sentence for sentence in sentences if sentence)


def _span(interval: Interval) -> str:
    return f"95 % interval {points(interval.low)} to {points(interval.high)}"


def _evidence(pair: Difference, interval: Interval) -> str:
    return f"{_span(interval)}, n = {pair.n}, McNemar p {p_text(pair.p_value)}"


def _on_base(comparison: Comparison) -> str:
    pair = comparison.difference("student", "base")
    gone = [name for name in ("student", "base") if comparison.standing(name) is None]
    if pair is None:
        return (
            "Nothing can be said of the student against the base: no answers of "
            f"{' and '.join(gone)}."
        )
    interval = pair.metrics.get(comparison.headline)
    if interval is None:
        return "Nothing can be said of the student against the base: no item was graded for both."
    metric = metric_name(comparison.headline)
    size, evidence = points(abs(interval.value)), _evidence(pair, interval)
    if not is_clear(pair, comparison.headline):
        return (
            f"The student and the base can not be told apart by {metric}: a difference of "
            f"{points(interval.value)} points ({evidence})."
        )
    if interval.value > 0:
        return f"The student beats the base by {size} points {metric} ({evidence})."
    return f"The student is worse than the base by {size} points {metric} ({evidence})."


def _on_teacher(comparison: Comparison) -> str:
    pair = comparison.difference("student", "teacher")
    if pair is None or comparison.headline not in pair.metrics:
        return "Nothing can be said of the student against the teacher." if pair else ""
    interval = pair.metrics[comparison.headline]
    evidence = _evidence(pair, interval)
    size = points(abs(interval.value))
    if not is_clear(pair, comparison.headline):
        first = (
            "Student and teacher can not be told apart: a difference of "
            f"{points(interval.value)} points ({evidence})"
        )
    else:
        side = "above" if interval.value > 0 else "below"
        first = f"The student is {size} points {side} the teacher ({evidence})"
    gap = comparison.gap_closed
    if gap.interval is None:
        return f"{first}; no share of the gap is given, since {gap.reason}."
    return f"{first}; it closes {points(gap.interval.value)} % of the gap ({_span(gap.interval)})."
