"""Choose worked examples for each question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from distill.contestants.context import Context, Sources, as_turns
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

    k: Annotated[int, Field(ge=1)] = 4
    """Worked examples."""
    by: Literal["bm25", "jaccard", "embeddings"] = "bm25"
    """What near means: BM25 over the questions, shared words, or the cosine of their vectors."""
    encoder: str = DEFAULT
    """For `embeddings`: a sentence-transformers model, a hub id or a folder."""

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The nearest examples, the nearest last, then the item's messages.

        Raises:
            NothingToDoError: nothing is kept to choose from.
        """
        selection = sorted(sources.kept, key=lambda sample: sample.sample_id)
        if not selection:
            raise NothingToDoError(
                "context 'knn' chooses from the training selection, and it is empty"
            )
        questions = [item.row.prompt for item in items]
        neighbours = self._nearest(questions, [sample.question for sample in selection])
        return [
            [*as_turns(_at_positions(selection, positions[::-1])), *item.messages]
            for item, positions in zip(items, neighbours, strict=True)
        ]

    def description(self) -> str:
        """How many, and by what."""
        return f"up to {self.k} training examples nearest to it ({self.by}), then the question"

    def _nearest(self, questions: Sequence[str], examples: Sequence[str]) -> list[list[int]]:
        """Positions of the nearest others of each question, the nearest first."""
        if self.by == "bm25":
            hits = Index(examples).search(questions, self.k)
            return [[hit.position for hit in hits_of_question] for hits_of_question in hits]
        if self.by == "jaccard":
            word_sets = [_words(text) for text in examples]
            return [_best([_jaccard(_words(q), s) for s in word_sets], self.k) for q in questions]
        encoder = Encoder(self.encoder)
        similarity = encoder.encode(questions) @ encoder.encode(examples).T
        return [_best(row.tolist(), self.k) for row in similarity]


def _at_positions(selection: Sequence[Sample], positions: Sequence[int]) -> list[Sample]:
    return [selection[position] for position in positions]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right) if left or right else 0.0


def _best(values: Sequence[float], k: int) -> list[int]:
    return sorted(range(len(values)), key=lambda position: (-values[position], position))[:k]
