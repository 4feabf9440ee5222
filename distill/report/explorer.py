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
from quality.text.normalize import normalise_answer

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
"""Outcome -> its name; those that tell most come first."""


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
        """The outcome that tells most, by name."""
        shown = [OUTCOMES[name] for name in self.outcomes if name != "differs"]
        return shown[0] if shown else "Not graded"


@dataclass(frozen=True)
class Explorer:
    """What the item explorer shows."""

    entries: list[ExplorerItem]
    left_out: int
    """Items for which there was no room."""
    cut: int
    """Texts that are shown in part."""
    benchmarks: dict[str, int]
    """Benchmark -> its items among those shown; likewise the next two."""
    categories: dict[str, int]
    outcomes: dict[str, int]


def explorer(evaluation: Evaluation, most: int = MOST_ITEMS, room: int = MOST_BYTES) -> Explorer:
    """The items that tell most, in the order in which they were given.

    Where there is no room for all, the items on which the contestants differ stay first,
    taken from each benchmark in turn.
    """
    by_name = {comparison.benchmark: comparison for comparison in evaluation.comparisons}
    entries = [_entry(one, by_name.get(one.benchmark)) for one in evaluation.explored]
    kept = _chosen(entries, most, room)
    shown = [entry for index, entry in enumerate(entries) if index in kept]
    return Explorer(
        entries=shown,
        left_out=len(entries) - len(shown),
        cut=sum(
            len(text) > LONGEST
            for index, one in enumerate(evaluation.explored)
            if index in kept
            for text in (one.question, one.passage or "", *one.said.values())
        ),
        benchmarks=dict(Counter(e.item.benchmark for e in shown)),
        categories=dict(sorted(Counter(e.item.category for e in shown if e.item.category).items())),
        outcomes={
            name: count
            for name in OUTCOMES
            if (count := sum(name in entry.outcomes for entry in shown))
        },
    )


def cut(text: str, longest: int = LONGEST) -> str:
    """A text's beginning, with a mark where it goes on."""
    return text if len(text) <= longest else f"{text[: longest - 2].rstrip()} …"


def _entry(one: Explored, comparison: Comparison | None) -> ExplorerItem:
    lower = comparison is not None and not comparison.higher_is_better
    right = {name: _right(grade, lower) for name, grade in one.grades.items()}
    shown = replace(
        one,
        question=cut(one.question),
        passage=cut(one.passage) if one.passage else None,
        reference=[cut(text, 200) for text in one.reference[:8]],
        said={name: cut(text) for name, text in one.said.items()},
    )
    return ExplorerItem(shown, _outcomes(one, right), right)


def _right(grade: float | None, lower: bool) -> bool | None:
    if grade is None:
        return None
    return grade < 0.5 if lower else grade >= 0.5


def _outcomes(one: Explored, right: Mapping[str, bool | None]) -> list[str]:
    student, base, teacher = (right.get(name) for name in ("student", "base", "teacher"))
    graded = [verdict for verdict in right.values() if verdict is not None]
    texts = [one.said.get(name) for name in ("student", "teacher")]
    held = {
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
    return [name for name in OUTCOMES if held[name]]


def _chosen(entries: Sequence[ExplorerItem], most: int, room: int) -> set[int]:
    """Indices of what is shown, within both limits."""
    order = list(OUTCOMES)
    seen: dict[tuple[str, int], int] = {}
    ranked = []
    for index, entry in enumerate(entries):
        rank = min((order.index(name) for name in entry.outcomes), default=len(order))
        turn = seen[entry.item.benchmark, rank] = seen.get((entry.item.benchmark, rank), 0) + 1
        ranked.append((rank, turn, index))
    kept: set[int] = set()
    for _, _, index in sorted(ranked):
        room -= _bytes(entries[index].item)
        if room < 0 or len(kept) == most:
            break
        kept.add(index)
    return kept


def _bytes(item: Explored) -> int:
    """About what an item takes on the page."""
    texts = (item.question, item.passage or "", *item.reference, *item.said.values())
    size = sum(len(escape(text).encode("utf-8", "replace")) for text in texts)
    return size + 500 + 160 * len(item.said)
