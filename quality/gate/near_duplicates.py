"""Find nearly equal texts: MinHash and rare shingles find candidates, similarity decides.

Near duplicates follow Lee et al. (2022, Deduplicating Training Data Makes Language Models
Better, section 4.2): MinHash (Broder, 1997) finds candidates, and the Jaccard similarity of the
texts' shingles decides. So the sketch can miss a pair (about one in a hundred at the threshold,
fewer above it) but never makes one up. Texts of one template, such as "What is the capital of
France?" for many countries, are compared by the words that are their own, and these must be alike
too: such rows are no duplicates of each other.

However many texts are alike without being duplicates, each is compared with a bounded number of
others: in a crowded bucket with those whose signatures go on alike for longest (LSH forest, Bawa et
al., 2005), and with those that share its rarest shingles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from quality.gate.rarity import RunCounts
from quality.gate.shingle_sets import ShingleSets
from quality.gate.sketch_shard import MapShards, map_here, shards_of, sign_shard
from quality.gate.sketches import (
    PERMUTATIONS,
    Bitmaps,
    Hashes,
    distinct,
    mixed,
    rare_shingles,
)

_RECALL = 0.99  # of the pairs whose similarity is just the threshold
_FEW = 10.0  # texts: what more of them share is the wording of a template
_COMMON = 0.5  # what a word counts below that is
_OWN = 0.2  # how far the rest of such texts may be below the threshold
_BESIDE = 8  # texts on each side that are compared in a crowded bucket
_RARE = 64  # texts: a shingle that more of them have leads to nobody
_RAREST = 8  # shingles of a text that lead to others
_Pairs = NDArray[np.int64]
"""(pairs, 2): the earlier text, the later one."""


def near_duplicates(
    forms: Sequence[str],
    sketch: NDArray[np.uint32],
    threshold: float,
    map_shards: MapShards = map_here,
) -> Iterator[tuple[int, tuple[int, float]]]:
    """(text, (earlier kept text, similarity)) of each that is dropped; the first one stays.

    Args:
        forms: Unequal texts, in the form in which they are compared; none is blank.
        sketch: Their signatures (`sketch_shard`).
        threshold: Least Jaccard similarity of the shingles, 0 < threshold <= 1.
        map_shards: What runs `sign_shard` over words.
    """
    suspects = _suspects(sketch, threshold)
    own = _own_words([forms[n] for n in suspects], len(forms))
    free = [suspects[n] for n in range(len(suspects)) if n not in own]
    sketch = sketch[free]
    yield from _compare(free, [forms[n] for n in free], threshold, sketch)
    templated = [suspects[n] for n in own]
    words = list(own.values())
    if len(words) < 2:
        return
    sketch = np.concatenate(list(map_shards(sign_shard, None, shards_of(words))))
    yield from _compare(templated, [forms[n] for n in templated], threshold, sketch, words)


def _suspects(sketch: NDArray[np.uint32], threshold: float) -> list[int]:
    """The texts that share a band with another one; of most tasks, most texts share none."""
    rows = _rows_per_band(threshold)
    shares = np.zeros(len(sketch), dtype=bool)
    for start in range(0, PERMUTATIONS, rows):
        bands = mixed(sketch[:, start : start + rows])
        order = np.argsort(bands)
        same = bands[order[1:]] == bands[order[:-1]]
        shares[order[1:][same]] = True
        shares[order[:-1][same]] = True
    return np.flatnonzero(shares).tolist()


def _own_words(suspects: Sequence[str], of: int) -> dict[int, str]:
    """The words of each text of a template that are its own: not in a run that many have."""
    counts = RunCounts(map(str.split, suspects), few=max(_FEW, of / 100))
    own: dict[int, str] = {}
    first = 0
    for alone, lengths in counts.lone_words(_COMMON):
        stops = np.cumsum(lengths, dtype=np.int64)
        starts = stops - lengths
        sums = np.concatenate(([0], np.cumsum(alone)))
        words = sums[stops] - sums[starts]
        for number in np.flatnonzero((words > 0) & (words <= lengths / 2)).tolist():
            these = alone[starts[number] : stops[number]].tolist()
            own[first + number] = " ".join(compress(suspects[first + number].split(), these))
        first += len(lengths)
    return own


def _compare(
    names: Sequence[int],
    texts: Sequence[str],
    threshold: float,
    sketch: NDArray[np.uint32],
    own: Sequence[str] | None = None,
) -> Iterator[tuple[int, tuple[int, float]]]:
    """Go through texts in order; `own` are the words of each that must be alike as well, and
    `sketch` has their signatures."""
    if len(texts) < 2:
        return
    least = threshold if own is None else min(threshold, max(0.5, threshold - _OWN))
    bitmaps = Bitmaps(texts)
    of_own = bitmaps if own is None else Bitmaps(own)
    found: list[NDArray[np.int64]] = []
    for pairs in _candidates(texts if own is None else own, least, sketch):
        left, right = pairs[:, 0], pairs[:, 1]
        alike = of_own.may_be_alike(left, right, least)
        if own is not None:
            alike[alike] = bitmaps.may_be_alike(left[alike], right[alike], threshold)
        found.append(right[alike] << 32 | left[alike])
    together = distinct(np.concatenate(found))
    if not len(together):
        return
    later, earlier = together >> 32, together & 0xFFFFFFFF
    starts = np.flatnonzero(np.diff(later, prepend=-1))
    shingles = ShingleSets(texts)
    of_own_words = None if own is None else ShingleSets(own)
    kept_for: dict[int, int] = {}
    for number, others in zip(later[starts].tolist(), np.split(earlier, starts[1:]), strict=True):
        best: tuple[int, float] | None = None
        # One that was dropped stands for the one it was dropped for.
        for other in dict.fromkeys(kept_for.get(n, n) for n in others.tolist()):
            if of_own_words is not None and of_own_words.similarity(other, number) < least:
                continue
            similarity = shingles.similarity(other, number)
            if similarity >= threshold and (best is None or similarity > best[1]):
                best = other, similarity
        if best is not None:
            kept_for[number] = best[0]
            shingles.forget(number)
            if of_own_words is not None:
                of_own_words.forget(number)
            yield names[number], (names[best[0]], best[1])


def _candidates(
    texts: Sequence[str], threshold: float, sketch: NDArray[np.uint32]
) -> Iterator[_Pairs]:
    """Pairs that may be alike, some of them several times."""
    rows = _rows_per_band(threshold)
    for start in range(0, PERMUTATIONS, rows):
        columns = np.roll(np.arange(PERMUTATIONS), -start)
        bands = mixed(sketch[:, columns[:rows]])
        yield from _neighbours(bands, sketch, columns[rows:])
    keys, owners = rare_shingles(texts, _RARE, _RAREST)
    yield from _neighbours(keys, sketch, np.arange(PERMUTATIONS), owners)


def _neighbours(
    keys: Hashes,
    sketch: NDArray[np.uint32],
    columns: NDArray[np.int64],
    owners: NDArray[np.int64] | None = None,
) -> Iterator[_Pairs]:
    """Pairs of texts that have the same key: all of a small bucket, and in a crowded one those
    whose signatures go on alike, in these columns.

    `owners` are the texts that the keys belong to; left out, key after key the next text.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
    sizes = np.diff(starts, append=len(ordered))
    for crowded in (False, True):
        these = sizes > _BESIDE + 1 if crowded else (sizes > 1) & (sizes <= _BESIDE + 1)
        places = order[np.repeat(these, sizes)]
        if crowded:
            places.sort()
            texts = places if owners is None else owners[places]
            places = places[np.lexsort((*_further(sketch, columns, texts), keys[places]))]
        texts = places if owners is None else owners[places]
        yield from _beside(texts, keys[places])


def _further(
    sketch: NDArray[np.uint32], columns: NDArray[np.int64], texts: NDArray[np.int64]
) -> list[NDArray[np.uint64]]:
    """Labels by which texts whose signatures go on alike are sorted beside each other, the last one
    first, as `np.lexsort` takes them: each of four rows, sixteen bits of a row."""
    labels: list[NDArray[np.uint64]] = []
    for start in range(0, min(12, len(columns) - 3), 4):
        label = np.zeros(len(texts), dtype=np.uint64)
        for column in columns[start : start + 4]:
            label = (label << np.uint64(16)) | (sketch[texts, column] & np.uint32(0xFFFF))
        labels.append(label)
    return labels[::-1]


def _beside(texts: NDArray[np.int64], keys: Hashes) -> Iterator[_Pairs]:
    """Pairs of texts beside each other that have the same key."""
    for step in range(1, _BESIDE + 1):
        same = keys[step:] == keys[:-step]
        if not same.any():
            return
        one, other = texts[:-step][same], texts[step:][same]
        yield np.stack((np.minimum(one, other), np.maximum(one, other)), axis=1)


def _rows_per_band(threshold: float) -> int:
    """The highest bands, and so the fewest candidates, that find a pair at the threshold."""
    heights = [n for n in range(PERMUTATIONS, 0, -1) if PERMUTATIONS % n == 0]
    for rows in heights:
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= _RECALL:
            return rows
    return 1
