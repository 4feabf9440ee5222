"""Open a report with what a manager asks: better, how sure, at what cost, and better than last time?

Right answers are counted by the content metric where a benchmark has one, since a headline may
rise by the form of the answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.contestants.contestant import is_control
from distill.evaluation.comparison import Comparison, Difference, speaker_of
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import (
    form_doubt,
    form_part,
    form_points,
    is_clear,
    metric_name,
    paired,
    points,
    seeds_note,
)
from warehouse.wording import be, format_count

CONTENT_ROSE = ("learned facts", "reads passages better")
"""Outcomes (`style_facts`) that say that more answers are right, after Holm."""
ANSWERS_NOTHING = ("collapsed", "answers do not fit their questions")
NOW, BEFORE = "student", "student before"
"""Names of the two students in a comparison with last time."""


@dataclass(frozen=True)
class LastTime:
    """The student of this run beside that of the last run of a plan of this name."""

    run_id: str
    on: str
    """Date of that run, YYYY-MM-DD."""
    student_id: str
    comparisons: list[Comparison]
    """`NOW` against `BEFORE`, benchmark by benchmark, on the items that both answered."""


@dataclass(frozen=True)
class Opening:
    """The first lines of a report; each is empty where there is nothing to say."""

    better: str
    sure: str
    cost: str
    last_time: str

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Each line that there is, with its question."""
        questions = ("Better?", "How sure?", "At what cost?", "Tonight against last time")
        answers = (self.better, self.sure, self.cost, self.last_time)
        return [pair for pair in zip(questions, answers, strict=True) if pair[1]]


def write_opening(
    comparisons: Sequence[Comparison],
    cost: str = "",
    last_time: LastTime | None = None,
    outcomes: Mapping[str, str] | None = None,
) -> Opening:
    """Write the first lines of a report, of the task's benchmarks.

    Args:
        comparisons: All of a run; those off the task are left aside.
        cost: The sentence on what the student cost so far.
        last_time: The student of the last run, if there was one.
        outcomes: Benchmark -> what the student learned, where that was measured; the first line
            never says more than it.
    """
    outcomes = outcomes or {}
    tasks = [c for c in comparisons if c.role == "task" and c.standing("student")]
    several = len(tasks) > 1
    better = [
        _named(comparison, several, _better(comparison, outcomes.get(comparison.benchmark)))
        for comparison in tasks
    ]
    sure = [_named(comparison, several, _sure(comparison)) for comparison in tasks]
    return Opening(
        better=" ".join(better),
        sure=" ".join(sure),
        cost=cost,
        last_time=_last_time(last_time) if last_time else "",
    )


def _named(comparison: Comparison, several: bool, sentence: str) -> str:
    return f"{comparison.benchmark}: {sentence}" if several else sentence


def _metric(comparison: Comparison) -> str:
    """The metric that counts right answers."""
    return comparison.content or comparison.headline


def _direction(comparison: Comparison, pair: Difference | None, metric: str) -> int:
    """1 where left is clearly better by the metric, -1 where it is clearly worse, else 0."""
    if pair is None or metric not in pair.metrics or pair.n < MIN_ITEMS:
        return 0
    interval = pair.metrics[metric]
    if metric == comparison.headline and not is_clear(pair, metric):
        return 0
    side = (interval.low > 0) - (interval.high < 0)
    lower_is_better = metric == comparison.headline and not comparison.higher_is_better
    return -side if lower_is_better else side


def _better(comparison: Comparison, outcome: str | None) -> str:
    """Whether the student is better than the base, and than the best without training."""
    pair, metric = paired(comparison, "student", "base"), _metric(comparison)
    if pair is None or pair.n == 0:
        return "Unknown: no item was graded for both student and base."
    if pair.n < MIN_ITEMS:
        return f"Unknown: {format_count(pair.n, 'item')} {be(pair.n)} too few to say."
    content = _direction(comparison, pair, metric)
    headline = _direction(comparison, pair, comparison.headline)
    if outcome is not None and metric != comparison.headline and outcome not in CONTENT_ROSE:
        content = min(content, 0)
    base = f"its base {_value(comparison, 'base', metric)}{_form_part(comparison, 'base')}"
    scores = f"{_score(comparison, 'student', metric)}, {base}"
    if outcome in ANSWERS_NOTHING:
        fault = "its answers collapsed" if outcome == "collapsed" else f"its {outcome}"
        answer = f"No, {fault}: the student has {scores}."
    elif content > 0:
        answer = f"Yes{form_doubt(comparison, 'base')}: the student has {scores}."
    elif content < 0 and headline > 0:
        answer = f"In form only, and at a price: the student has {scores}; {_form(comparison)}."
    elif content < 0:
        answer = f"No, worse: the student has {scores}."
    elif headline > 0:
        answer = f"In form only: the student has {scores}; {_form(comparison)}."
    elif headline < 0:
        answer = f"No, worse in form: the student has {scores}; {_form(comparison)}."
    else:
        equal = pair.metrics[metric].value == 0.0
        chance = "" if equal else ", and that may be chance"
        answer = f"{'No' if equal else 'Not shown'}: the student has {scores}{chance}."
    return f"{answer} {_rival(comparison, metric)}".strip()


def _form(comparison: Comparison) -> str:
    """Student and base by the headline, which asks for a form."""
    headline = comparison.headline
    return (
        f"{metric_name(headline)}, which asks for the right form, went from "
        f"{_value(comparison, 'base', headline)} to {_value(comparison, 'student', headline)}"
    )


def _score(comparison: Comparison, name: str, metric: str) -> str:
    lower = metric == comparison.headline and not comparison.higher_is_better
    return f"{_value(comparison, name, metric)} {metric_name(metric)}{' (less is better)' * lower}"


def _value(comparison: Comparison, name: str, metric: str) -> str:
    standing = comparison.standing(name)
    interval = standing.metrics.get(metric) if standing else None
    return f"{points(interval.value)} %" if interval else "no score"


def _best_rival(comparison: Comparison, metric: str) -> str | None:
    """The best contestant that needs no training: a prompt, retrieval or a script."""
    scores = {
        standing.contestant: standing.metrics[metric].value
        for standing in comparison.standings
        if metric in standing.metrics
        and standing.contestant != "base"
        and speaker_of(standing.contestant) not in ("student", "teacher")
        and standing.answered_most
    }
    if not scores:
        return None
    lower = metric == comparison.headline and not comparison.higher_is_better
    return (min if lower else max)(scores, key=lambda name: scores[name])


def _rival(comparison: Comparison, metric: str) -> str:
    name = _best_rival(comparison, metric)
    if name is None:
        return "Whether a better prompt would have done as well was not measured."
    direction = _direction(comparison, paired(comparison, "student", name), metric)
    better = f"the student is better{form_doubt(comparison, name)}"
    said = {1: better, 0: "no clear difference", -1: "better than the student"}
    script = ", a script without a model," if is_control(name) else ""
    return (
        f"The best without training, {name}{script} has {_value(comparison, name, metric)}: "
        f"{said[direction]}{_form_part(comparison, name)}."
    )


def _form_part(comparison: Comparison, rival: str) -> str:
    part = form_part(comparison, rival)
    if part is None:
        return ""
    return f" ({form_points(part)} of the {points(part[1])} points between them may be form)"


def _sure(comparison: Comparison) -> str:
    """What could still be chance: the interval over the base and over the best rival."""
    pair, metric = paired(comparison, "student", "base"), _metric(comparison)
    if pair is None or pair.n < MIN_ITEMS or metric not in pair.metrics:
        return ""
    ranges = [f"{_range(pair.metrics[metric])} above the base"]
    rival = _best_rival(comparison, metric)
    other = paired(comparison, "student", rival) if rival else None
    if other and other.n >= MIN_ITEMS and metric in other.metrics:
        ranges.append(f"{_range(other.metrics[metric])} above {rival}")
    grouped = f" on {format_count(pair.groups, 'passage')}" if pair.is_grouped else ""
    few = " Other items may well say otherwise." if pair.n < 30 else ""
    return (
        f"With 95 % confidence, by {format_count(pair.n, 'held-out item')}{grouped}: the student's "
        f"{metric_name(metric)} is {', and '.join(ranges)}.{few} {seeds_note(pair)}"
    )


def _range(interval: Interval) -> str:
    return f"{points(interval.low)} to {points(interval.high)} points"


def _last_time(last: LastTime) -> str:
    """This run's student against the last one's."""
    several = len(last.comparisons) > 1
    sentences = []
    for comparison in last.comparisons:
        pair, metric = comparison.difference(NOW, BEFORE), _metric(comparison)
        if pair is None or metric not in pair.metrics:
            continue
        interval = pair.metrics[metric]
        direction = _direction(comparison, pair, metric)
        said = {1: "better", 0: "no clear difference", -1: "worse"}[direction]
        if pair.n < MIN_ITEMS:
            said = "too few items to say"
        sentence = (
            f"{_score(comparison, NOW, metric)} now, {_value(comparison, BEFORE, metric)} then: {said} "
            f"({_range(interval)}, {format_count(pair.n, 'item')})."
        )
        sentences.append(_named(comparison, several, sentence))
    if not sentences:
        return ""
    return f"{' '.join(sentences)} Last time was {last.on}, student {last.student_id[:8]}."
