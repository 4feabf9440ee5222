"""Place the labels of a chart's points where nothing else is drawn.

Labels are placed one by one, from the top, at the first place near their point that is free
(greedy point-feature labelling, Christensen et al. 1995), with a line to the point where
that is not beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

LEFT, RIGHT, TOP, BOTTOM = 64.0, 700.0, 18.0, 326.0
CHARACTER, LINE = 7.4, 15.0
"""A label's width per character and its height, on the large side."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Mark:
    """A point with its whiskers and label."""

    label: str
    kind: str
    """base | student | teacher | other, or "forecast"."""
    x: float
    y: float
    across: tuple[float, float] | None = None
    """Ends of the whisker along x."""
    along: tuple[float, float] | None = None
    """Ends of the whisker along y."""
    text_x: float = 0.0
    text_y: float = 0.0
    """Left end of the label, and its baseline."""
    led: bool = False
    """Whether a line leads from the label to the point."""


@dataclass(frozen=True)
class Rule:
    """A line across the plot that means something, with its name."""

    label: str
    upright: bool
    at: float
    text_x: float
    text_y: float


def place_labels(
    marks: Sequence[Mark], rules: Sequence[Rule] = (), joined: bool = False
) -> list[Mark]:
    """Place each mark's label away from other labels first, then from drawn shapes."""
    named = [box_of(rule.label, rule.text_x, rule.text_y) for rule in rules]
    obstacles = [box for mark in marks for box in _obstacles_of(mark)]
    if joined:
        line = [mark for mark in marks if mark.kind != "forecast"]
        obstacles += [box for left, right in pairwise(line) for box in _along(left, right)]
    lines = [
        (rule.at - 1, TOP, rule.at + 1, BOTTOM)
        if rule.upright
        else (LEFT, rule.at - 1, RIGHT, rule.at + 1)
        for rule in rules
    ]

    def covered(label: str, place: tuple[float, float, int]) -> list[float]:
        box = box_of(label, *place[:2])
        return [
            *(sum(_shared(box, right) for right in some) for some in (named, obstacles, lines)),
            place[2],
        ]

    placed = list(marks)
    for index in sorted(range(len(marks)), key=lambda index: (marks[index].y, index)):
        mark = marks[index]
        x, y, ring = min(_places(mark), key=partial(covered, mark.label))
        named.append(box_of(mark.label, x, y))
        placed[index] = replace(mark, text_x=round(x, 1), text_y=round(y, 1), led=ring > 1)
    return placed


def box_of(label: str, x: float, y: float) -> Box:
    """The box of a label with this left end and baseline."""
    return (x - 1, y - LINE + 3, x + len(label) * CHARACTER + 1, y + 4)


def _places(mark: Mark) -> Iterable[tuple[float, float, int]]:
    """Places for a label inside the plot, the nearest first: left end, baseline, ring."""
    width = len(mark.label) * CHARACTER
    for ring, away in enumerate((9.0, 9.0, 24.0, 40.0, 56.0, 72.0, 90.0, 110.0, 130.0)):
        right_of, rise = mark.x + away, 0.0 if ring == 0 else away + 4
        for left in (right_of, mark.x - away - width):
            for shift in (-rise, rise):
                x, y = left, mark.y + 4 + shift
                if x >= LEFT and x + width <= RIGHT and TOP + LINE <= y <= BOTTOM - 4:
                    yield x, y, ring
    yield min(max(LEFT + 2, mark.x - width / 2), RIGHT - width), max(TOP + LINE, mark.y - 12), 9


def _obstacles_of(mark: Mark) -> Iterable[Box]:
    yield mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6
    if mark.across:
        yield mark.across[0], mark.y - 4, mark.across[1], mark.y + 4
    if mark.along:
        yield mark.x - 4, min(mark.along), mark.x + 4, max(mark.along)


def _along(start: Mark, end: Mark) -> Iterable[Box]:
    """Boxes along a line between two marks."""
    steps = 24
    for step in range(1, steps):
        x = start.x + (end.x - start.x) * step / steps
        y = start.y + (end.y - start.y) * step / steps
        yield x - 3, y - 3, x + 3, y + 3


def _shared(left: Box, right: Box) -> float:
    """The area of the overlap."""
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    return width * height if width > 0 and height > 0 else 0.0
