"""Render a bake-off: several tuners on the same samples and seed, with scores and costs.

Pure functions of records. Every difference is paired on items, as in `distill.evaluation.compare`.
With many methods the highest mean is partly luck, so p-values against it are adjusted
(Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from distill.contestants.contestant import CONTROLS
from distill.evaluation.compare import compare
from distill.evaluation.comparison import Comparison, Difference, ItemText
from distill.evaluation.controls import FEWSHOT
from distill.evaluation.statistics import MIN_ITEMS, holm
from distill.evaluation.verdict import gain, is_clear, metric_name, points
from distill.report.report import render
from warehouse.records import Answer
from warehouse.wording import be

BASE = "base"


@dataclass(frozen=True)
class Method:
    """One trained tuner and its cost."""

    label: str
    source: str
    mergeable: bool
    student_id: str
    trainable_parameters: int
    learning_rate: float
    seconds: float
    """Of training, loading and saving included."""
    memory: int | None
    """Peak memory of the training process in bytes; None where not measured."""
    size: int
    """Of the student's files, in bytes."""
    first_loss: float
    last_loss: float


@dataclass(frozen=True)
class BakeoffRow:
    """One row of the table: a method, its standing, and how it differs."""

    label: str
    method: Method | None
    """None for the untuned base and the controls, which need no training."""
    against_base: Difference | None
    against_best: Difference | None
    """None for the best itself and the base; p is adjusted for the number of methods, or of
    controls."""

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

    @property
    def controls(self) -> list[BakeoffRow]:
        """The lines of what needs no training, without the base."""
        return [line for line in self.lines if line.method is None and line.label != BASE]

    def answered_most(self, label: str) -> bool:
        """Whether a method failed on so few items that its mean can be ranked."""
        standing = self.comparison.standing(label)
        return standing is not None and standing.answered_most


@dataclass(frozen=True)
class Bakeoff:
    """The content of a bake-off's page."""

    run_id: str
    plan_name: str
    plan_hash: str
    rows: int
    seed: int
    """The first of the training seeds."""
    methods: list[Method]
    boards: list[Board]
    versions: Mapping[str, str]
    seeds: int = 1
    """Students of each tuner."""
    notes: list[str] = field(default_factory=list)


def board_of(
    benchmark: str,
    answers: Sequence[Answer],
    texts: Sequence[ItemText],
    methods: Sequence[Method],
    headline: str,
    higher_is_better: bool = True,
    other_seeds: Mapping[str, Sequence[Sequence[Answer]]] | None = None,
) -> Board:
    """Rank methods on one benchmark; `answers` name the base, each method's label and controls.

    Controls that answered stand below the base: what no training was needed for.
    `other_seeds`: label -> answers of its further training seeds, as `compare` takes them.

    A method that failed on many items comes last: its mean is of other items.
    """
    labels = [method.label for method in methods]
    given = {answer.contestant for answer in answers}
    controls = [name for name in (FEWSHOT, *CONTROLS) if name in given]
    board = partial(
        compare,
        benchmark,
        answers,
        texts,
        headline,
        contestants=[BASE, *labels, *controls],
        higher_is_better=higher_is_better,
        other_seeds=other_seeds,
    )
    sign = -1 if higher_is_better else 1
    ranks = {
        standing.contestant: (not standing.answered_most, sign * standing.metrics[headline].value)
        for standing in board(pairs=()).standings
        if headline in standing.metrics
    }
    order = sorted(labels, key=lambda label: (*ranks.get(label, (True, math.inf)), label))
    best = order[0]
    everyone = [*labels, *controls]
    pairs = [(label, other) for other in (BASE, best) for label in everyone if label != other]
    comparison = board(pairs=pairs)
    rivals = [label for label in labels if label != best]
    against_best = {
        **_against(comparison, best, rivals),
        **_against(comparison, best, controls),  # another question, so another family
    }
    by_label = {method.label: method for method in methods}
    lines = [
        BakeoffRow(
            label=label,
            method=by_label[label],
            against_base=comparison.difference(label, BASE),
            against_best=against_best.get(label),
        )
        for label in order
    ]
    untrained = [
        BakeoffRow(name, None, comparison.difference(name, BASE), against_best.get(name))
        for name in controls
    ]
    return Board(comparison, best, [*lines, BakeoffRow(BASE, None, None, None), *untrained])


def _against(comparison: Comparison, best: str, labels: Sequence[str]) -> dict[str, Difference]:
    """Each one's difference from the best, adjusted for their number."""
    pairs = {label: d for label in labels if (d := comparison.difference(label, best))}
    p_values = holm([difference.p_value for difference in pairs.values()])
    return {
        label: replace(difference, p_adjusted=p_value, tests=len(pairs))
        for (label, difference), p_value in zip(pairs.items(), p_values, strict=True)
    }


@dataclass(frozen=True)
class BakeoffPlot:
    """Score against trainable parameters. `points` are (label, place, score) from the fewest
    parameters on, `ticks` (parameters, place); places are 0..1 on a log scale."""

    points: list[tuple[str, float, float]]
    ticks: list[tuple[str, float]]


def plot_of(board: Board) -> BakeoffPlot:
    """The plot of a board; no points where no method was graded."""
    metric = board.comparison.headline
    placed = []
    for line in board.lines:
        standing = board.comparison.standing(line.label)
        score = standing.metrics.get(metric) if standing else None
        if score and line.method and line.method.trainable_parameters:
            size = math.log10(line.method.trainable_parameters)
            placed.append((size, line.label, score.value))
    if not placed:
        return BakeoffPlot([], [])
    low, high = math.floor(min(placed)[0]), math.ceil(max(placed)[0] + 1e-9)
    return BakeoffPlot(
        [(label, (size - low) / (high - low), score) for size, label, score in sorted(placed)],
        [(f"{10**n:,}", (n - low) / (high - low)) for n in range(low, high + 1)],
    )


def verdict(board: Board) -> str:
    """One sentence: the highest mean, methods not clearly different from it or worse than the base."""
    standing = board.comparison.standing(board.best)
    metric = board.comparison.headline
    if standing is None or metric not in standing.metrics:
        return "No method answered a held-out item."
    if not standing.answered_most:
        return "Every method failed on too many of the held-out items to be ranked."
    tuned = [line for line in board.lines if line.method]
    close = [
        line.label
        for line in tuned
        if (pair := line.against_best) and metric in pair.metrics and not is_clear(pair, metric)
    ]
    worse = [
        line.label
        for line in tuned
        if (pair := line.against_base)
        and metric in pair.metrics
        and is_clear(pair, metric)
        and gain(board.comparison, pair) < 0
    ]
    text = f"Highest mean: {board.best} with {metric_name(metric)} {points(standing.metrics[metric].value)} %"
    missed = [line.label for line in tuned if not board.answered_most(line.label)]
    if missed:
        text += f" (not ranked because they failed on many items: {', '.join(missed)})"
    if close:
        text += f"; not clearly different from it on these {standing.graded} items: "
        text += ", ".join(close)
    text += (
        f"; worse than the base: {', '.join(worse)}."
        if worse
        else "; none is clearly worse than the base."
    )
    text += _on_controls(board)
    one = any(line.against_base and not line.against_base.is_over_seeds for line in tuned)
    return (
        f"{text} Each tuner was trained once: another seed may change their order." if one else text
    )


def _on_controls(board: Board) -> str:
    """A sentence on which controls the best method beats clearly; empty where none answered."""
    metric = board.comparison.headline
    better: list[str] = []
    level: list[str] = []
    beaten: list[str] = []
    for line in board.controls:
        pair = line.against_best
        if pair is None or pair.n < MIN_ITEMS or metric not in pair.metrics:
            continue
        side = gain(board.comparison, pair) if is_clear(pair, metric) else 0.0
        (better if side > 0 else beaten if side < 0 else level).append(line.label)
    parts = [
        *([f"{_names(better)} clearly better than {board.best}"] if better else []),
        *([f"{_names(level)} not clearly different from {board.best}"] if level else []),
        *([f"{board.best} beats {', '.join(beaten)}"] if beaten else []),
    ]
    return f" Without training: {'; '.join(parts)}." if parts else ""


def _names(labels: Sequence[str]) -> str:
    return f"{', '.join(labels)} {be(len(labels))}"


def render_html(bakeoff: Bakeoff) -> str:
    """One self-contained page without a script."""
    return render("bakeoff.html.j2", **_values(bakeoff))


def render_markdown(bakeoff: Bakeoff) -> str:
    """The same as Markdown."""
    return render("bakeoff.md.j2", **_values(bakeoff))


def _values(bakeoff: Bakeoff) -> dict[str, object]:
    return {
        "bakeoff": bakeoff,
        "verdicts": [verdict(board) for board in bakeoff.boards],
        "plots": [plot_of(board) for board in bakeoff.boards],
    }
