"""Find the held-out texts that stand in another text, or share runs of words with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quality.gate.rarity import RUN

_Hashes = NDArray[np.uint64]
_Numbers = NDArray[np.int64]
_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)[:RUN]
_BASE = np.uint64(0xD6E8FEB86659FD93)


class Shared(NamedTuple):
    """What a text shares with the indexed ones."""

    quoted: list[tuple[int, int]]
    """(indexed text, where it begins here) of those that stand here word for word, in the order in
    which their anchors stand here."""
    alike: _Numbers
    """The indexed texts that share several runs, by number, in order."""


class Quotations:
    """An inverted index of runs of three words, as sorted arrays.

    Runs and whole texts are compared by hashes of 64 bits (Karp and Rabin, 1987). Two of them may have
    one hash, so what is found is compared word by word afterwards.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words, self._lengths, self._anchors = array("Q"), array("q"), array("q")
        self._texts, self._starts = array("q"), array("q")

    def add(self, number: int, words: Sequence[str], starts: Iterable[int], anchor: int) -> None:
        """Index a text; before the first search.

        Args:
            number: Its number; numbers rise by one from text to text.
            words: Its words.
            starts: Where the runs begin by which it is found.
            anchor: The one of them that is looked up where all of it may stand.
        """
        self._words.extend(self._ids.setdefault(word, len(self._ids) + 1) for word in words)
        self._lengths.append(len(words))
        self._anchors.append(anchor)
        for start in starts:
            self._texts.append(number)
            self._starts.append(start)

    def find(self, texts: Sequence[Sequence[str]]) -> list[Shared]:
        """What each of some texts, given as its words, shares with the indexed ones.

        A thousand texts at once take a fraction of the time that they take one by one.
        """
        get = self._ids.get
        # An unknown word ends each text, so that no run goes from one into the next.
        row = [number for words in texts for number in (*(get(word, 0) for word in words), 0)]
        ids = np.array(row, dtype=np.uint64)
        stops = np.cumsum([len(words) + 1 for words in texts])
        places, indexed, starts = self._hits(ids)
        asked = np.searchsorted(stops, places, side="right")  # places rise, so that these do
        found = [NOTHING] * len(texts)
        for number, alike in _twice(asked, indexed):
            found[number] = Shared([], alike)
        standing = self._standing(ids, indexed, places - starts, starts)
        of_text = zip(asked[standing].tolist(), indexed[standing].tolist(), strict=True)
        begins = (places - starts)[standing].tolist()
        for (number, text), begin in zip(of_text, begins, strict=True):
            before = int(stops[number]) - len(texts[number]) - 1
            quoted, alike = found[number]
            found[number] = Shared([*quoted, (text, begin - before)], alike)
        return found

    def _hits(self, ids: _Hashes) -> tuple[_Numbers, _Numbers, _Numbers]:
        """Each run that an indexed text has, too: its place, the text, and where it begins there."""
        count = max(0, len(ids) - RUN + 1)
        known = ids[:count] != 0
        for step in range(1, RUN):
            known &= ids[step : step + count] != 0
        places = np.flatnonzero(known)
        keys, of_run, starts, stops = self._postings
        wanted = _mixed(ids, places)
        first = np.searchsorted(keys, wanted)
        there = first < len(keys)
        there[there] = keys[first[there]] == wanted[there]
        places, first = places[there], first[there]
        lengths = stops[first] - first
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        at = np.repeat(first - ends + lengths, lengths) + np.arange(total)
        return np.repeat(places, lengths), of_run[at], starts[at]

    def _standing(
        self, ids: _Hashes, texts: _Numbers, begins: _Numbers, starts: _Numbers
    ) -> _Numbers:
        """Which hits are those of anchors around which the whole text stands."""
        hashes, lengths, anchors = self._outlines
        may = (starts == anchors[texts]) & (begins >= 0)
        may &= begins + lengths[texts] <= len(ids)
        hits = np.flatnonzero(may)
        texts, begins = texts[hits], begins[hits]
        powers = _powers(len(ids))
        sums = np.zeros(len(ids) + 1, dtype=np.uint64)
        np.cumsum(ids * powers, out=sums[1:])
        same = sums[begins + lengths[texts]] - sums[begins] == hashes[texts] * powers[begins]
        standing: _Numbers = hits[same]
        return standing

    @cached_property
    def _outlines(self) -> tuple[_Hashes, _Numbers, _Numbers]:
        """The hash of each text, how many words it has, and where its anchor begins."""
        lengths = np.array(self._lengths, dtype=np.int64)
        ends = np.cumsum(lengths)
        within = np.arange(len(self._words)) - np.repeat(ends - lengths, lengths)
        powers = _powers(int(lengths.max(initial=0)))
        sums = np.zeros(len(self._words) + 1, dtype=np.uint64)
        np.cumsum(np.array(self._words, dtype=np.uint64) * powers[within], out=sums[1:])
        return sums[ends] - sums[ends - lengths], lengths, np.array(self._anchors, dtype=np.int64)

    @cached_property
    def _postings(self) -> tuple[_Hashes, _Numbers, _Numbers, _Numbers]:
        """Hashes of the runs in order, their texts and places, and where each one's equals end."""
        texts, starts = (np.array(part, dtype=np.int64) for part in (self._texts, self._starts))
        lengths = self._outlines[1]
        ids = np.array(self._words, dtype=np.uint64)
        keys = _mixed(ids, (np.cumsum(lengths) - lengths)[texts] + starts)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        stops = np.searchsorted(keys, keys, side="right").astype(np.int64)
        return keys, texts[order], starts[order], stops


NOTHING = Shared([], np.zeros(0, dtype=np.int64))


def _twice(asked: _Numbers, indexed: _Numbers) -> Iterator[tuple[int, _Numbers]]:
    """Of each asked text the indexed ones, in order, with which it shares several runs."""
    most = int(indexed.max(initial=0)) + 1
    pairs = np.sort(asked * most + indexed)
    again = pairs[1:][pairs[1:] == pairs[:-1]]
    again = again[np.diff(again, prepend=-1) != 0]
    if not len(again):
        return
    numbers, texts = np.divmod(again, most)
    first = np.flatnonzero(np.diff(numbers, prepend=-1) != 0)
    yield from zip(numbers[first].tolist(), np.split(texts, first[1:]), strict=True)


def _mixed(ids: _Hashes, places: _Numbers) -> _Hashes:
    """The hashes of the runs that begin at these places."""
    sums = np.zeros(len(places), dtype=np.uint64)
    for step, mixer in enumerate(_MIXERS):
        sums += ids[places + step] * mixer
        sums ^= sums >> np.uint64(29)
    return sums


_known_powers = np.ones(1, dtype=np.uint64)


def _powers(count: int) -> _Hashes:
    """The first powers of the base, modulo 2 ** 64."""
    global _known_powers
    if len(_known_powers) < count:
        factors = np.full(2 * count, _BASE)
        factors[0] = 1
        _known_powers = np.cumprod(factors, dtype=np.uint64)
    return _known_powers[:count]
