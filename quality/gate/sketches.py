"""Sketch texts by their shingles: MinHash signatures, bitmaps, and the shingles that few have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5  # characters
PERMUTATIONS = 60  # many divisors: bands of any height
SEED = 42
_CHUNK = 2_000_000  # characters whose hashes are held at once, eight bytes each
_AT_ONCE = 64  # texts that are hashed at once: they fit a processor's cache
_BITS, _FEW_BITS = 2048, 512  # of a bitmap, and of one of short texts
_SHORT = 64  # characters
_PAIRS = 1024  # whose bitmaps are compared at once
_COUNTERS = 24  # bits of a shingle's hash by which shingles are counted
_KEY, _TEXT = (
    np.uint64(34),
    np.uint64(41),
)  # bits of a shingle's hash, and those below a text's number
_END = "\0"
Hashes = NDArray[np.uint64]


def runs(plain: str) -> set[str]:
    """All shingles of a text in the form in which it is compared; the last ones run over its end."""
    padded = plain + _END * (SHINGLE - 1)
    return {padded[n : n + SHINGLE] for n in range(len(plain))}


def stretches(forms: Sequence[str]) -> Iterator[tuple[int, Hashes, Hashes]]:
    """The number of a first text, hashes of all shingles text after text, and where each text's begin."""
    start, size = 0, 0
    for stop, text in enumerate(forms, start=1):
        size += len(text) + SHINGLE - 1
        if size >= _CHUNK or stop == len(forms):
            yield (start, *_hashed(forms[start:stop]))
            start, size = stop, 0


def signature_rows(forms: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures (Broder, 1997): an array (texts, permutations)."""
    from rensa import RMinHash

    found = np.empty((len(forms), PERMUTATIONS), dtype=np.uint32)
    for start, hashes, offsets in stretches(forms):
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, SEED)
        found[start : start + len(offsets) - 1] = matrix.to_rows()
    return found


class Bitmaps:
    """A bit for each shingle of each text, several shingles to one bit: what tells that two texts
    are not alike enough, and is never wrong in saying so."""

    def __init__(self, forms: Sequence[str]) -> None:
        self._most = np.array([len(text) for text in forms], dtype=np.int64)  # shingles, at most
        bits = _FEW_BITS if len(forms) and self._most.mean() <= _SHORT else _BITS
        self._bits = np.zeros((len(forms), bits // 64), dtype=np.uint64)
        for start, hashes, offsets in stretches(forms):
            places = (hashes >> np.uint64(64 - bits.bit_length() + 1)).astype(np.int64)
            for first in range(0, len(offsets) - 1, _AT_ONCE):
                last = min(first + _AT_ONCE, len(offsets) - 1)
                begin, end = int(offsets[first]), int(offsets[last])
                lengths = np.diff(offsets[first : last + 1]).astype(np.int64)
                rows = np.repeat(np.arange(last - first), lengths)
                table = np.zeros((last - first, bits), dtype=bool)
                table[rows, places[begin:end]] = True
                packed = np.packbits(table, axis=1).view(np.uint64)
                self._bits[start + first : start + last] = packed
        self._set = np.bitwise_count(self._bits).sum(axis=1, dtype=np.int64)

    def may_be_alike(
        self, left: NDArray[np.int64], right: NDArray[np.int64], least: float
    ) -> NDArray[np.bool_]:
        """For each pair, whether the Jaccard similarity of its shingles can be so large.

        A bit that one text has and the other has not is a shingle that only the one has.
        """
        alike = np.zeros(len(left), dtype=bool)
        ones = np.ones(self._bits.shape[1], dtype=np.float32)
        for start in range(0, len(left), _PAIRS):
            one, other = left[start : start + _PAIRS], right[start : start + _PAIRS]
            both = self._bits.take(one, axis=0, mode="clip")  # unchecked: half the time
            both &= self._bits.take(other, axis=0, mode="clip")
            shared = (np.bitwise_count(both).astype(np.float32) @ ones).astype(np.int64)
            alone, missing = self._set[one] - shared, self._set[other] - shared
            common = np.minimum(self._most[one] - alone, self._most[other] - missing)
            alike[start : start + _PAIRS] = common >= least * (common + alone + missing) - 1e-9
        return alike


def rare_shingles(forms: Sequence[str], most: int, each: int) -> tuple[Hashes, NDArray[np.int64]]:
    """(hashes, texts) of the rarest shingles of each text that another one may have too.

    Texts that are alike share one of the rarest shingles of each (prefix filtering, Chaudhuri et
    al., 2006, section 4).

    Args:
        forms: The texts.
        most: Texts that have a shingle, at most, and at most 127; a commoner one is left out.
        each: Shingles of a text, at most.
    """
    shift = np.uint64(64 - _COUNTERS)
    counts = np.zeros(1 << _COUNTERS, dtype=np.uint32)
    for _, hashes, _ in stretches(forms):
        np.add.at(counts, hashes >> shift, np.uint32(1))
    found: list[Hashes] = []
    owners: list[NDArray[np.int64]] = []
    for start, hashes, offsets in stretches(forms):
        often = counts[hashes >> shift]
        places = np.flatnonzero((often > 1) & (often <= most))
        texts = np.repeat(
            np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets).astype(np.int64)
        )
        texts = texts[places]
        # Text, number of texts and hash in one number: sorted, the rarest of each text come first.
        packed = (texts << _TEXT) | (often[places].astype(np.uint64) << _KEY)
        packed = distinct(packed | (hashes[places] >> np.uint64(64) - _KEY))
        texts = packed >> _TEXT
        rank = np.arange(len(texts))
        rank -= np.maximum.accumulate(np.where(np.diff(texts, prepend=~texts[:1]), rank, 0))
        few = packed[rank < each]
        found.append(few & ((np.uint64(1) << _KEY) - np.uint64(1)))
        owners.append((few >> _TEXT).astype(np.int64) + start)
    if not found:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return np.concatenate(found), np.concatenate(owners)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The different values in order, as `np.unique` gives them, which takes ten times as long."""
    ordered = np.sort(values)
    first = np.empty(len(ordered), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def mixed(columns: NDArray[np.uint32]) -> Hashes:
    """One number for each row of a matrix; that unequal rows may have one changes no result, since
    all that has equal numbers is compared."""
    sums: Hashes = (columns.astype(np.uint64) * odd(columns.shape[1])).sum(axis=1, dtype=np.uint64)
    sums ^= sums >> np.uint64(32)
    return sums


def odd(count: int) -> Hashes:
    """Odd factors, always the same ones."""
    chance = np.random.Generator(np.random.PCG64(SEED))
    return chance.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _hashed(forms: Sequence[str]) -> tuple[Hashes, Hashes]:
    """The hashes of all shingles, text after text, and where each text's begin."""
    offsets = np.zeros(len(forms) + 1, dtype=np.uint64)
    np.cumsum([len(text) for text in forms], out=offsets[1:])
    hashes = np.empty(int(offsets[-1]), dtype=np.uint64)
    gap = _END * (SHINGLE - 1)
    factors, (mixer,) = odd(SHINGLE), odd(1)
    for start in range(0, len(forms), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(forms))
        text = gap.join(forms[start:stop]) + gap
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        count = points.size - len(gap)
        sums = points[:count] * factors[0]
        part = np.empty_like(sums)
        for place, factor in enumerate(factors[1:], start=1):
            sums += np.multiply(points[place : place + count], factor, out=part)
        sums ^= np.right_shift(sums, np.uint64(32), out=part)
        sums *= mixer
        sums ^= np.right_shift(sums, np.uint64(29), out=part)
        hashes[int(offsets[start]) : int(offsets[stop])] = sums[points[:count] != 0]
    return hashes, offsets
