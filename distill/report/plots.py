"""Compute the positions of marks and scales of the report's charts, in SVG units.

Geometry alone: the templates draw it, and `distill.report.label_placement` finds places for the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distill.evaluation.comparison import Comparison
from distill.evaluation.economics import Economy
from distill.evaluation.scaling import Scaling
from distill.evaluation.statistics import Interval
from distill.evaluation.style_facts import StyleFacts
from distill.report.label_placement import (
    BOTTOM,
    CHARACTER,
    LEFT,
    RIGHT,
    TOP,
    Box,
    Mark,
    Rule,
    place_labels,
)
from warehouse.wording import format_count


@dataclass(frozen=True)
class Plot:
    """A scatter plot, ready to be drawn."""

    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[Mark]
    desc: str
    """The same figures in words."""
    rules: list[Rule] = field(default_factory=list)
    joined: bool = False
    """Whether a line goes from mark to mark, the forecast left out."""
    left_out: list[str] = field(default_factory=list)
    """Contestants without a place on the scale, for example without a known price."""
    box: Box = (LEFT, TOP, RIGHT, BOTTOM)


@dataclass(frozen=True)
class Scale:
    """Maps values to positions."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value, inside the plot."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def whisker(self, interval: Interval) -> tuple[float, float]:
        """The places of an interval's ends."""
        return self.at(interval.low), self.at(interval.high)


def kind_of(contestant: str) -> str:
    """The colour of a contestant: its own for base, student and teacher."""
    return contestant if contestant in ("base", "student", "teacher") else "other"


def top_of(values: Iterable[float]) -> float:
    """The end of a scale from zero that holds all values: 0.05, 0.1, 0.2, 0.5 or 1, or more."""
    most = max(values, default=1.0)
    ends = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    return next((end for end in ends if most <= end), math.ceil(most))


def headline_top(comparison: Comparison) -> float:
    """The end of the scale for a comparison's headline."""
    intervals = (s.metrics.get(comparison.headline) for s in comparison.standings)
    return top_of(interval.high for interval in intervals if interval)


def cost_plot(lines: Sequence[Economy]) -> Plot | None:
    """Score against US dollars per 1,000 answers on a log scale; None with fewer than two prices."""
    priced = [(line, line.usd_per_1000, line.score) for line in lines]
    placed = [(line, usd, score) for line, usd, score in priced if usd and usd > 0 and score]
    if len(placed) < 2:
        return None
    low = min(math.log10(usd) for _, usd, _ in placed)
    high = max(math.log10(usd) for _, usd, _ in placed)
    margin = max(0.15, 0.08 * (high - low))
    x = Scale(low - margin, high + margin, LEFT, RIGHT)
    top = top_of(score.high for _, _, score in placed)
    y = Scale(0.0, top, BOTTOM, TOP)
    marks = [
        Mark(
            line.contestant,
            kind_of(line.contestant),
            x.at(math.log10(usd)),
            y.at(score.value),
            along=y.whisker(score),
        )
        for line, usd, score in placed
    ]
    plotted = {line.contestant for line, _, _ in placed}
    ticks = [(n, m) for n in range(math.floor(x.low), math.ceil(x.high) + 1) for m in (1, 2, 5)]
    return Plot(
        x_ticks=[
            (x.at(n + math.log10(m)), _dollars(m * 10.0**n))
            for n, m in ticks
            if x.low <= n + math.log10(m) <= x.high and (m == 1 or high - low < 2)
        ],
        y_ticks=_shares(y),
        marks=place_labels(marks),
        desc=" ".join(
            f"{line.contestant}: {100 * score.value:.1f} % at {usd:.3g} dollars."
            for line, usd, score in placed
        ),
        left_out=[line.contestant for line in lines if line.contestant not in plotted],
    )


def plane_plot(lines: Sequence[StyleFacts]) -> Plot | None:
    """Share of the distance to the teacher's style covered (x) against change in content (y); None where neither is known."""
    candidates = [(line, line.style, line.facts) for line in lines if line.style and line.facts]
    placed = [
        (line.benchmark, style, facts) for line, style, facts in candidates if style and facts
    ]
    if not placed:
        return None
    left = max(-1.0, min(-0.25, *(style.low for _, style, _ in placed)))
    right = 1.25  # a share is at most 1
    reach = max(abs(end) for _, _, facts in placed for end in (facts.low, facts.high))
    half = next(end for end in (0.05, 0.1, 0.2, 0.4, 0.6, 1.0) if reach <= end or end == 1.0)
    x, y = Scale(left, right, LEFT, RIGHT), Scale(-half, half, BOTTOM, TOP)
    marks = [
        Mark(
            name,
            "student",
            x.at(style.value),
            y.at(facts.value),
            across=x.whisker(style),
            along=y.whisker(facts),
        )
        for name, style, facts in placed
    ]
    rules = [
        Rule("base's style", True, x.at(0.0), x.at(0.0) + 5, TOP + 12),
        Rule("teacher's style", True, x.at(1.0), x.at(1.0) + 5, TOP + 12),
        Rule("same content", False, y.at(0.0), LEFT + 5, y.at(0.0) - 5),
    ]
    steps = [left + 0.25 * n for n in range(int((right - left) / 0.25) + 1)]
    rounded = [round(step * 4) / 4 for step in steps]
    return Plot(
        x_ticks=[
            (x.at(s), f"{100 * s:.0f} %") for s in rounded if left <= s <= right and s % 0.5 == 0
        ],
        y_ticks=[
            (y.at(s * half), f"{100 * s * half:+.0f}" if s else "0") for s in (-1, -0.5, 0, 0.5, 1)
        ],
        marks=place_labels(marks, rules),
        desc=" ".join(
            f"{name}: {100 * style.value:.0f} % of the distance in style covered, content {100 * facts.value:+.1f} points."
            for name, style, facts in placed
        ),
        rules=rules,
    )


def scaling_plot(scaling: Scaling) -> Plot | None:
    """Score against rows on a log scale, the base as a line, the forecast apart; None without points."""
    if not scaling.points:
        return None
    rows = [max(1, point.rows) for point in scaling.points]
    most = 2 * max(rows) if scaling.forecast else max(rows)
    low, high = math.log2(min(rows)), math.log2(most)
    margin = max(0.3, 0.08 * (high - low))
    x = Scale(low - margin, high + margin, LEFT, RIGHT)
    scores = [point.score for point in scaling.points]
    extra = [interval for interval in (scaling.base, scaling.forecast) if interval]
    y = Scale(0.0, top_of(interval.high for interval in (*scores, *extra)), BOTTOM, TOP)
    marks = [
        Mark(
            f"{100 * s.value:.1f} %",
            "student",
            x.at(math.log2(n)),
            y.at(s.value),
            along=y.whisker(s),
        )
        for n, s in zip(rows, scores, strict=True)
    ]
    if forecast := scaling.forecast:
        place, height = x.at(math.log2(most)), y.at(forecast.value)
        label = f"{100 * forecast.value:.1f} % forecast"
        marks.append(Mark(label, "forecast", place, height, along=y.whisker(forecast)))
    rules = []
    if scaling.base:
        at = y.at(scaling.base.value)
        label = f"base, no rows: {100 * scaling.base.value:.1f} %"
        rules.append(Rule(label, False, at, RIGHT - len(label) * CHARACTER, at + 15))
    ticks = sorted({*rows, most})
    return Plot(
        x_ticks=[(x.at(math.log2(n)), f"{n:,}") for n in ticks],
        y_ticks=_shares(y),
        marks=place_labels(marks, rules, joined=True),
        desc=" ".join(
            f"{format_count(p.rows, 'row')}: {100 * p.score.value:.1f} %." for p in scaling.points
        ),
        rules=rules,
        joined=True,
    )


def _shares(scale: Scale) -> list[tuple[float, str]]:
    steps = [scale.high * part / 4 for part in range(5)]
    digits = 0 if all(abs(step * 100 - round(step * 100)) < 1e-9 for step in steps) else 1
    return [(scale.at(step), f"{100 * step:.{digits}f} %" if step else "0") for step in steps]


def _dollars(usd: float) -> str:
    return f"${usd:,.0f}" if usd >= 1 else f"${usd:.10f}".rstrip("0")
