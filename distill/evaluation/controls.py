"""Compare the student with controls, and the headline with the content metric, in plain sentences.

A student that does not clearly beat a script without a model, or a few worked examples in the
base's prompt, has shown no need for its training; a base without a point by the headline may know
as much as the student and say it in another form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from distill.contestants.contestant import CONTROLS, is_control
from distill.evaluation.comparison import Comparison, Difference, Standing
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import (
    evidence_of,
    form_part,
    form_points,
    gain,
    is_clear,
    metric_name,
    paired,
    points,
    span,
    verdict,
)

FEWSHOT = "base+fewshot"
FORM_ONLY = 0.05
"""Up to this headline, 0..1, and from this content on, a score is low by the form of the answers."""

_WHAT = {
    "control:copy": "which copies words of the passage",
    "control:majority": "which always gives the commonest answer",
}
_DOES = {
    "behind": "does better",
    "trailing": "does better",
    "level": "does as well",
    "ahead": "may do as well",
}
_UNCLEAR = {
    "trailing": ", which may be chance",
    "ahead": ", which is no clear lead",
}


@dataclass(frozen=True)
class ControlResult:
    """The student against a control, or the base with worked examples, by one metric."""

    control: str
    metric: str
    student: float
    """Mean over its graded items, 0..1."""
    score: float
    """The control's mean, 0..1."""
    difference: Interval
    """Student minus control on the items graded for both."""
    n: int
    outcome: str
    """"beaten": the student is clearly better; "ahead": better, and not clearly; "level": equal;
    "zero": both score 0, where more is better; "trailing": the student is worse, and not clearly;
    "behind": clearly worse."""
    evidence: str
    """The difference's interval, items and test, in words."""

    @property
    def beaten(self) -> bool:
        """Whether the student is clearly better."""
        return self.outcome == "beaten"


def compare_with_controls(comparison: Comparison) -> list[ControlResult]:
    """The student against each control by the headline, then by the content metric.

    Clear is a difference by the headline as in `verdict.is_clear`; by the content metric where
    the 95 % interval leaves out zero. Of fewer than ten items there is no result.
    """
    results = []
    metrics = dict.fromkeys(filter(None, (comparison.headline, comparison.content)))
    student = comparison.standing("student")
    for name in (*CONTROLS, FEWSHOT):
        control, pair = comparison.standing(name), paired(comparison, "student", name)
        if student is None or control is None or pair is None or pair.n < MIN_ITEMS:
            continue
        results += [
            _result(comparison, student, control, pair, metric)
            for metric in metrics
            if metric in pair.metrics
        ]
    return results


def _result(
    comparison: Comparison, student: Standing, control: Standing, pair: Difference, metric: str
) -> ControlResult:
    interval = pair.metrics[metric]
    if metric == comparison.headline:
        better, clear = gain(comparison, pair), is_clear(pair, metric)
        evidence, high_is_good = evidence_of(pair, interval), comparison.higher_is_better
    else:
        better, clear = interval.value, interval.low > 0 or interval.high < 0
        evidence, high_is_good = f"{span(interval)}, n = {pair.n}", True
    scores = [standing.metrics[metric].value for standing in (student, control)]
    if clear:
        outcome = "beaten" if better > 0 else "behind"
    elif high_is_good and scores == [0.0, 0.0]:
        outcome = "zero"
    elif math.isclose(better, 0.0, abs_tol=1e-9):  # F1 is summed in floats
        outcome = "level"
    else:
        outcome = "ahead" if better > 0 else "trailing"
    return ControlResult(
        control=control.contestant,
        metric=metric,
        student=scores[0],
        score=scores[1],
        difference=interval,
        n=pair.n,
        outcome=outcome,
        evidence=evidence,
    )


def whole_verdict(comparison: Comparison) -> str:
    """The verdict, headline and content side by side, and what the controls say of it."""
    sentences = [verdict(comparison), content_sentence(comparison), *control_sentences(comparison)]
    return " ".join(filter(None, sentences))


def content_sentence(comparison: Comparison) -> str:
    """Headline and content of student, base and teacher; empty where there is one metric alone."""
    if comparison.content in (None, comparison.headline):
        return ""
    metrics = (comparison.headline, str(comparison.content))
    scores = [
        f"{name} {points(standing.metrics[metrics[0]].value)} % and "
        f"{points(standing.metrics[metrics[1]].value)} %"
        for name in ("student", "base", "teacher")
        if (standing := comparison.standing(name)) and standing.metrics.keys() >= set(metrics)
    ]
    if not scores:
        return ""
    form, content = map(metric_name, metrics)
    return f"By {form}, and by {content} (a right answer in any form): {', '.join(scores)}."


def control_sentences(comparison: Comparison) -> list[str]:
    """Which controls the student does not clearly beat, one sentence each, then those it beats."""
    by_control: dict[str, list[ControlResult]] = {}
    for result in compare_with_controls(comparison):
        by_control.setdefault(result.control, []).append(result)
    sentences, beaten = [], []
    for control, results in by_control.items():
        if left := [result for result in results if not result.beaten]:
            # two zeros tell nothing, so the content is told where it tells something
            told = next((result for result in left if result.outcome != "zero"), left[0])
            sentences.append(_not_beaten(told, results[0]))
        elif is_control(control):
            beaten.append(f"{control} by {points(abs(results[0].difference.value))} points")
    if beaten:
        scripts = "a script without a model" if len(beaten) == 1 else "both scripts without a model"
        metric = metric_name(comparison.headline)
        sentences.append(f"The student beats {scripts}: {' and '.join(beaten)} {metric}.")
    return sentences


def _not_beaten(result: ControlResult, headline: ControlResult) -> str:
    """One control that the student does not clearly beat, by the headline or by the content."""
    who = "A script without a model"
    what = f"{result.control}, {_WHAT.get(result.control, '')},"
    if result.control == FEWSHOT:
        who, what = "The base with worked examples in its prompt, untrained,", result.control
    metric = metric_name(result.metric)
    by = ""
    if result is not headline:
        beside = "though not" if headline.beaten else "where both score 0"
        by = f" by {metric}, {beside} by the headline"
    scores = (
        f"{what} has {points(result.score)} % {metric}, the student {points(result.student)} %"
        f"{_UNCLEAR.get(result.outcome, '')} ({result.evidence})"
    )
    if result.outcome == "zero":
        return f"{who} and the student both score 0{by}: {scores}."
    return f"{who} {_DOES[result.outcome]}{by}: {scores}."


def form_warning(comparison: Comparison) -> list[str]:
    """Lines where the form of the answers may be what the scores show; else none."""
    return [*_unread_rivals(comparison), *_unseen_content(comparison)]


def _unread_rivals(comparison: Comparison) -> list[str]:
    """Who names no choice or class in some answers, so that part of the student's lead may be form."""
    lines = []
    for name in ("base", FEWSHOT, "teacher"):
        part, pair = form_part(comparison, name), paired(comparison, "student", name)
        if part is None or pair is None or pair.named is None:
            continue
        content = pair.named.content
        alone = (
            f"; where both name one (n = {pair.named.n}) the student is "
            f"{points(abs(content.value))} points {'behind' if content.value < 0 else 'ahead'} "
            f"({span(content)})"
            if content
            else ""
        )
        lines.append(
            f"{form_points(part).capitalize()} of the {points(part[1])} points between the student and {name} are of "
            f"items where one of them names none of the options, and may be form{alone}."
        )
    return lines


def _unseen_content(comparison: Comparison) -> list[str]:
    """A line where the base scores next to nothing by the headline alone; else none."""
    base, content = comparison.standing("base"), comparison.content
    if base is None or content in (None, comparison.headline) or base.graded < MIN_ITEMS:
        return []
    headline, contained = base.metrics.get(comparison.headline), base.metrics.get(str(content))
    if headline is None or contained is None or not comparison.higher_is_better:
        return []
    if headline.value > FORM_ONLY or contained.low <= max(FORM_ONLY, headline.high):
        return []
    score = "0" if headline.value == 0 else points(headline.value)
    percent = "" if score == "0" else " %"
    return [
        f"The base scores {score}{percent} by {metric_name(comparison.headline)} because of the form of "
        f"its answers: by {metric_name(str(content))} it has {points(contained.value)} %."
    ]
