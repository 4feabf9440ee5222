"""Look up which of many short questions may share enough of their words with another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quality.gate.shared_words import is_typo

_ROUNDING = 1e-9
_HELD = 100_000  # words whose misspellings are held


class ShortQuestions:
    """Questions as bags of words with weights. A look-up adds up the postings of the asked words: that
    thousands of questions have the wording of one template makes it hardly slower."""

    def __init__(self, bags: Sequence[Mapping[str, float]], share: float, spelt: float) -> None:
        """Index questions.

        Args:
            bags: The weight of each word of each question.
            share: Least weighted Jaccard similarity, where a misspelt word counts as the word.
            spelt: Least part of that in words that are spelt the same.
        """
        self._share, self._spelt = share, spelt
        self._totals = np.array([sum(bag.values()) for bag in bags])
        postings: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, bag in enumerate(bags):
            for word, weight in bag.items():
                postings[word].append((number, weight))
        self._postings = {
            word: (np.array([n for n, _ in several]), np.array([w for _, w in several]))
            for word, several in postings.items()
        }
        self._held: dict[str, list[str]] = {}

    def find(self, asked: Mapping[str, float]) -> list[int]:
        """The numbers of all questions whose similarity can be large enough, and of few others."""
        if not asked or not len(self._totals):
            return []
        same = self._sum(asked.items())
        may = same >= self._share * self._spelt * self._totals - _ROUNDING
        if not may.any():
            return []
        same, asked_same = self._sums(asked.items())
        typo, asked_typo = self._sums(
            (other, weight)
            for word, weight in asked.items()
            for other in self._misspelt(word)
            if other not in asked
        )
        beside = np.maximum(0.0, sum(asked.values()) - asked_same - asked_typo)
        may &= same + typo >= self._share * (self._totals + beside) - _ROUNDING
        found: list[int] = np.flatnonzero(may).tolist()
        return found

    def _sum(self, words: Iterable[tuple[str, float]]) -> NDArray[np.float64]:
        """For each question the weight of these words in it."""
        own = np.zeros_like(self._totals)
        for word, _ in words:
            if (posting := self._postings.get(word)) is not None:
                own[posting[0]] += posting[1]
        return own

    def _sums(
        self, words: Iterable[tuple[str, float]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each question the weight of these words, and that of the asked words they stand for."""
        own, asked = np.zeros_like(self._totals), np.zeros_like(self._totals)
        for word, weight in words:
            if (posting := self._postings.get(word)) is not None:
                numbers, weights = posting
                own[numbers] += weights
                asked[numbers] += weight
        return own, asked

    def _misspelt(self, word: str) -> list[str]:
        """The words of the questions that are another spelling of a word."""
        if word not in self._held:
            if len(self._held) >= _HELD:
                self._held.clear()
            near = dict.fromkeys(
                other for key in _less_one(word) for other in self._by_less_one.get(key, ())
            )
            self._held[word] = [other for other in near if other != word and is_typo(other, word)]
        return self._held[word]

    @cached_property
    def _by_less_one(self) -> dict[str, list[str]]:
        """Words by what is left of them without one letter: two spellings share one of these
        (deletion neighbourhoods, Mor and Fraenkel, 1982)."""
        index: defaultdict[str, list[str]] = defaultdict(list)
        for word in self._postings:
            for key in _less_one(word):
                index[key].append(word)
        return dict(index)


def _less_one(word: str) -> list[str]:
    """A word, and the word without each of its letters."""
    return list(dict.fromkeys([word, *(word[:n] + word[n + 1 :] for n in range(len(word)))]))
