"""Weigh the words of texts by how rare they and their surroundings are among the rows of a run.

What many rows share, such as the wording of a prompt template, tells nothing about one of them.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

RUN = 3  # words
_FEW = 2.0  # texts that may share a run by chance, however few there are
_UNTOLD = 0.01  # of those: a run in fewer counts as if one text had it, where texts are many
_MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_TEXT_BITS = np.uint64(24)
_HASH_BITS = 40
_CHUNK = 4_000_000  # words that are counted at once
_Words = Sequence[str]
_Hashes = NDArray[np.uint64]


class RunCounts:
    """How many of the texts have each run of three words.

    Texts should be different ones: what is only asked several times is not common. Memory is eight
    bytes for each word of the texts, at most, and what is common afterwards.
    """

    def __init__(self, texts: Iterable[_Words], few: float | None = None) -> None:
        """Count over texts, each given as its words.

        `few` texts may share a run by chance; left out, one in a hundred.

        Raises:
            ValueError: more than 16,777,215 texts.
        """
        ids: defaultdict[str, int] = defaultdict(count().__next__)
        tokens, lengths = array("I"), array("I")
        for words in texts:
            tokens.extend(map(ids.__getitem__, words))
            lengths.append(len(words))
        self._ids = dict(ids)
        self.texts = len(lengths)
        if self.texts >= 1 << int(_TEXT_BITS):
            raise ValueError(f"words are counted over at most 16,777,215 texts, not {self.texts:,}")
        self._few = few or max(_FEW, self.texts / 100)
        self._tokens: NDArray[np.uint32] | None = np.frombuffer(tokens, dtype=np.uint32)
        self._lengths: NDArray[np.uint32] | None = np.frombuffer(lengths, dtype=np.uint32)
        self._common = self._often(RUN, max(1, self._few * _UNTOLD))

    def forget_texts(self) -> None:
        """Let go of the texts themselves: `lone_words` is not asked for."""
        self._tokens = self._lengths = None

    def _chunks(self) -> Iterator[tuple[_Hashes, _Hashes, NDArray[np.uint32]]]:
        """The words of some texts, the texts they are in and how many each has, until all had
        their turn."""
        if self._tokens is None or self._lengths is None:
            raise ValueError("the texts were let go of")
        stops = np.cumsum(self._lengths, dtype=np.int64)
        first = 0
        while first < self.texts:
            begin = int(stops[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(stops, begin + _CHUNK, side="right")))
            lengths = self._lengths[first:last]
            of_text = np.repeat(np.arange(first, last, dtype=np.uint64), lengths)
            yield self._tokens[begin : int(stops[last - 1])].astype(np.uint64), of_text, lengths
            first = last

    def _often(self, length: int, least: float) -> tuple[_Hashes, NDArray[np.int64]]:
        """The runs of a length that more than so many texts have, in order, and how many have them.

        They are counted by parts of the hashes' range, so that few are held at once.
        """
        words = 0 if self._tokens is None else len(self._tokens)
        parts = 1 << (words // (4 * _CHUNK)).bit_length()
        shift = np.uint64(_HASH_BITS - parts.bit_length() + 1)
        found: list[tuple[_Hashes, NDArray[np.int64]]] = []
        for part in range(parts):
            pairs: list[_Hashes] = []
            for numbers, of_text, _ in self._chunks():
                within = _is_within(of_text, length)
                runs, texts = _hashes(numbers, length)[within], of_text[: len(within)][within]
                if parts > 1:
                    here = (runs >> shift) == part
                    runs, texts = runs[here], texts[here]
                pairs.append((runs << _TEXT_BITS) | texts)
            together = np.concatenate(pairs) if pairs else np.zeros(0, np.uint64)
            del pairs
            together.sort()
            values, counts = _counted(together)
            often = counts > least
            found.append((values[often], counts[often]))
        return np.concatenate([v for v, _ in found]), np.concatenate([c for _, c in found])

    def _ids_of(self, words: _Words) -> _Hashes:
        new = len(self._ids)
        return np.array([self._ids.get(word, new) for word in words], dtype=np.uint64)

    def repeats(self, words: _Words) -> list[int]:
        """For each word, in how many texts the commonest of the runs stands that it is in.

        Among more than ten thousand texts, a run that at most one in ten thousand has counts as one.
        """
        repeats: list[int] = self._repeats(self._ids_of(words)).tolist()
        return repeats

    def lone(self, words: _Words) -> list[float]:
        """How much each word counts by its surroundings: 1, less within a run that many share.

        Half in a run that one text in a hundred has, beside a row and the item it gives away.
        """
        lone: list[float] = self._lone(self._repeats(self._ids_of(words))).tolist()
        return lone

    def lone_words(self, least: float) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.uint32]]]:
        """Whether each word of the texts that were counted counts at least so much, and how many
        words each text has, for many texts at once."""
        for numbers, of_text, lengths in self._chunks():
            lone = self._lone(self._repeats(numbers, _is_within(of_text, RUN)))
            yield lone >= least, lengths

    def _repeats(self, ids: _Hashes, counted: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        spread = np.ones(len(ids), dtype=np.int64)
        runs, counts = self._common
        if not len(runs) or len(ids) < RUN:
            return spread
        wanted = _hashes(ids, RUN)
        places = np.minimum(np.searchsorted(runs, wanted), len(runs) - 1)
        often = np.where(runs[places] == wanted, counts[places], 1)
        if counted is not None:
            often[~counted] = 1
        for place in range(RUN):
            part = spread[place : place + len(often)]
            np.maximum(part, often, out=part)
        return spread

    def _lone(self, repeats: NDArray[np.int64]) -> NDArray[np.float64]:
        return 1.0 / (1.0 + np.maximum(0, repeats - 2) / self._few)


class Rarity(RunCounts):
    """The same, and how many of the texts have each word and each pair of words."""

    def __init__(self, texts: Iterable[_Words], few: float | None = None) -> None:
        """Count over texts, as `RunCounts`."""
        super().__init__(texts, few)
        totals = np.zeros(len(self._ids), dtype=np.int64)
        for numbers, of_text, _ in self._chunks():
            values, counts = _counted(np.sort((numbers << _TEXT_BITS) | of_text))
            totals[values.astype(np.int64)] += counts
        self._counts = totals
        self._usual_pairs = self._often(2, self._few + 1)[0]

    @cached_property
    def _pairs(self) -> set[int]:
        return set(self._usual_pairs.tolist())

    def is_usual(self, words: _Words) -> list[bool]:
        """For each word, whether many texts have it beside one of its neighbours, as in a slot."""
        usual = [False] * len(words)
        for start, pair in enumerate(_hashes(self._ids_of(words), 2).tolist()):
            if pair in self._pairs:
                usual[start] = usual[start + 1] = True
        return usual

    def telling(self, words: _Words) -> list[float]:
        """How much each word says of which text it is from, 0..1, whatever stands beside it."""
        scale = math.log(self.texts + 1) or 1.0
        counts = self._counts
        return [
            1.0 - math.log(max(1, int(counts[n]) - 1)) / scale if n is not None else 1.0
            for n in map(self._ids.get, words)
        ]

    def weights(self, words: _Words) -> list[float]:
        """How much each word tells: less for a common one, much less within a common run."""
        return [
            telling * lone
            for telling, lone in zip(self.telling(words), self.lone(words), strict=True)
        ]


def _is_within(of_text: _Hashes, length: int) -> NDArray[np.bool_]:
    """Whether each run of so many words lies in one text."""
    stop = max(0, len(of_text) - length + 1)
    within: NDArray[np.bool_] = of_text[:stop] == of_text[length - 1 :]
    return within


def _hashes(ids: _Hashes, run: int) -> _Hashes:
    """A hash of 40 bits of each run."""
    length = max(0, len(ids) - run + 1)
    sums = np.zeros(length, dtype=np.uint64)
    for place, mixer in enumerate(_MIXERS[:run]):
        sums += (ids[place : place + length] + np.uint64(1)) * np.uint64(mixer)
        sums ^= sums >> np.uint64(29)
    return sums >> _TEXT_BITS


def _counted(pairs: _Hashes) -> tuple[_Hashes, NDArray[np.int64]]:
    """The different values of (value, text) pairs in order, and in how many texts each is."""
    values = pairs[_changes(pairs)] >> _TEXT_BITS
    starts = np.flatnonzero(_changes(values))
    return values[starts], np.diff(starts, append=len(values))


def _changes(ordered: _Hashes) -> NDArray[np.bool_]:
    first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first
