"""Compare two contestants on the same items with paired statistics.

Every contestant answers the same items, so every difference is taken item by item.
Intervals are 95 % percentile bootstrap intervals over items (Efron and Tibshirani,
*An Introduction to the Bootstrap*, 1993, chapter 13); wins against losses are tested
exactly on the discordant pairs (McNemar, 1947). An item that was not graded for both
sides of a pair is in neither: abstentions and failures are counted, never scored 0.0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill.evaluation.comparison import (
    ORDER,
    PAIRS,
    Comparison,
    Difference,
    Example,
    GradedAnswer,
    ItemText,
    Ratio,
    Standing,
)
from distill.evaluation.power import LEVEL, detectable, detectable_mean
from distill.evaluation.statistics import (
    MIN_ITEMS,
    Interval,
    bootstrap,
    holm,
    mean,
    mean_difference,
    ratio_of_means,
    share_of_gap,
)
from distill.evaluation.verdict import discordant_of, is_clear, p_of, p_text
from warehouse.records import Answer
from warehouse.wording import be, format_count

SHOWN = 10
"""Wins, losses and ties shown, each."""

ByItem = Mapping[str, Answer]


def compare(
    benchmark: str,
    answers: Sequence[Answer],
    items: Sequence[ItemText],
    headline: str = "exact_match",
    seed: int = 0,
    contestants: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] | None = None,
    role: str = "task",
    higher_is_better: bool = True,
) -> Comparison:
    """Compare contestants by their answers to `items`; answers to other items do not count.

    The order of `answers` and `items` does not change the result, nor does an answer
    that is given twice. Metrics are in 0..1, `headline` decides wins, losses and coverage.
    `contestants` names who was asked, so that one who failed on every item is shown too;
    `pairs` are the differences to take, left minus right; left out, the student against each
    other one, and the teacher against the base.
    """
    texts = {item.item_id: item for item in sorted(items, key=lambda item: item.item_id)}
    said: dict[str, dict[str, Answer]] = {name: {} for name in contestants}
    for answer in sorted(answers, key=lambda a: (a.item_id, a.contestant, a.answer_id)):
        if answer.item_id in texts:
            said.setdefault(answer.contestant, {}).setdefault(answer.item_id, answer)
    others = [name for name in said if name not in ORDER]
    names = [name for name in ORDER if name in said]
    names += [name for name in contestants if name in others]
    names += sorted(set(others) - set(contestants))
    if pairs is None:
        more = [("student", name) for name in names if name not in ORDER]
        pairs = [*PAIRS, *more]
    seen = {metric for given in said.values() for a in given.values() for metric in a.grades}
    metrics = [headline, *sorted(seen - {headline}, key=_metric_order)]
    wins, losses, ties = _examples(said, texts, headline, names, higher_is_better)
    differences = [
        _difference(left, right, said[left], said[right], metrics, seed, higher_is_better)
        for left, right in pairs
        if left in said and right in said
    ]
    common = len(_common(headline, *said.values())[0]) if said else 0
    grades = {grade for given in said.values() for grade in _graded(given, headline).values()}
    binary = grades <= {0.0, 1.0}
    found = Comparison(
        benchmark=benchmark,
        headline=headline,
        n=len(texts),
        metrics=metrics,
        standings=[_standing(name, said[name], len(texts), metrics, seed) for name in names],
        differences=differences,
        retention=(
            _retention(said, headline, seed)
            if higher_is_better
            else Ratio(None, "lower is better", 0)
        ),
        gap_closed=(
            _gap_closed(said, headline, seed)
            if higher_is_better
            else Ratio(None, "lower is better", 0)
        ),
        wins=wins,
        losses=losses,
        ties=ties,
        role=role,
        higher_is_better=higher_is_better,
        common=common,
        binary=binary,
        notes=_notes(said, texts, headline, common),
    )
    return _concluded(found)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, each pair's p-value also adjusted for the number of benchmarks (Holm)."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for at, comparison in enumerate(comparisons):
        for place, pair in enumerate(comparison.differences):
            if pair.n:
                found.setdefault((pair.left, pair.right), []).append((at, place))
    made = [list(comparison.differences) for comparison in comparisons]
    for places in found.values():
        if len(places) > 1:
            p_values = holm([made[at][place].p_value for at, place in places])
            for (at, place), p_value in zip(places, p_values, strict=True):
                pair = made[at][place]
                made[at][place] = replace(pair, p_adjusted=p_value, tests=len(places))
    return [
        _concluded(replace(comparison, differences=pairs))
        for comparison, pairs in zip(comparisons, made, strict=True)
    ]


def _concluded(comparison: Comparison) -> Comparison:
    """What depends on the p-values: no share of a gap is told where teacher and base cannot be
    told apart, and what could have been shown goes by the number of benchmarks."""
    pair = comparison.difference("student", "base")
    comparison = replace(comparison, detectable=_detectable(pair))
    pair = comparison.difference("teacher", "base")
    if (
        comparison.gap_closed.interval is None
        or pair is None
        or is_clear(pair, comparison.headline)
    ):
        return comparison
    why = f"teacher and base cannot be told apart (p {p_text(p_of(pair))}, n = {pair.n})"
    return replace(comparison, gap_closed=Ratio(None, why, comparison.gap_closed.n))


def _detectable(pair: Difference | None) -> float | None:
    """What the items could have shown of student and base, as unequal as these are on them."""
    if pair is None or not pair.n:
        return None
    level = LEVEL / pair.tests
    if not pair.binary:
        return detectable_mean(pair.error, level)
    return detectable(pair.n, discordant_of(pair), level=level)


def _notes(
    said: Mapping[str, ByItem], texts: Mapping[str, ItemText], metric: str, common: int
) -> list[str]:
    """What a reader must know before believing a figure."""
    n = len(texts)
    notes, partly = [], []
    if n < MIN_ITEMS:
        notes.append(
            f"{format_count(n, 'item')} {be(n)} too few to show anything; no significance is claimed"
        )
    for name, given in said.items():
        graded = len(_graded(given, metric))
        abstained, failed = len(given) - graded, n - len(given)
        if failed:
            notes.append(
                f"{name} failed on {failed} of {format_count(n, 'item')}: its score is of the other {len(given)}, "
                "and differences are of items that both answered"
            )
        if abstained and abstained == len(given):
            notes.append(f"none of {name}'s {format_count(abstained, 'answer')} could be graded")
        elif abstained:
            partly.append(f"{abstained} of {name}")
        empty = sum(not answer.text.strip() for answer in given.values())
        if empty:
            notes.append(f"{name} said nothing to {empty} of {format_count(n, 'item')}")
    if partly:
        notes.append(
            f"answers that could not be graded: {', '.join(partly)}, of {format_count(n, 'item')} each"
        )
    if 0 < common < n:
        notes.append(f"all contestants were graded on {common} of {format_count(n, 'item')}")
    return notes


def _metric_order(metric: str) -> tuple[int, str]:
    known = ("exact_match", "f1", "contains")
    return (known.index(metric) if metric in known else len(known), metric)


def _graded(given: ByItem, metric: str) -> dict[str, float]:
    grades = ((item_id, answer.grades.get(metric)) for item_id, answer in given.items())
    return {item_id: float(grade) for item_id, grade in grades if grade is not None}


def _common(metric: str, *sides: ByItem) -> list[list[float]]:
    """One list of grades per side, over the items graded for all sides, in order of item."""
    graded = [_graded(side, metric) for side in sides]
    shared = sorted(set.intersection(*(set(grades) for grades in graded)))
    return [[grades[item_id] for item_id in shared] for grades in graded]


def _standing(name: str, given: ByItem, n: int, metrics: Sequence[str], seed: int) -> Standing:
    answers = list(given.values())
    grades = {metric: list(_graded(given, metric).values()) for metric in metrics}
    graded = len(grades[metrics[0]])
    costs = [answer.cost_usd for answer in answers]
    known = [cost for cost in costs if cost is not None]
    return Standing(
        contestant=name,
        n=n,
        graded=graded,
        abstained=len(answers) - graded,
        failed=n - len(answers),
        metrics={m: bootstrap([g], mean, seed) for m, g in grades.items() if g},
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        mean_latency_s=sum(a.latency_s for a in answers) / len(answers) if answers else None,
        cost_usd=sum(known) if len(known) == len(costs) else None,
    )


def _difference(
    left: str,
    right: str,
    ours: ByItem,
    theirs: ByItem,
    metrics: Sequence[str],
    seed: int,
    higher_is_better: bool,
) -> Difference:
    from scipy import stats

    found: dict[str, Interval] = {}
    for metric in metrics:
        columns = _common(metric, ours, theirs)
        if columns[0]:
            found[metric] = bootstrap(columns, mean_difference, seed, widest=(-1.0, 1.0))
    pairs = list(zip(*_common(metrics[0], ours, theirs), strict=True))
    gaps = [one - other for one, other in pairs]
    above = sum(one > other for one, other in pairs)
    below = sum(one < other for one, other in pairs)
    wins, losses = (above, below) if higher_is_better else (below, above)
    unequal = wins + losses
    return Difference(
        left=left,
        right=right,
        n=len(pairs),
        metrics=found,
        wins=wins,
        losses=losses,
        ties=len(pairs) - unequal,
        p_value=float(stats.binomtest(wins, unequal, 0.5).pvalue) if unequal else 1.0,
        binary=all(grade in (0.0, 1.0) for pair in pairs for grade in pair),
        error=statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0,
    )


def _ratio(
    columns: list[list[float]],
    statistic: Callable[..., Any],
    below: Interval | None,
    called: str,
    seed: int,
) -> Ratio:
    n = len(columns[0])
    if below is None or n == 0:
        return Ratio(None, "no item was graded for all of them", n)
    if n < 2 or below.low <= 1e-12:
        low, high = f"{below.low:.3f}", f"{below.high:.3f}"
        why = f"{called} is not clearly above zero (95 % interval {low} to {high}, n = {n})"
        return Ratio(None, why, n)
    return Ratio(bootstrap(columns, statistic, seed), None, n)


def _missing(said: Mapping[str, ByItem], wanted: Sequence[str]) -> Ratio | None:
    gone = [name for name in wanted if name not in said]
    return Ratio(None, f"no answers of {' and '.join(gone)}", 0) if gone else None


def _retention(said: Mapping[str, ByItem], metric: str, seed: int) -> Ratio:
    """Student's mean over teacher's."""
    if missing := _missing(said, ("student", "teacher")):
        return missing
    columns = _common(metric, said["student"], said["teacher"])
    below = bootstrap(columns[1:], mean, seed) if columns[0] else None
    return _ratio(columns, ratio_of_means, below, "the teacher's mean", seed)


def _gap_closed(said: Mapping[str, ByItem], metric: str, seed: int) -> Ratio:
    """(student - base) / (teacher - base)."""
    if missing := _missing(said, ("student", "base", "teacher")):
        return missing
    columns = _common(metric, said["student"], said["base"], said["teacher"])
    below = (
        bootstrap([columns[2], columns[1]], mean_difference, seed, widest=(-1.0, 1.0))
        if columns[0]
        else None
    )
    return _ratio(columns, share_of_gap, below, "the gap from base to teacher", seed)


def _examples(
    said: Mapping[str, ByItem],
    texts: Mapping[str, ItemText],
    metric: str,
    names: Sequence[str],
    higher_is_better: bool,
) -> tuple[list[Example], list[Example], list[Example]]:
    """Up to ten wins, losses and ties of the student against the base, in order of item.

    Ties whose texts differ come first: a tie of equal texts shows nothing.
    """
    wins: list[Example] = []
    losses: list[Example] = []
    ties: list[Example] = []
    student, base = said.get("student", {}), said.get("base", {})
    new, old = _graded(student, metric), _graded(base, metric)
    for item_id, item in texts.items():
        if item_id not in new or item_id not in old:
            continue
        replies = ((name, said[name].get(item_id)) for name in names)
        example = Example(
            item, {name: GradedAnswer(a.text, a.grades.get(metric)) for name, a in replies if a}
        )
        better, worse = new[item_id] > old[item_id], new[item_id] < old[item_id]
        if not higher_is_better:
            better, worse = worse, better
        (wins if better else losses if worse else ties).append(example)
    ties.sort(key=lambda example: example.said["student"].text == example.said["base"].text)
    return wins[:SHOWN], losses[:SHOWN], ties[:SHOWN]
