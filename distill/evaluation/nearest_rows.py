"""Find the training rows nearest to the items that the student still answers wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.evaluation.comparison import ItemText
from quality.models.bm25 import Index
from warehouse.records import Answer, Sample, Score


@dataclass(frozen=True)
class Neighbour:
    """A training row near an item."""

    sample_id: str
    question: str
    completion: str
    similarity: float
    """0..1, higher is nearer."""
    scores: dict[str, float | None]
    """Scorer -> value."""
    cost_usd: float | None


@dataclass(frozen=True)
class StillWrong:
    """An item that the student has wrong, with the nearest rows that it was trained on."""

    benchmark: str
    item_id: str
    question: str
    reference: list[str]
    said: str
    neighbours: list[Neighbour]


def find_still_wrong(
    benchmark: str,
    answers: Sequence[Answer],
    items: Sequence[ItemText],
    headline: str,
    kept: Sequence[Sample],
    scores: Sequence[Score],
    costs: Mapping[str, float | None],
    k: int = 3,
    limit: int = 20,
) -> list[StillWrong]:
    """Items that the student has wrong (headline below 0.5), each with its `k` nearest rows.

    `answers` are the student's, `kept` the samples that it was trained on, `costs` what each
    of them cost in US dollars, by sample id. A grade of None is not wrong. Of two scores of a
    sample by one scorer the later one holds.

    Near is by BM25 over question and passage, since words are what a reader can check. A
    similarity is a row's score for the item over the score that the item itself has, at most
    1; rows and items are scored in one index, so that words which no row has count as missing.

    Items with the nearest rows come first, since those rows may be wrong or unclear.
    """
    texts = {item.item_id: item for item in sorted(items, key=lambda item: item.item_id)}
    wrong: dict[str, Answer] = {}
    for answer in sorted(answers, key=lambda a: (a.item_id, a.answer_id)):
        grade = answer.grades.get(headline)
        if answer.item_id in texts and grade is not None and grade < 0.5:
            wrong.setdefault(answer.item_id, answer)
    scores_by_sample: dict[str, dict[str, float | None]] = {}
    for score in scores:
        scores_by_sample.setdefault(score.sample_id, {})[score.scorer] = score.value

    def neighbour(sample: Sample, similarity: float) -> Neighbour:
        return Neighbour(
            sample_id=sample.sample_id,
            question=_question_of(sample),
            completion=sample.completion,
            similarity=similarity,
            scores=dict(sorted(scores_by_sample.get(sample.sample_id, {}).items())),
            cost_usd=costs.get(sample.sample_id),
        )

    rows = sorted(kept, key=lambda sample: sample.sample_id)
    neighbours_of = _nearest(
        [_text(_question_of(s), s.passage) for s in rows], texts, list(wrong), k
    )
    entries = [
        StillWrong(
            benchmark=benchmark,
            item_id=item_id,
            question=texts[item_id].question,
            reference=texts[item_id].reference,
            said=answer.text,
            neighbours=[
                neighbour(rows[at], similarity) for at, similarity in neighbours_of[item_id]
            ],
        )
        for item_id, answer in wrong.items()
    ]
    entries.sort(key=lambda entry: (-_closest(entry), entry.item_id))
    return entries[:limit]


def _nearest(
    rows: Sequence[str], items: Mapping[str, ItemText], item_ids: Sequence[str], k: int
) -> dict[str, list[tuple[int, float]]]:
    """For each wanted item the (position, similarity) of its at most k nearest rows."""
    places = {item_id: len(rows) + number for number, item_id in enumerate(items)}
    queries = {item_id: _text(item.question, item.passage) for item_id, item in items.items()}
    index = Index([*rows, *queries.values()])
    hits = index.search([queries[item_id] for item_id in item_ids], max(1, len(index)))
    nearest = {}
    for item_id, ranked in zip(item_ids, hits, strict=True):
        own = next((hit.score for hit in ranked if hit.position == places[item_id]), 0.0)
        near = [hit for hit in ranked if hit.position < len(rows)][:k]
        nearest[item_id] = [(hit.position, min(1.0, hit.score / own)) for hit in near]
    return nearest


def _closest(entry: StillWrong) -> float:
    return entry.neighbours[0].similarity if entry.neighbours else 0.0


def _question_of(sample: Sample) -> str:
    return sample.question or str(sample.messages[-1]["content"])


def _text(question: str, passage: str | None) -> str:
    return f"{question}\n{passage}" if passage else question
