"""Choose worked examples for each question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distill.contestants.context import Context, Sources, in_turns
from quality.models.bm25 import Index
from quality.models.embeddings import DEFAULT, Encoder
from quality.tasks.benchmark import Item
from warehouse.errors import NothingToDoError
from warehouse.records import Message, Sample

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Knn(Context):
    """The k training examples nearest to each question, the nearest last (Liu et al., 2022).

    With good selection, in-context learning can match fine-tuning (Dai et al., 2023), but it
    pays for its examples with every answer.
    """

    needs_selection = True
    searches = True

    k: int = 4
    """Worked examples."""
    by: Literal["bm25", "jaccard", "embeddings"] = "bm25"
    """What near means: BM25 over the questions, shared words, or the cosine of their vectors."""
    encoder: str = DEFAULT
    """For `embeddings`: a sentence-transformers model, a hub id or a folder."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k is 1 or more")

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The nearest examples, the nearest last, then the item's messages.

        Raises:
            NothingToDoError: nothing is kept to choose from.
        """
        kept = sorted(sources.kept, key=lambda sample: sample.sample_id)
        if not kept:
            raise NothingToDoError(
                "context 'knn' chooses from the training selection, and it is empty"
            )
        questions = [item.row.prompt for item in items]
        found = self._nearest(questions, [sample.question for sample in kept])
        return [
            [*in_turns(_named(kept, places[::-1])), *item.messages]
            for item, places in zip(items, found, strict=True)
        ]

    def description(self) -> str:
        """How many, and by what."""
        return f"up to {self.k} training examples nearest to it ({self.by}), then the question"

    def _nearest(self, questions: Sequence[str], others: Sequence[str]) -> list[list[int]]:
        """Positions of the nearest others of each question, the nearest first."""
        if self.by == "bm25":
            hits = Index(others).search(questions, self.k)
            return [[hit.position for hit in found] for found in hits]
        if self.by == "jaccard":
            sets = [_words(text) for text in others]
            return [_best([_jaccard(_words(q), one) for one in sets], self.k) for q in questions]
        encoder = Encoder(self.encoder)
        similarity = encoder.encode(questions) @ encoder.encode(others).T
        return [_best(row.tolist(), self.k) for row in similarity]


def _named(kept: Sequence[Sample], places: Sequence[int]) -> list[Sample]:
    return [kept[place] for place in places]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


def _best(values: Sequence[float], k: int) -> list[int]:
    return sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]
