"""Compare two contestants on the same items with paired statistics.

Every contestant answers the same items, so every difference is taken item by item, with the
intervals of `intervals` and a paired permutation test of the mean (of 0/1 grades McNemar's exact
test, 1947). Items of one passage count as one piece of evidence. An item that was not graded for
both sides of a pair is in neither: abstentions and failures are counted, never scored 0.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datagen.spending.pricing import total_usd
from distill.evaluation.comparison import (
    ANSWERED,
    ORDER,
    PAIRS,
    Comparison,
    Difference,
    GradedAnswer,
    GradedExample,
    ItemText,
    NamedPart,
    Ratio,
    Standing,
    answers_by_contestant,
)
from distill.evaluation.intervals import difference_interval, mean_interval, ratio_interval
from distill.evaluation.over_seeds import (
    ByItem,
    Fits,
    common_grades,
    difference,
    error_of,
    fits_of,
    gaps,
    graded_items,
    mean_grades,
    p_value,
    score,
    seed_margin,
    shared_items,
)
from distill.evaluation.power import LEVEL, detectable, detectable_mean, loss_rates
from distill.evaluation.statistics import MIN_ITEMS, Interval, holm
from distill.evaluation.verdict import is_clear, p_of, p_text, points, span
from warehouse.records import Answer
from warehouse.wording import be, format_count

SHOWN = 10
"""Wins, losses and ties shown, each."""

LEAST, SURE = 0.05, 0.02
"""A share of something is given where this is as large, and its interval's lower end."""
NOT_GRADED = "no item was graded for all of them"
ABOVE = "the student's score is above the teacher's"
BELOW = "the student's score is below the base's"


def compare(
    benchmark: str,
    answers: Sequence[Answer],
    items: Sequence[ItemText],
    headline: str = "exact_match",
    contestants: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] | None = None,
    role: str = "task",
    higher_is_better: bool = True,
    other_seeds: Mapping[str, Sequence[Sequence[Answer]]] | None = None,
) -> Comparison:
    """Compare contestants by their answers to `items`; answers to other items do not count.

    The order of `answers` and `items` does not change the result, nor does an answer
    that is given twice. Metrics are in 0..1, `headline` decides wins, losses and coverage.
    `contestants` lists all of them, so that one that failed on every item is shown too;
    `pairs` are the differences to take, left minus right; left out, the student against each
    other one, and the teacher against the base.
    `other_seeds`: contestant -> answers of the same recipe trained with other seeds, in a list
    each. Its scores and differences are then means over seeds, on the items that all of them
    answered, and cover seeds and items; counts of tokens, times and examples are of `answers`.
    """
    texts = {item.item_id: item for item in sorted(items, key=lambda item: item.item_id)}
    group_of = {item_id: item.group for item_id, item in texts.items()}
    answers_by = {
        **{name: {} for name in contestants},
        **answers_by_contestant(answer for answer in answers if answer.item_id in texts),
    }
    fits_by = fits_of(answers_by, other_seeds or {})
    names = list(dict.fromkeys([*ORDER, *contestants, *sorted(answers_by)]))
    names = [name for name in names if name in answers_by]
    if pairs is None:
        pairs = [*PAIRS, *(("student", name) for name in names if name not in ORDER)]
    every_answer = [answer for by_item in answers_by.values() for answer in by_item.values()]
    metric_names = {metric for answer in every_answer for metric in answer.grades}
    metrics = [headline, *sorted(metric_names - {headline}, key=_metric_order)]
    wins, losses, ties = _examples(answers_by, texts, headline, names, higher_is_better)
    differences = [
        _difference(left, right, fits_by, metrics, group_of, higher_is_better)
        for left, right in pairs
        if left in answers_by and right in answers_by
    ]
    common = len(shared_items(headline, *fits_by.values())) if answers_by else 0
    binary = {answer.grades.get(headline) for answer in every_answer} <= {0.0, 1.0, None}
    no_ratio = None if higher_is_better else Ratio(None, "lower is better", 0)
    comparison = Comparison(
        benchmark=benchmark,
        headline=headline,
        n=len(texts),
        metrics=metrics,
        standings=[_standing(name, fits_by[name], metrics, group_of) for name in names],
        differences=differences,
        retention=no_ratio or _retention(fits_by, headline, group_of),
        gap_closed=no_ratio or _gap_closed(fits_by, headline, group_of),
        wins=wins,
        losses=losses,
        ties=ties,
        role=role,
        higher_is_better=higher_is_better,
        common=common,
        binary=binary,
        groups=len(set(group_of.values())),
        notes=_notes(fits_by, texts, headline, common),
    )
    return _conclude(comparison)


def adjust_p_values(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, each p-value also adjusted for the others of its family (Holm 1979).

    A family is one question that several tests answer:

    - did the student (or another pair) change: the same pair on every benchmark of the task;
    - did it forget: the same pair on every benchmark off the task, which are a family of their own,
      so that neither hides a finding of the other;
    - would a prompt have done: the student against its rivals on one benchmark.
    """
    positions: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for row, comparison in enumerate(comparisons):
        for column, pair in enumerate(comparison.differences):
            if pair.n:
                rival = pair.left == "student" and pair.right not in ("base", "teacher")
                family = ("rivals", str(row)) if rival else (pair.left, pair.right, comparison.role)
                positions.setdefault(family, []).append((row, column))
    differences_by = [list(comparison.differences) for comparison in comparisons]
    for cells in positions.values():
        if len(cells) > 1:
            p_values = holm([differences_by[row][column].p_value for row, column in cells])
            for (row, column), p_value in zip(cells, p_values, strict=True):
                pair = differences_by[row][column]
                differences_by[row][column] = replace(pair, p_adjusted=p_value, tests=len(cells))
    return [
        _conclude(replace(comparison, differences=pairs))
        for comparison, pairs in zip(comparisons, differences_by, strict=True)
    ]


def _conclude(comparison: Comparison) -> Comparison:
    """Fill in what depends on the p-values: the detectable difference, and no gap closed where
    teacher and base are not clearly different."""
    pair = comparison.difference("student", "base")
    least, most = _detectable(pair)
    comparison = replace(comparison, detectable=least, detectable_at_most=most)
    pair = comparison.difference("teacher", "base")
    if (
        comparison.gap_closed.interval is None
        or pair is None
        or is_clear(pair, comparison.headline)
    ):
        return comparison
    why = f"teacher and base are not clearly different (p {p_text(p_of(pair))}, n = {pair.n})"
    return replace(comparison, gap_closed=Ratio(None, why, comparison.gap_closed.n))


def _detectable(pair: Difference | None) -> tuple[float | None, float | None]:
    """The least difference between student and base that these items could show: at the loss
    rate (or spread) that was observed, and at its upper bound."""
    if pair is None or pair.groups < 2:
        return None, None
    level = LEVEL / pair.tests
    if not pair.binary or pair.is_grouped or pair.is_over_seeds:
        return detectable_mean(pair.error, pair.freedom + 1, level)
    least, most = (
        detectable(pair.n, rate, level=level) for rate in loss_rates(pair.wins, pair.losses, pair.n)
    )
    return least, most


def _notes(
    fits_by: Mapping[str, Fits], texts: Mapping[str, ItemText], metric: str, common: int
) -> list[str]:
    """Caveats: few items, failures, abstentions, empty answers."""
    n = len(texts)
    items = format_count(n, "item")
    notes, ungraded = [], []
    if n < MIN_ITEMS:
        notes.append(f"{items} {be(n)} too few to show a difference; no significance is claimed")
    for name, fits in fits_by.items():
        by_item, graded = fits[0], len(shared_items(metric, fits))
        abstained, failed = len(by_item) - graded, n - len(by_item)
        if failed:
            notes.append(
                f"{name} failed on {failed:,} of {items}: its score is of the other {len(by_item):,}, "
                "and differences are of items that both answered"
            )
        if abstained and abstained == len(by_item):
            notes.append(f"none of {name}'s {format_count(abstained, 'answer')} could be graded")
        elif abstained:
            ungraded.append(f"{abstained} of {name}")
        empty = sum(not answer.text.strip() for answer in by_item.values())
        if empty:
            notes.append(f"{name} gave an empty answer to {empty} of {items}")
    if ungraded:
        notes.append(f"answers that could not be graded: {', '.join(ungraded)}, of {items} each")
    if (groups := len({item.group for item in texts.values()})) < n:
        kind = "passage" if any(item.passage for item in texts.values()) else "question"
        notes.append(
            f"{items} of {format_count(groups, kind)}: those of one {kind} are no independent "
            f"evidence, so intervals and tests are over {kind}s"
        )
    if 0 < common < n:
        notes.append(f"all contestants were graded on {common} of {items}")
    return notes


def _metric_order(metric: str) -> tuple[int, str]:
    order = ("exact_match", "f1", "contains")
    return (order.index(metric) if metric in order else len(order), metric)


def _standing(
    name: str, fits: Fits, metrics: Sequence[str], group_of: Mapping[str, str]
) -> Standing:
    answers, n = list(fits[0].values()), len(group_of)
    common = {metric: common_grades(metric, group_of, fits) for metric in metrics}
    graded = len(common[metrics[0]][0])
    return Standing(
        contestant=name,
        n=n,
        graded=graded,
        abstained=len(answers) - graded,
        failed=n - len(answers),
        metrics={m: score(side, groups) for m, (groups, (side,)) in common.items() if groups},
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        mean_latency_s=sum(a.latency_s for a in answers) / len(answers) if answers else None,
        cost_usd=total_usd(answer.cost_usd for answer in answers),
    )


def _difference(
    left: str,
    right: str,
    fits_by: Mapping[str, Fits],
    metrics: Sequence[str],
    group_of: Mapping[str, str],
    higher_is_better: bool,
) -> Difference:
    sides = fits_by[left], fits_by[right]
    common = {metric: common_grades(metric, group_of, *sides) for metric in metrics}
    groups, (new, old) = common[metrics[0]]
    moved = gaps(new, old)
    above, below = sum(gap > 0 for gap in moved), sum(gap < 0 for gap in moved)
    wins, losses = (above, below) if higher_is_better else (below, above)
    error, freedom = error_of(new, old, groups) if groups else (0.0, 0.0)
    return Difference(
        left=left,
        right=right,
        n=len(moved),
        metrics={m: difference(a, b, in_) for m, (in_, (a, b)) in common.items() if in_},
        wins=wins,
        losses=losses,
        ties=len(moved) - wins - losses,
        p_value=p_value(new, old, groups),
        binary=all(grade in (0.0, 1.0) for fit in (*new, *old) for grade in fit),
        error=error,
        groups=len(set(groups)),
        fits=(len(new), len(old)),
        freedom=freedom,
        named=_named_part(metrics[0], common),
    )


def _named_part(headline: str, common: Mapping[str, Any]) -> NamedPart | None:
    """What of a difference is content; None where all answers name an option, or none could."""
    if ANSWERED not in common or common[ANSWERED][0] != common[headline][0]:
        return None
    groups, (new, old) = common[headline]
    named = [
        min(fits) == 1.0
        for fits in zip(*(f for side in common[ANSWERED][1] for f in side), strict=True)
    ]
    if all(named):
        return None
    moved = gaps(new, old)
    form = sum(gap for gap, both in zip(moved, named, strict=True) if not both) / len(moved)

    def chosen(fits: Sequence[Sequence[float]]) -> list[list[float]]:
        return [[grade for grade, both in zip(fit, named, strict=True) if both] for fit in fits]

    within = [group for group, both in zip(groups, named, strict=True) if both]
    content = difference(chosen(new), chosen(old), within) if within else None
    return NamedPart(len(within), content, form)


def _missing(fits_by: Mapping[str, Fits], names: Sequence[str]) -> Ratio | None:
    missing = [name for name in names if name not in fits_by]
    return Ratio(None, f"no answers of {' and '.join(missing)}", 0) if missing else None


def _retention(fits_by: Mapping[str, Fits], metric: str, group_of: Mapping[str, str]) -> Ratio:
    """Student's mean over teacher's."""
    if missing := _missing(fits_by, ("student", "teacher")):
        return missing
    groups, sides = common_grades(metric, group_of, fits_by["student"], fits_by["teacher"])
    n = len(groups)
    if not n:
        return Ratio(None, NOT_GRADED, n)
    student, teacher = map(mean_grades, sides)
    below, margin = mean_interval(teacher, groups), seed_margin(sides[0])
    interval = ratio_interval(student, teacher, [(1, 0), (0, 1)], groups, margin)
    if _too_small(below) or interval is None:
        return Ratio(None, f"the teacher's mean is not clearly above zero ({_needed(below, n)})", n)
    if sum(student) > sum(teacher) + 1e-9:
        return Ratio(None, ABOVE, n)
    return Ratio(interval, None, n)


def _gap_closed(fits_by: Mapping[str, Fits], metric: str, group_of: Mapping[str, str]) -> Ratio:
    """(student - base) / (teacher - base)."""
    if missing := _missing(fits_by, ("student", "base", "teacher")):
        return missing
    fits = [fits_by[name] for name in ("student", "base", "teacher")]
    groups, sides = common_grades(metric, group_of, *fits)
    n = len(groups)
    if not n:
        return Ratio(None, NOT_GRADED, n)
    student, base, teacher = map(mean_grades, sides)
    gap = difference_interval(teacher, base, groups)
    moved = [new - old for new, old in zip(student, base, strict=True)]
    whole = [new - old for new, old in zip(teacher, base, strict=True)]
    added = [(1, 0), (0, 1), (-1, -1)]
    interval = ratio_interval(moved, whole, added, groups, seed_margin(sides[0]))
    if _too_small(gap) or interval is None:
        why = f"the gap from base to teacher is not clearly above zero ({_needed(gap, n)})"
        return Ratio(None, why, n)
    if sum(student) > sum(teacher) + 1e-9:
        return Ratio(None, ABOVE, n)
    if sum(student) < sum(base) - 1e-9:
        return Ratio(None, BELOW, n)
    return Ratio(interval, None, n)


def _too_small(below: Interval) -> bool:
    """Whether what would stand below the line is too small, or too uncertain, to divide by."""
    return below.value < LEAST - 1e-9 or below.low < SURE - 1e-9


def _needed(below: Interval, n: int) -> str:
    return (
        f"{points(below.value)} points, {span(below)}, n = {n}; a share needs {points(LEAST)} points "
        f"or more, and {points(SURE)} at the lower end"
    )


def _examples(
    answers_by: Mapping[str, ByItem],
    texts: Mapping[str, ItemText],
    metric: str,
    names: Sequence[str],
    higher_is_better: bool,
) -> tuple[list[GradedExample], list[GradedExample], list[GradedExample]]:
    """Up to ten wins, losses and ties of the student against the base, in order of item.

    Ties whose texts differ come first: a tie of equal texts shows nothing.
    """
    wins: list[GradedExample] = []
    losses: list[GradedExample] = []
    ties: list[GradedExample] = []
    student, base = answers_by.get("student", {}), answers_by.get("base", {})
    new, old = graded_items(student, metric), graded_items(base, metric)
    for item_id, item in texts.items():
        if item_id not in new or item_id not in old:
            continue
        replies = ((name, answers_by[name].get(item_id)) for name in names)
        example = GradedExample(
            item, {name: GradedAnswer(a.text, a.grades.get(metric)) for name, a in replies if a}
        )
        better, worse = new[item_id] > old[item_id], new[item_id] < old[item_id]
        if not higher_is_better:
            better, worse = worse, better
        (wins if better else losses if worse else ties).append(example)
    ties.sort(key=lambda example: example.said["student"].text == example.said["base"].text)
    return wins[:SHOWN], losses[:SHOWN], ties[:SHOWN]
