"""Compare the shingles of two texts exactly, as sets of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quality.gate.sketches import SHINGLE, distinct, runs

_BASE = 7131  # the largest number whose fifth power has 64 bits
_HELD = 4096  # texts whose shingles are held for the comparisons to come
_CODE_POINTS = 0x110000


class ShingleSets:
    """The shingles of texts, those of the last ones asked for at hand.

    A character is a digit to the base 7131, in the order in which characters come up, and a shingle
    is the number that its five digits make: unequal ones have unequal numbers. A text with characters
    that come up after 7130 others is compared as strings, which takes twenty times as long.
    """

    def __init__(self, texts: Sequence[str] | Mapping[int, str]) -> None:
        self._texts = texts
        self._digits = np.zeros(_CODE_POINTS, dtype=np.uint64)  # 0: none yet, and the end of a text
        self._powers = np.array([_BASE**n for n in range(SHINGLE)], dtype=np.uint64)
        self._characters = 0
        self._held: dict[int, NDArray[np.uint64] | None] = {}

    def similarity(self, left: int, right: int) -> float:
        """The Jaccard similarity of two texts, exactly."""
        one, other = self._of(left), self._of(right)
        if one is None or other is None:
            a, b = runs(self._texts[left]), runs(self._texts[right])
            return len(a & b) / len(a | b)
        together = np.concatenate((one, other))
        together.sort()
        common = int(np.count_nonzero(together[1:] == together[:-1]))
        return common / (len(together) - common)

    def _of(self, number: int) -> NDArray[np.uint64] | None:
        if number in self._held:
            return self._held[number]
        if len(self._held) >= _HELD:
            del self._held[next(iter(self._held))]
        found = self._held[number] = self._numbers(self._texts[number])
        return found

    def _numbers(self, text: str) -> NDArray[np.uint64] | None:
        """The different shingles, in order."""
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        count = len(points)
        digits = np.zeros(count + SHINGLE - 1, dtype=np.uint64)
        self._digits.take(points, out=digits[:count], mode="clip")
        if not digits[:count].all():
            new = np.unique(points[digits[:count] == 0])
            if self._characters + len(new) >= _BASE:
                return None
            self._digits[new] = np.arange(len(new)) + self._characters + 1
            self._characters += len(new)
            self._digits.take(points, out=digits[:count], mode="clip")
        numbers = digits[:count] * self._powers[0]
        for place in range(1, SHINGLE):
            numbers += digits[place : place + count] * self._powers[place]
        return distinct(numbers)
