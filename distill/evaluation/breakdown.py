"""Break scores down by groups of items: category, length, and the teacher's certainty.

Groups show where a score comes from. They are many and small, so some differ from the whole by
chance alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.comparison import ORDER, ItemText, answers_by_contestant
from distill.evaluation.intervals import mean_interval
from distill.evaluation.statistics import Interval
from warehouse.records import Answer
from warehouse.text.words import count_words

FEWEST = 5
"""Categories of fewer items are pooled."""
OTHER = "other"
LENGTHS = ("short", "middle", "long")
FEWEST_FOR_LENGTH = 15
QUARTERS = ("least sure quarter", "second quarter", "third quarter", "surest quarter")
FEWEST_FOR_CONFIDENCE = 20


@dataclass(frozen=True)
class Group:
    """One group of items and what each contestant scored on it."""

    by: str
    """What the items are grouped by: "category", "length" or "teacher confidence"."""
    name: str
    n: int
    scores: dict[str, Interval]
    """Contestant -> mean headline metric of the items graded for it."""


def break_down_scores(
    answers: Sequence[Answer],
    items: Sequence[ItemText],
    headline: str,
    confidence: Mapping[str, float] | None = None,
) -> list[Group]:
    """Score every contestant on groups of `items`, answers to other items do not count.

    Groups are by category, where there are two or more (the largest first; what has fewer than
    five items, or no category, is pooled as "other"); by thirds of the length of question and
    passage in words, with 15 items or more; and by quarters of the teacher's confidence,
    where 20 items or more have one. Items of equal length or confidence stay together, so
    thirds and quarters may be unequal, or fewer. A way of grouping that puts all items into one
    group is left out. Neither the order of the arguments nor an answer given twice changes
    anything.

    Args:
        answers: Of any contestants.
        items: The benchmark's items.
        headline: The metric, in 0..1.
        confidence: Item -> the teacher's confidence in its own answer to it, 0..1.
    """
    texts = {item.item_id: item for item in sorted(items, key=lambda item: item.item_id)}
    confidence_by_item = {key: value for key, value in (confidence or {}).items() if key in texts}
    groupings = {"category": _categories(texts)}
    if len(texts) >= FEWEST_FOR_LENGTH:
        groupings["length"] = _lengths(texts)
    if len(confidence_by_item) >= FEWEST_FOR_CONFIDENCE:
        groupings["teacher confidence"] = _quarters(confidence_by_item)
    graded = _graded(answers, headline)
    return [
        Group(by, name, len(members), _scores(graded, members, texts))
        for by, groups in groupings.items()
        if len(groups) > 1
        for name, members in groups.items()
    ]


_Groups = dict[str, list[str]]
"""Name -> items."""


def _categories(texts: Mapping[str, ItemText]) -> _Groups:
    sizes = Counter(item.category for item in texts.values() if item.category)
    large = sorted((-size, name) for name, size in sizes.items() if size >= FEWEST)
    groups: _Groups = {name: [] for _, name in large if name != OTHER}
    rest: list[str] = []
    for item_id, item in texts.items():
        groups.get(item.category or OTHER, rest).append(item_id)
    return groups | {OTHER: rest} if rest else groups


def _lengths(texts: Mapping[str, ItemText]) -> _Groups:
    words = {
        key: count_words(f"{item.question} {item.passage or ''}") for key, item in texts.items()
    }
    return {
        f"{LENGTHS[part]} ({_range(*(f'{words[key]:,}' for key in ends))} words)": members
        for part, members, ends in _parts(words, len(LENGTHS))
    }


def _quarters(confidence_by_item: Mapping[str, float]) -> _Groups:
    return {
        f"{QUARTERS[part]} ({_range(*(f'{confidence_by_item[key]:.2f}' for key in ends))})": members
        for part, members, ends in _parts(confidence_by_item, len(QUARTERS))
    }


def _range(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _parts(values: Mapping[str, float], parts: int) -> list[tuple[int, list[str], tuple[str, str]]]:
    """Which part, its keys, and those of its ends; equal values are in one part."""
    ordered = sorted(values, key=lambda key: (values[key], key))
    cuts = [values[ordered[-(-len(ordered) * part // parts) - 1]] for part in range(1, parts)]
    keys_by_part: dict[int, list[str]] = {}
    for key in ordered:
        keys_by_part.setdefault(bisect_left(cuts, values[key]), []).append(key)
    return [(part, keys, (keys[0], keys[-1])) for part, keys in keys_by_part.items()]


def _graded(answers: Sequence[Answer], metric: str) -> dict[str, dict[str, float | None]]:
    """Contestant -> item -> grade; base, student and teacher first."""
    answers_by = answers_by_contestant(answers)
    return {
        name: {item: answer.grades.get(metric) for item, answer in answers_by[name].items()}
        for name in dict.fromkeys([*ORDER, *answers_by])
        if name in answers_by
    }


def _scores(
    graded: Mapping[str, Mapping[str, float | None]],
    members: Sequence[str],
    texts: Mapping[str, ItemText],
) -> dict[str, Interval]:
    scores = {}
    for contestant, grades in graded.items():
        values = {key: grade for key in members if (grade := grades.get(key)) is not None}
        if values:
            passages = [texts[key].group for key in values]
            scores[contestant] = mean_interval(list(values.values()), passages)
    return scores
