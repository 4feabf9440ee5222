"""Render a bake-off: several tuners on the same samples and seed, with scores and costs.

Pure functions of records. Every difference is paired on items, as in `distill.evaluation.compare`.
With many methods the best one is best partly by luck, so p-values against it are
adjusted (Holm 1979).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from distill.evaluation.compare import compare
from distill.evaluation.comparison import Comparison, Difference, ItemText
from distill.evaluation.statistics import holm
from distill.evaluation.verdict import gain, is_clear, metric_name, points
from distill.report.report import render
from warehouse.records import Answer

BASE = "base"


@dataclass(frozen=True)
class Method:
    """One trained tuner: what it trains and what it takes."""

    label: str
    source: str
    mergeable: bool
    student_id: str
    trainable_parameters: int
    learning_rate: float
    seconds: float
    """Of training, loading and saving included."""
    memory: int | None
    """The most that the training process held, in bytes; None where nothing was told."""
    size: int
    """Of the student's files, in bytes."""
    first_loss: float
    last_loss: float


@dataclass(frozen=True)
class BakeoffRow:
    """One row of the table: a method, its standing, and how it differs."""

    label: str
    method: Method | None
    """None for the untuned base."""
    against_base: Difference | None
    against_best: Difference | None
    """None for the best itself; p is adjusted for the number of methods."""

    @property
    def p_best(self) -> float | None:
        """Against the best, adjusted for the number of methods."""
        return self.against_best.p_adjusted if self.against_best else None


@dataclass(frozen=True)
class Board:
    """All methods on one benchmark, the best first."""

    comparison: Comparison
    best: str
    lines: list[BakeoffRow]

    def answered_most(self, label: str) -> bool:
        """Whether a method failed on so few items that its mean can be ranked."""
        standing = self.comparison.standing(label)
        return standing is not None and standing.answered_most


@dataclass(frozen=True)
class Bakeoff:
    """What `distill bakeoff` shows."""

    run_id: str
    plan_name: str
    plan_hash: str
    rows: int
    seed: int
    methods: list[Method]
    boards: list[Board]
    versions: Mapping[str, str]


def board_of(
    benchmark: str,
    answers: Sequence[Answer],
    texts: Sequence[ItemText],
    methods: Sequence[Method],
    headline: str,
    higher_is_better: bool = True,
) -> Board:
    """Rank methods on one benchmark; `answers` name the base and each method's label.

    One that failed on many items stands after those that did not: its mean is of other items.
    """
    labels = [method.label for method in methods]
    board = partial(
        compare,
        benchmark,
        answers,
        texts,
        headline,
        contestants=[BASE, *labels],
        higher_is_better=higher_is_better,
    )
    sign = -1 if higher_is_better else 1
    ranks = {
        standing.contestant: (not standing.answered_most, sign * standing.metrics[headline].value)
        for standing in board(pairs=()).standings
        if headline in standing.metrics
    }
    order = sorted(labels, key=lambda label: (*ranks.get(label, (True, math.inf)), label))
    best = order[0]
    pairs = [(label, other) for other in (BASE, best) for label in labels if label != other]
    whole = board(pairs=pairs)
    rivals = [label for label in labels if label != best]
    found = {label: d for label in rivals if (d := whole.difference(label, best))}
    p_values = holm([difference.p_value for difference in found.values()])
    found = {
        label: replace(difference, p_adjusted=p_value, tests=len(found))
        for (label, difference), p_value in zip(found.items(), p_values, strict=True)
    }
    by_label = {method.label: method for method in methods}
    lines = [
        BakeoffRow(
            label=label,
            method=by_label[label],
            against_base=whole.difference(label, BASE),
            against_best=found.get(label),
        )
        for label in order
    ]
    return Board(whole, best, [*lines, BakeoffRow(BASE, None, None, None)])


@dataclass(frozen=True)
class BakeoffPlot:
    """Score against trainable parameters. `points` are (label, place, score) from the fewest
    parameters on, `ticks` (parameters, place); places are 0..1 on a log scale."""

    points: list[tuple[str, float, float]]
    ticks: list[tuple[str, float]]


def plot_of(board: Board) -> BakeoffPlot:
    """The plot of a board; no points where no method was graded."""
    metric = board.comparison.headline
    found = []
    for line in board.lines:
        standing = board.comparison.standing(line.label)
        score = standing.metrics.get(metric) if standing else None
        if score and line.method and line.method.trainable_parameters:
            size = math.log10(line.method.trainable_parameters)
            found.append((size, line.label, score.value))
    if not found:
        return BakeoffPlot([], [])
    low, high = math.floor(min(found)[0]), math.ceil(max(found)[0] + 1e-9)
    return BakeoffPlot(
        [(label, (size - low) / (high - low), score) for size, label, score in sorted(found)],
        [(f"{10**n:,}", (n - low) / (high - low)) for n in range(low, high + 1)],
    )


def verdict(board: Board) -> str:
    """One sentence: the best, who cannot be told from it, who is worse than the base."""
    standing = board.comparison.standing(board.best)
    metric = board.comparison.headline
    if standing is None or metric not in standing.metrics:
        return "No method answered a held-out item."
    if not standing.answered_most:
        return "Every method failed on too many of the held-out items to be ranked."
    near = [
        line.label
        for line in board.lines
        if (pair := line.against_best) and metric in pair.metrics and not is_clear(pair, metric)
    ]
    worse = [
        line.label
        for line in board.lines
        if (pair := line.against_base)
        and metric in pair.metrics
        and is_clear(pair, metric)
        and gain(board.comparison, pair) < 0
    ]
    text = (
        f"Best: {board.best} with {metric_name(metric)} {points(standing.metrics[metric].value)} %"
    )
    missed = [one.label for one in board.lines if one.method and not board.answered_most(one.label)]
    if missed:
        text += f" (not ranked, for they failed on many items: {', '.join(missed)})"
    if near:
        text += f"; on these {standing.graded} items {', '.join(near)} cannot be told from it"
    text += (
        f"; worse than the base: {', '.join(worse)}."
        if worse
        else "; none is clearly worse than the base."
    )
    return text


def render_html(bakeoff: Bakeoff) -> str:
    """One self-contained page without a script."""
    return render("bakeoff.html.j2", autoescape=True, **_values(bakeoff))


def render_markdown(bakeoff: Bakeoff) -> str:
    """The same as Markdown."""
    text = render("bakeoff.md.j2", autoescape=False, **_values(bakeoff))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _values(bakeoff: Bakeoff) -> dict[str, object]:
    return {
        "bakeoff": bakeoff,
        "verdicts": [verdict(board) for board in bakeoff.boards],
        "plots": [plot_of(board) for board in bakeoff.boards],
    }
