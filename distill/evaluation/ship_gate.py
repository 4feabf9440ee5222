"""Check a plan's `[ship]` conditions against the measured findings.

    student >= base + 0.10 on sciq      a contestant against another, by the benchmark's headline
    student f1 >= teacher - 5 %         by another metric; without `on`: on every task benchmark
    student >= student:1a2b             an earlier student, or an endpoint by its name
    student >= 0.30                     a contestant against a number
    toxicity <= 0.02                    the student's mean, on every benchmark of toxicity
    forgetting <= 0.03                  its largest fall against the base outside the task,
                                        toxicity aside

A condition that was not measured is not met. Numbers are shares (0.1) or percent (10 %).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from distill.evaluation.comparison import Comparison
from distill.evaluation.findings import Checked, Evaluation, ShipVerdict
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import metric_name, paired, points, span
from warehouse.catalog import did_you_mean
from warehouse.errors import PlanError
from warehouse.wording import be, format_count

EXAMPLES = (
    "student >= base + 0.10 on sciq",
    "student f1 >= teacher - 5 %",
    "toxicity <= 0.02",
    "forgetting <= 0.03",
)


@dataclass(frozen=True)
class Condition:
    """One parsed condition."""

    text: str
    subject: str
    """A contestant, "toxicity" or "forgetting"."""
    metric: str | None
    """None: the benchmark's headline."""
    at_least: bool
    """Whether the subject is to be large (>=) or small (<=)."""
    against: str | None
    """Another contestant; None: a number."""
    margin: float
    """What is added to the other contestant's score, or the number itself; a share."""
    benchmark: str | None
    """None: every one that the condition can mean."""


_NAME = r"(?=[\w.-]*[A-Za-z_])[A-Za-z0-9][\w.-]*(?::\w+)?(?:\+[A-Za-z]\w*)?"
"""Of a contestant: base+fewshot, student:1a2b, or an endpoint's, such as 7b-chat."""
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)\s*%?"
_CONDITION = re.compile(
    rf"(?P<subject>{_NAME})(?:\s+(?P<metric>[^\s<>=]+))?\s*(?P<operator>>=|<=)\s*"
    rf"(?:(?P<against>{_NAME})(?:\s*(?P<sign>[+-])\s*(?P<margin>{_NUMBER}))?|(?P<limit>{_NUMBER}))"
    r"(?:\s+on\s+(?P<benchmark>\S.*))?"
)
_TIGHT = re.compile(rf"(?<=[<>]=)\s*(student|base|teacher)([+-])(?={_NUMBER}(?:\s|$))")
"""`teacher-0.05` is a difference, though a name may hold a dash; base-7b is a name."""
_MEASURES = ["toxicity", "forgetting"]


def parse(text: str) -> Condition:
    """Parse a condition; `refuse_unmeasurable` checks the names in it.

    Raises:
        ValueError: it cannot be parsed; the message shows examples.
    """
    text = " ".join(text.split())

    def refuse(why: str) -> ValueError:
        examples = ", ".join(f"'{example}'" for example in EXAMPLES)
        return ValueError(f"ship condition '{text}': {why}; examples: {examples}")

    match = _CONDITION.fullmatch(_TIGHT.sub(r" \1 \2 ", text))
    if match is None:
        if not re.search("[<>]=", text):
            raise refuse("write >= or <= between the measured value and its bound")
        raise refuse("cannot be parsed")
    subject, against, metric = match["subject"], match["against"], match["metric"]
    measure, at_least = subject in _MEASURES, match["operator"] == ">="
    if against in _MEASURES:
        raise refuse(f"{against} is not a contestant")
    if against == ("student" if subject == "toxicity" else subject):
        raise refuse(f"it compares {against} with itself")
    if measure and metric:
        raise refuse(f"{subject} takes no metric; remove '{metric}'")
    if measure and at_least:
        raise refuse(f"{subject} should be small; write <=")
    if subject == "forgetting" and against:
        raise refuse("forgetting is already relative to the base; give a number")
    try:
        share = _share(match["limit"] or match["margin"] or "0")
    except ValueError as error:
        raise refuse(str(error)) from None
    sign = -1.0 if match["sign"] == "-" else 1.0
    return Condition(text, subject, metric, at_least, against, sign * share, match["benchmark"])


def check_ship(
    conditions: Sequence[str], evaluation: Evaluation, certain: bool = False
) -> ShipVerdict:
    """Check each condition against the measured findings.

    A difference of contestants is that on the items graded for both; where no such pair was
    taken, it is that of their means. A condition without `on` must hold on every benchmark
    of the task, those of which a small headline is good (toxicity) left aside.

    With `certain` the 95 % interval must meet the condition, not its middle alone; a
    difference that was not taken item by item has none. Of fewer than ten items, or where a
    contestant failed on more than a tenth of them, nothing is met.

    Raises:
        ValueError: a condition cannot be read.
    """
    return ShipVerdict(
        [_check(parse(text), evaluation.comparisons, certain) for text in conditions]
    )


@dataclass(frozen=True)
class Planned:
    """A benchmark of a plan, before any answers."""

    label: str
    metrics: Sequence[str]
    role: str
    """task | off_task."""
    higher_is_better: bool


def refuse_unmeasurable(
    conditions: Sequence[str], benchmarks: Sequence[Planned], contestants: Sequence[str]
) -> None:
    """Check that each condition can be measured, before anything is spent.

    Raises:
        PlanError: one names a benchmark, a metric or a contestant that the plan does not have.
    """
    faults = tuple(
        f"'{text}': {why}"
        for text in conditions
        if (why := _unmeasurable(parse(text), benchmarks, contestants))
    )
    if faults:
        raise PlanError("a condition of [ship] cannot be measured with this plan", faults)


def _unmeasurable(
    condition: Condition, benchmarks: Sequence[Planned], contestants: Sequence[str]
) -> str:
    """Why a condition cannot be measured; empty if it can."""
    subjects = {"student", "base"} if condition.subject == "forgetting" else {condition.subject}
    subjects = {"student"} if condition.subject == "toxicity" else subjects
    for name in sorted(subjects | ({condition.against} if condition.against else set())):
        if name not in contestants:
            allowed = [*contestants, *_MEASURES] if name == condition.subject else contestants
            return f"no contestant '{name}' ({did_you_mean(name, allowed)})"
    labels = [benchmark.label for benchmark in benchmarks]
    matching = [b for b in benchmarks if _means(condition.benchmark, b.label, labels)]
    if not matching:
        return f"no benchmark '{condition.benchmark}' ({did_you_mean(condition.benchmark or '', labels)})"
    if condition.subject == "toxicity":
        if any(_toxic(benchmark.metrics[0], benchmark.label) for benchmark in matching):
            return ""
        return "no benchmark of toxicity; add { use = 'toxicity_prompts' } to evaluate.off_task"
    if condition.subject == "forgetting":
        if any(b.role == "off_task" and b.higher_is_better for b in matching):
            return ""
        return "evaluate.off_task has no benchmark of knowledge or skill"
    for benchmark in matching:
        applies = condition.benchmark or (benchmark.role == "task" and benchmark.higher_is_better)
        if applies and condition.metric and condition.metric not in benchmark.metrics:
            hint = did_you_mean(condition.metric, benchmark.metrics)
            return f"{benchmark.label} has no metric '{condition.metric}' ({hint})"
    return ""


def _means(named: str | None, label: str, labels: Sequence[str]) -> bool:
    """Whether a condition's `on` means this benchmark: by its label, or by its first word where
    no label is exactly that."""
    if named is None or named == label:
        return True
    return named not in labels and label.split()[0] == named


@dataclass(frozen=True)
class _Measurement:
    met: bool | None
    phrase: str


def _check(condition: Condition, comparisons: Sequence[Comparison], certain: bool) -> Checked:
    labels = [c.benchmark for c in comparisons]
    matching = [c for c in comparisons if _means(condition.benchmark, c.benchmark, labels)]
    if not matching:
        hint = did_you_mean(condition.benchmark or "", labels) if labels else "none was"
        return Checked(
            condition.text, None, f"no benchmark '{condition.benchmark}' was run ({hint})"
        )
    if condition.subject == "forgetting":
        off_task = [c for c in matching if c.role == "off_task" and not _is_of_toxicity(c)]
        measurement = _forgetting(condition, off_task, certain)
        return Checked(condition.text, measurement.met, measurement.phrase)
    if condition.subject == "toxicity":
        applicable = [c for c in matching if _is_of_toxicity(c)]
        description = "benchmark of toxicity"
    elif condition.benchmark:
        applicable, description = matching, "such benchmark"
    else:
        applicable = [c for c in matching if c.role == "task" and c.higher_is_better]
        description = "benchmark of the task"
    if not applicable:
        return Checked(condition.text, None, f"no {description} was run")
    measurements = [_on(condition, comparison, certain) for comparison in applicable]
    phrase = "; ".join(measurement.phrase for measurement in measurements)
    return Checked(condition.text, _all_met(measurements), phrase)


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
    name = metric_name(metric)
    measured = f"{left} {points(scores[0].value)} %"
    if condition.against is None:
        standing = comparison.standing(left)
        n = standing.graded if standing else 0
        phrase = f"{measured} {name} on {where} ({_evidence(scores[0], n)})"
        return _decide(condition.at_least, condition.margin, scores[0], n, phrase, certain)
    measured += f", {condition.against} {points(scores[1].value)} % {name} on {where}"
    pair = paired(comparison, left, condition.against, metric)
    if pair is None:
        difference = scores[0].value - scores[1].value
        measured += f": {points(difference)} points apart, not paired by item"
        if certain:
            return _Measurement(None, f"{measured}, so there is no interval")
        n = min(s.graded for s in comparison.standings if s.contestant in (left, condition.against))
        interval = Interval(difference, -1, 1)
        return _decide(condition.at_least, condition.margin, interval, n, measured, False)
    interval, n = pair.metrics[metric], pair.n
    size = points(interval.value)
    phrase = f"{measured}: a difference of {size} points ({_evidence(interval, n)})"
    return _decide(condition.at_least, condition.margin, interval, n, phrase, certain)


def _forgetting(
    condition: Condition, off_task: Sequence[Comparison], certain: bool
) -> _Measurement:
    """The largest fall of the student against the base, in headline units; 0 where none fell."""
    if not off_task:
        return _Measurement(None, "no benchmark of knowledge or skill was run off the task")
    falls: list[tuple[float, str, Interval, int]] = []
    missing = []
    for comparison in off_task:
        pair = paired(comparison, "student", "base")
        if pair is None or any(_unanswered(comparison, name) for name in ("student", "base")):
            missing.append(comparison.benchmark)
            continue
        change, n = pair.metrics[comparison.headline], pair.n
        worse = change.negated() if comparison.higher_is_better else change
        fall = worse.high if certain else worse.value
        if n < MIN_ITEMS and fall <= condition.margin:
            missing.append(comparison.benchmark)
        else:
            falls.append((fall, comparison.benchmark, worse, n))
    unknown = f"; not known on {', '.join(missing)}" if missing else ""
    if not falls:
        where = ", ".join(missing)
        return _Measurement(
            None, f"student and base did not both answer {MIN_ITEMS} items or more of {where}"
        )
    _, where, worst, n = max(falls, key=lambda fall: fall[0])
    largest = Interval(*(max(0.0, v) for v in (worst.value, worst.low, worst.high)))
    phrase = f"a largest fall of {points(largest.value)} points, on {where}"
    measurement = _decide(
        False, condition.margin, largest, n, f"{phrase} ({_evidence(worst, n)})", certain
    )
    met = None if missing and measurement.met else measurement.met
    return _Measurement(met, measurement.phrase + unknown)


def _unanswered(comparison: Comparison, name: str) -> str:
    """Why a contestant's mean is not one of these items: it failed on many; empty if it did not."""
    standing = comparison.standing(name)
    if standing is None or standing.answered_most:
        return ""
    return (
        f"{name} failed on {standing.failed} of {format_count(standing.n, 'item')} of {comparison.benchmark}, "
        "too many to rely on the others"
    )


def _decide(
    at_least: bool, bound: float, interval: Interval, n: int, phrase: str, certain: bool
) -> _Measurement:
    value = (interval.low if at_least else interval.high) if certain else interval.value
    met = value >= bound - 1e-9 if at_least else value <= bound + 1e-9
    if met and n < MIN_ITEMS:
        few = f"{format_count(n, 'item')} {be(n)} too few to promote a student"
        return _Measurement(None, f"{phrase}: {few}")
    return _Measurement(met, phrase)


def _evidence(interval: Interval, n: int) -> str:
    return f"{span(interval)}, n = {n}"


def _is_of_toxicity(comparison: Comparison) -> bool:
    return _toxic(comparison.headline, comparison.benchmark)


def _toxic(headline: str, label: str) -> bool:
    return headline == "toxicity" or label == "toxicity_prompts"


def _share(text: str) -> float:
    """0.1, .1, 10 % and 10% are the same.

    Raises:
        ValueError: it is above 1.
    """
    value = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
    if value > 1:
        raise ValueError(f"{text} is above 100 %; write a share (0.1) or percent (10 %)")
    return value
