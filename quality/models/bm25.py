"""Retrieve the texts nearest to a query by BM25 (Robertson and Zaragoza, 2009; bm25s: Lù, 2024)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from warehouse.text import words


@dataclass(frozen=True)
class Hit:
    """One text found: its position among the indexed ones and its BM25 score, above zero."""

    position: int
    score: float


class Index:
    """A BM25 index over texts, in memory; k1 = 1.5, b = 0.75, English stop words left out.

    Scripts without spaces count by characters and pairs of them, as Lucene's CJK analyser does
    with unigrams put out, or by words (`warehouse.text.words`).

    The same texts and query give the same hits on any day: equal scores are ordered by position.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s  # type: ignore[import-untyped]

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self._size = len(texts)
        self._vocabulary: dict[str, int] = {}
        rows = [
            [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in _words(text)]
            for text in texts
        ]
        self._bm25: Any = None
        if self._vocabulary:  # bm25s divides by the mean length of the texts
            self._bm25 = bm25s.BM25()
            self._bm25.index(
                (rows, self._vocabulary), create_empty_token=False, show_progress=False
            )

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The at most k best texts for each query, best first; a text with no word of it is none.

        A word counts once, however often a query has it.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError("k is at least 1")
        return [self._best(query, k) for query in queries]

    def _best(self, query: str, k: int) -> list[Hit]:
        import numpy as np

        known = (self._vocabulary.get(word) for word in dict.fromkeys(_words(query)))
        ids = [number for number in known if number is not None]
        if self._bm25 is None or not ids:
            return []
        scores = self._bm25.get_scores_from_ids(ids)
        hits = np.flatnonzero(scores > 0)
        if len(hits) > k:  # all that reach the k-th score, so that ties go by position
            least = np.partition(scores[hits], len(hits) - k)[len(hits) - k]
            hits = hits[scores[hits] >= least]
        order = np.argsort(-scores[hits], kind="stable")[:k]
        return [Hit(int(hits[n]), float(scores[hits[n]])) for n in order]


def _words(text: str) -> Iterator[str]:
    from bm25s.stopwords import STOPWORDS_EN  # type: ignore[import-untyped]

    stop_words = frozenset(STOPWORDS_EN)
    for word in words.split_at_signs(words.caseless(text)):
        yield from (part for part in word if part not in stop_words)
        yield from map("".join, pairwise(word))
