"""Select and shorten the items that the report shows, and state the outcome of each.

Every outcome is a plain fact of the headline grades: right is 0.5 or more (less, where
lower is better), and an item that was not graded is neither right nor wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from distill.evaluation.comparison import Comparison
from distill.evaluation.findings import Evaluation, Explored
from warehouse.text.normalize import normalise_answer

LONGEST = 700
"""Characters of a question, passage or answer that are shown."""
MOST_BYTES = 1_900_000
"""Of all items together as HTML; the page as a whole is to stay below 3 MB."""
MOST_ITEMS = 1_500
OUTCOMES = {
    "won": "Student right, base wrong",
    "lost": "Student wrong, base right",
    "behind": "Student wrong, teacher right",
    "ahead": "Student right, teacher wrong",
    "wrong": "Student wrong",
    "right": "Student right",
    "none": "All wrong",
    "all": "All right",
    "differs": "Student and teacher answer differently",
    "ungraded": "Not graded for the student",
}
"""Outcome -> its name, the most informative first."""


@dataclass(frozen=True)
class ExplorerItem:
    """One item as the page shows it."""

    item: Explored
    """Texts cut."""
    outcomes: list[str]
    right: dict[str, bool | None]
    """Contestant -> whether it is right; None where it was not graded."""

    @property
    def outcome_text(self) -> str:
        """The name of the most informative outcome."""
        names = [OUTCOMES[name] for name in self.outcomes if name != "differs"]
        return names[0] if names else "Not graded"


@dataclass(frozen=True)
class Explorer:
    """What the item explorer shows."""

    entries: list[ExplorerItem]
    left_out: int
    """Items left out for space."""
    cut: int
    """Shortened texts."""
    benchmarks: dict[str, int]
    """Benchmark -> its items among those shown; likewise the next two."""
    categories: dict[str, int]
    outcomes: dict[str, int]


def explorer(evaluation: Evaluation, most: int = MOST_ITEMS, room: int = MOST_BYTES) -> Explorer:
    """Select the most informative items, in their original order.

    Where space is short, items on which the contestants differ come first, from each benchmark
    in turn.
    """
    by_name = {comparison.benchmark: comparison for comparison in evaluation.comparisons}
    entries = [_entry(item, by_name.get(item.benchmark)) for item in evaluation.explored]
    chosen = _chosen(entries, most, room)
    shown = [entry for index, entry in enumerate(entries) if index in chosen]
    return Explorer(
        entries=shown,
        left_out=len(entries) - len(shown),
        cut=sum(
            len(text) > LONGEST
            for index, item in enumerate(evaluation.explored)
            if index in chosen
            for text in (item.question, item.passage or "", *item.said.values())
        ),
        benchmarks=dict(Counter(e.item.benchmark for e in shown)),
        categories=dict(sorted(Counter(e.item.category for e in shown if e.item.category).items())),
        outcomes={
            name: count for name in OUTCOMES if (count := sum(name in e.outcomes for e in shown))
        },
    )


def cut(text: str, longest: int = LONGEST) -> str:
    """A text's beginning, with a mark where it goes on."""
    return text if len(text) <= longest else f"{text[: longest - 2].rstrip()} …"


def _entry(item: Explored, comparison: Comparison | None) -> ExplorerItem:
    lower = comparison is not None and not comparison.higher_is_better
    right = {name: _right(grade, lower) for name, grade in item.grades.items()}
    shortened = replace(
        item,
        question=cut(item.question),
        passage=cut(item.passage) if item.passage else None,
        reference=[cut(text, 200) for text in item.reference[:8]],
        said={name: cut(text) for name, text in item.said.items()},
    )
    return ExplorerItem(shortened, _outcomes(item, right), right)


def _right(grade: float | None, lower: bool) -> bool | None:
    if grade is None:
        return None
    return grade < 0.5 if lower else grade >= 0.5


def _outcomes(item: Explored, right: Mapping[str, bool | None]) -> list[str]:
    student, base, teacher = (right.get(name) for name in ("student", "base", "teacher"))
    graded = [verdict for verdict in right.values() if verdict is not None]
    texts = [item.said.get(name) for name in ("student", "teacher")]
    is_so = {
        "won": student is True and base is False,
        "lost": student is False and base is True,
        "behind": student is False and teacher is True,
        "ahead": student is True and teacher is False,
        "wrong": student is False,
        "right": student is True,
        "none": bool(graded) and not any(graded),
        "all": bool(graded) and all(graded),
        "differs": None not in texts and len({normalise_answer(text or "") for text in texts}) > 1,
        "ungraded": student is None,
    }
    return [name for name in OUTCOMES if is_so[name]]


def _chosen(entries: Sequence[ExplorerItem], most: int, room: int) -> set[int]:
    """Indices of the items to show, within both limits."""
    order = list(OUTCOMES)
    turns: dict[tuple[str, int], int] = {}
    ranked = []
    for index, entry in enumerate(entries):
        rank = min((order.index(name) for name in entry.outcomes), default=len(order))
        turn = turns[entry.item.benchmark, rank] = turns.get((entry.item.benchmark, rank), 0) + 1
        ranked.append((rank, turn, index))
    chosen: set[int] = set()
    for _, _, index in sorted(ranked):
        room -= _bytes(entries[index].item)
        if room < 0 or len(chosen) == most:
            break
        chosen.add(index)
    return chosen


def _bytes(item: Explored) -> int:
    """Approximate size of an item on the page."""
    texts = (item.question, item.passage or "", *item.reference, *item.said.values())
    size = sum(len(escape(text).encode("utf-8", "replace")) for text in texts)
    return size + 500 + 160 * len(item.said)
