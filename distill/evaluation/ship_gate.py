"""Check a plan's `[ship]` conditions against the measured findings.

A condition that was not measured is not met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.evaluation.comparison import Comparison
from distill.evaluation.findings import Checked, Evaluation, ShipVerdict
from distill.evaluation.ship_chance import (
    Bound,
    Given,
    chance_of_passing,
    chance_sentence,
    rule_sentence,
)
from distill.evaluation.ship_conditions import Condition, is_toxicity, means_benchmark, parse
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import metric_name, paired, points, span
from warehouse.catalog import did_you_mean
from warehouse.wording import be, format_count


def check_ship(
    conditions: Sequence[str],
    evaluation: Evaluation,
    certain: bool = True,
    given: Given | None = None,
) -> ShipVerdict:
    """Check each condition against the measured findings.

    A difference of contestants is that on the items graded for both; where no such pair was
    taken, it is that of their means. A condition without `on` must hold on every benchmark
    of the task, those of which a small headline is good (toxicity) left aside.

    With `certain` the 95 % interval must meet the condition, not its middle alone; a
    difference that was not taken item by item has none. Of fewer than ten items, or where a
    contestant failed on more than a tenth of them, nothing is met.

    Args:
        conditions: The plan's conditions.
        evaluation: The findings.
        certain: Whether the bound of the interval has to meet a condition, or the value alone.
        given: The answers, for the chance that a student no better than the base meets all.

    Raises:
        ValueError: a condition cannot be read.
    """
    measurements = [_measure(parse(text), evaluation.comparisons, certain) for text in conditions]
    checked = [
        Checked(parse(text).text, measurement.met, measurement.phrase)
        for text, measurement in zip(conditions, measurements, strict=True)
    ]
    bounds = [bound for measurement in measurements for bound in measurement.bounds]
    if given is None or not all(measurement.bounds for measurement in measurements):
        return ShipVerdict(checked, rule=rule_sentence(None, certain))
    chance = chance_of_passing(bounds, given, certain)
    return ShipVerdict(checked, chance, chance_sentence(chance), rule_sentence(chance, certain))


@dataclass(frozen=True)
class _Measurement:
    met: bool | None
    phrase: str
    bounds: Sequence[Bound] = ()
    """What has to hold on each benchmark; empty where one could not be measured."""


def _measure(
    condition: Condition, comparisons: Sequence[Comparison], certain: bool
) -> _Measurement:
    labels = [c.benchmark for c in comparisons]
    matching = [c for c in comparisons if means_benchmark(condition.benchmark, c.benchmark, labels)]
    if not matching:
        hint = did_you_mean(condition.benchmark or "", labels) if labels else "none was"
        return _Measurement(None, f"no benchmark '{condition.benchmark}' was run ({hint})")
    if condition.subject == "forgetting":
        off_task = [c for c in matching if c.role == "off_task" and not _is_of_toxicity(c)]
        return _forgetting(condition, off_task, certain)
    if condition.subject == "toxicity":
        applicable = [c for c in matching if _is_of_toxicity(c)]
        description = "benchmark of toxicity"
    elif condition.benchmark:
        applicable, description = matching, "such benchmark"
    else:
        applicable = [c for c in matching if c.role == "task" and c.higher_is_better]
        description = "benchmark of the task"
    if not applicable:
        return _Measurement(None, f"no {description} was run")
    measurements = [_on(condition, comparison, certain) for comparison in applicable]
    measured = all(measurement.bounds for measurement in measurements)
    return _Measurement(
        _all_met(measurements),
        "; ".join(measurement.phrase for measurement in measurements),
        [bound for m in measurements for bound in m.bounds] if measured else (),
    )


def _all_met(measurements: Sequence[_Measurement]) -> bool | None:
    """False if any is not met, else None if any was not measured."""
    if any(measurement.met is False for measurement in measurements):
        return False
    return None if any(measurement.met is None for measurement in measurements) else True


def _on(condition: Condition, comparison: Comparison, certain: bool) -> _Measurement:
    """A contestant against a number or another contestant, on one benchmark."""
    left, where = condition.subject, comparison.benchmark
    metric = condition.metric or comparison.headline
    if left == "toxicity":
        left, metric = "student", "toxicity" if "toxicity" in comparison.metrics else metric
    if metric not in comparison.metrics:
        hint = did_you_mean(metric, comparison.metrics)
        return _Measurement(None, f"{where} has no metric '{metric}' ({hint})")
    scores: list[Interval] = []
    for name in filter(None, (left, condition.against)):
        if why := _unanswered(comparison, name):
            return _Measurement(None, why)
        standing = comparison.standing(name)
        if standing is None:
            answering = [s.contestant for s in comparison.standings]
            hint = f" ({did_you_mean(name, answering)})" if answering else ""
            return _Measurement(None, f"no answers of {name} on {where}{hint}")
        if metric not in standing.metrics:
            return _Measurement(None, f"no answer of {name} on {where} was graded by {metric}")
        scores.append(standing.metrics[metric])

    def bound(interval: Interval, n: int) -> Bound:
        limit, at_least = condition.margin, condition.at_least
        return Bound(where, metric, left, condition.against, at_least, limit, interval, n)

    name = metric_name(metric)
    measured = f"{left} {points(scores[0].value)} %"
    if condition.against is None:
        standing = comparison.standing(left)
        n = standing.graded if standing else 0
        phrase = f"{measured} {name} on {where} ({_evidence(scores[0], n)})"
        return _decide(bound(scores[0], n), phrase, certain)
    measured += f", {condition.against} {points(scores[1].value)} % {name} on {where}"
    pair = paired(comparison, left, condition.against, metric)
    if pair is None:
        difference = scores[0].value - scores[1].value
        measured += f": {points(difference)} points apart, not paired by item"
        if certain:
            return _Measurement(None, f"{measured}, so there is no interval")
        n = min(s.graded for s in comparison.standings if s.contestant in (left, condition.against))
        return _decide(bound(Interval(difference, -1, 1), n), measured, False)
    interval, n = pair.metrics[metric], pair.n
    size = points(interval.value)
    phrase = f"{measured}: a difference of {size} points ({_evidence(interval, n)})"
    return _decide(bound(interval, n), phrase, certain)


def _forgetting(
    condition: Condition, off_task: Sequence[Comparison], certain: bool
) -> _Measurement:
    """The largest fall of the student against the base, in headline units; 0 where none fell."""
    if not off_task:
        return _Measurement(None, "no benchmark of knowledge or skill was run off the task")
    falls: list[tuple[float, Bound]] = []
    missing = []
    for comparison in off_task:
        where, up = comparison.benchmark, comparison.higher_is_better
        pair = paired(comparison, "student", "base")
        if pair is None or any(_unanswered(comparison, name) for name in ("student", "base")):
            missing.append(where)
            continue
        change, metric = pair.metrics[comparison.headline], comparison.headline
        limit = -condition.margin if up else condition.margin
        bound = Bound(where, metric, "student", "base", up, limit, change, pair.n)
        fall = bound.value(change, certain) * (-1 if up else 1)
        if pair.n < MIN_ITEMS and fall <= condition.margin:
            missing.append(where)
        else:
            falls.append((fall, bound))
    if not falls:
        where = ", ".join(missing)
        return _Measurement(
            None, f"student and base did not both answer {MIN_ITEMS} items or more of {where}"
        )
    worst = max(falls, key=lambda fall: fall[0])[1]
    lost = worst.interval.negated() if worst.at_least else worst.interval
    largest = points(max(0.0, lost.value))
    phrase = (
        f"a largest fall of {largest} points, on {worst.benchmark} ({_evidence(lost, worst.n)})"
    )
    met = _decide(worst, phrase, certain).met
    if missing:
        unknown = f"{phrase}; not known on {', '.join(missing)}"
        return _Measurement(None if met else met, unknown)
    return _Measurement(met, phrase, [bound for _, bound in falls])


def _unanswered(comparison: Comparison, name: str) -> str:
    """Why a contestant's mean is not one of these items: it failed on many; empty if it did not."""
    standing = comparison.standing(name)
    if standing is None or standing.answered_most:
        return ""
    return (
        f"{name} failed on {standing.failed} of {format_count(standing.n, 'item')} of {comparison.benchmark}, "
        "too many to rely on the others"
    )


def _decide(bound: Bound, phrase: str, certain: bool) -> _Measurement:
    met = bool(bound.is_met(bound.value(bound.interval, certain)))
    if met and bound.n < MIN_ITEMS:
        few = f"{format_count(bound.n, 'item')} {be(bound.n)} too few to promote a student"
        return _Measurement(None, f"{phrase}: {few}", [bound])
    return _Measurement(met, phrase, [bound])


def _evidence(interval: Interval, n: int) -> str:
    return f"{span(interval)}, n = {n}"


def _is_of_toxicity(comparison: Comparison) -> bool:
    return is_toxicity(comparison.headline, comparison.benchmark)
