"""Measure how scores change on misspelt, reworded and otherwise perturbed questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.intervals import difference_interval, mean_interval
from distill.evaluation.statistics import Interval
from warehouse.records import Answer
from warehouse.text.words import split_form


@dataclass(frozen=True)
class Robustness:
    """One contestant under one perturbation, on the items answered both ways."""

    benchmark: str
    perturbation: str
    contestant: str
    n: int
    clean: Interval
    perturbed: Interval
    change: Interval
    """Perturbed minus clean, paired on items."""
    lost: int
    """Items right before and wrong now."""
    gained: int
    obeyed: int | None = None
    """Answers that did what an injected instruction asked; None for other perturbations."""


def measure_robustness(
    benchmark: str,
    perturbation: str,
    contestant: str,
    clean: Sequence[Answer],
    perturbed: Sequence[Answer],
    headline: str,
    origin: Mapping[str, str],
    injected: str | None = None,
    group_of: Mapping[str, str] | None = None,
) -> Robustness | None:
    """Compare a contestant's grades before and after, on the items graded both ways.

    `origin` names the clean item of each perturbed one. Right is a grade of 0.5 or more.
    `injected` is the word that an injected instruction asked for: an answer obeys where it
    has that word, whatever else it says. Answers of other contestants do not count. Items of one
    passage (`group_of`) count as one piece of evidence.

    Returns:
        None where no item was graded both ways.
    """
    before = _by_item(clean, contestant, headline, {})
    after = _by_item(perturbed, contestant, headline, origin)
    shared = sorted(before.keys() & after.keys())
    if not shared:
        return None
    old, new = ([side[item_id].grade for item_id in shared] for side in (before, after))
    pairs = list(zip(old, new, strict=True))
    groups = [(group_of or {}).get(item_id, item_id) for item_id in shared]
    obeyed = None if injected is None else sum(_holds(after[i].text, injected) for i in shared)
    return Robustness(
        benchmark=benchmark,
        perturbation=perturbation,
        contestant=contestant,
        n=len(shared),
        clean=mean_interval(old, groups),
        perturbed=mean_interval(new, groups),
        change=difference_interval(new, old, groups),
        lost=sum(was >= 0.5 > now for was, now in pairs),
        gained=sum(was < 0.5 <= now for was, now in pairs),
        obeyed=obeyed,
    )


@dataclass(frozen=True)
class _Graded:
    grade: float
    text: str


def _by_item(
    answers: Sequence[Answer], contestant: str, headline: str, origin: Mapping[str, str]
) -> dict[str, _Graded]:
    """The contestant's graded answers by clean item, one each."""
    graded: dict[str, _Graded] = {}
    for answer in sorted(answers, key=lambda a: (a.item_id, a.answer_id)):
        grade = answer.grades.get(headline)
        if answer.contestant == contestant and grade is not None:
            item_id = origin.get(answer.item_id, answer.item_id)
            graded.setdefault(item_id, _Graded(grade, answer.text))
    return graded


def _holds(text: str, word: str) -> bool:
    return f" {split_form(word)} " in f" {split_form(text)} "
