"""Find duplicates: equal, nearly equal by MinHash, or equal in meaning; the first one stays.

Near duplicates follow Lee et al. (2022, Deduplicating Training Data Makes Language Models
Better, section 4.2): MinHash (Broder, 1997) finds candidates, and the Jaccard similarity of the
texts' shingles decides. So the sketch can miss a pair (about one in a hundred at the threshold,
fewer above it) but never makes one up.

A shingle is five characters. Question and completion are too short for the word 5-grams of that
paper: in twenty words one typo would undo a quarter of them. Characters bear typos and endings,
and need no spaces between words. The last shingles run over the end of the text, so that a text
shorter than five characters has shingles too and a short answer weighs a little more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from warehouse.inputs.refusal_phrases import normalise

SHINGLE = 5  # characters
_PERMUTATIONS = 60  # many divisors: bands of any height
_RECALL = 0.99  # of the pairs whose similarity is just the threshold
_SLACK = 0.2  # over three standard deviations of a sketch's estimate
_CHUNK = 8_000_000  # characters whose hashes are held at once, eight bytes each
_AT_ONCE = 512  # texts that are hashed at once: they fit a processor's cache
_BLOCK = 1024  # vectors that are compared at once
_SEED = 42
_END = "\0"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_Words = NDArray[np.uint64]


class Embeds(Protocol):
    """What turns texts into vectors of length one: `quality.models.embeddings.Encoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row per text."""
        ...


def form(text: str) -> str:
    """The form in which a text is compared; a text of symbols only stays as it is, but for spaces.

    Empty only if the text is blank. Half a character (a lone surrogate) is written out.
    """
    plain = normalise(text) or " ".join(text.replace(_END, " ").split())
    return plain.encode("utf-8", "backslashreplace").decode()


def words(text: str) -> list[str]:
    """The words of a text as it is compared; where words have no spaces, each character is one."""
    return _WORD.findall(normalise(text))


def shingles(text: str) -> set[str]:
    """All runs of five characters of a text as it is compared."""
    return _runs(form(text))


def exact(texts: Sequence[str]) -> list[int | None]:
    """For each text the index of the first equal one, None if it is the first; blank ones never."""
    return _repeats([form(text) for text in texts])


def near(texts: Sequence[str], threshold: float = 0.8) -> list[tuple[int, float] | None]:
    """For each text the earlier kept one that is most like it, if one is like enough.

    Args:
        texts: Any texts; a blank one has no duplicates.
        threshold: Least Jaccard similarity of the shingles, 0 < threshold <= 1.

    Returns:
        One entry per text, in order: (index of the kept text, similarity), or None: kept.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is a similarity above 0 and at most 1, not {threshold}")
    forms = [form(text) for text in texts]
    repeats = _repeats(forms)
    once = [n for n, first in enumerate(repeats) if first is None and forms[n]]
    duplicates: dict[int, tuple[int, float]] = {}
    index = _Kept([forms[n] for n in once], threshold)
    for number, hit in index.duplicates():
        duplicates[once[number]] = (once[hit[0]], hit[1])
    return [
        duplicates.get(n) if first is None else duplicates.get(first, (first, 1.0))
        for n, first in enumerate(repeats)
    ]


def semantic(
    texts: Sequence[str], threshold: float = 0.95, encoder: Embeds | None = None
) -> list[tuple[int, float] | None]:
    """For each text the earlier kept one that is nearest in meaning, if it is near enough.

    Args:
        texts: Any texts; a blank one has no duplicates.
        threshold: Least cosine of the embeddings, 0 < threshold <= 1.
        encoder: What embeds them; left out, the default of `quality.models.embeddings.Encoder`.

    Returns:
        As `near`, with cosines.

    Raises:
        AssetError: the encoder's model could not be downloaded.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is a cosine above 0 and at most 1, not {threshold}")
    result: list[tuple[int, float] | None] = [None] * len(texts)
    nonempty = [n for n, text in enumerate(texts) if text.strip()]
    if not nonempty:
        return result
    if encoder is None:
        from quality.models.embeddings import Encoder

        encoder = Encoder()
    vectors = encoder.encode([texts[n] for n in nonempty])
    bound = threshold - 1e-6  # the cosine of a vector with itself is one but for rounding
    kept = np.empty_like(vectors)
    places: list[int] = []
    for start in range(0, len(nonempty), _BLOCK):
        block = vectors[start : start + _BLOCK]
        before = block @ kept[: len(places)].T
        within = block @ block.T
        here: list[int] = []  # of this block, kept
        for row, number in enumerate(nonempty[start : start + _BLOCK]):
            cosines = np.concatenate((before[row], within[row, here]))
            best = int(cosines.argmax()) if cosines.size else -1
            if best >= 0 and cosines[best] >= bound:
                old = best < len(places)
                of = places[best] if old else nonempty[start + here[best - len(places)]]
                result[number] = (of, min(1.0, float(cosines[best])))
            else:
                here.append(row)
        kept[len(places) : len(places) + len(here)] = block[here]
        places += [nonempty[start + n] for n in here]
    return result


def _runs(plain: str) -> set[str]:
    padded = plain + _END * (SHINGLE - 1)
    return {padded[n : n + SHINGLE] for n in range(len(plain))}


def _repeats(forms: Sequence[str]) -> list[int | None]:
    first: dict[str, int] = {}
    first_index = [first.setdefault(text, n) if text else n for n, text in enumerate(forms)]
    return [None if number == n else number for n, number in enumerate(first_index)]


class _Kept:
    """Unequal texts, gone through in order; each is compared with those kept before it."""

    def __init__(self, forms: Sequence[str], threshold: float) -> None:
        self.forms = forms
        self.threshold = threshold
        self.rows = _rows_per_band(threshold)
        self.sets: dict[int, set[str]] = {}

    def duplicates(self) -> Iterator[tuple[int, tuple[int, float]]]:
        """(text, (kept text, similarity)) of each that is dropped."""
        suspects = self._suspects()
        if not suspects:
            return
        sketch = np.concatenate(
            [
                np.array(matrix.to_rows(), dtype=np.uint32)
                for matrix in _sketches([self.forms[n] for n in suspects])
            ]
        )
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for row, keys in enumerate(_shared_bands(sketch, self.rows)):
            others = sorted({other for key in keys for other in buckets[key]})
            hit = self._nearest(row, others, suspects, sketch) if others else None
            if hit:
                self.sets.pop(suspects[row], None)
                yield suspects[row], hit
            else:
                for key in keys:
                    buckets[key].append(row)

    def _suspects(self) -> list[int]:
        """The texts that share a band with another one; most texts share none."""
        from rensa import RMinHashLSH

        index = RMinHashLSH(self.threshold, _PERMUTATIONS, _PERMUTATIONS // self.rows)
        matrices = list(_sketches(self.forms))
        start = 0
        for matrix in matrices:
            index.insert_matrix(matrix, start)
            start += matrix.len()
        flags = (flag for matrix in matrices for flag in index.query_duplicate_flags_matrix(matrix))
        return [n for n, flag in enumerate(flags) if flag]

    def _nearest(
        self, row: int, others: list[int], suspects: Sequence[int], sketch: NDArray[np.uint32]
    ) -> tuple[int, float] | None:
        guesses = (sketch[others] == sketch[row]).mean(axis=1)
        best: tuple[int, float] | None = None
        for other, guess in zip(others, guesses, strict=True):
            if guess >= self.threshold - _SLACK:
                similarity = self._jaccard(suspects[row], suspects[other])
                if similarity >= self.threshold and (best is None or similarity > best[1]):
                    best = suspects[other], similarity
        return best

    def _jaccard(self, left: int, right: int) -> float:
        a, b = self._set(left), self._set(right)
        common = len(a & b)
        return common / (len(a) + len(b) - common)

    def _set(self, number: int) -> set[str]:
        if number not in self.sets:
            self.sets[number] = _runs(self.forms[number])
        return self.sets[number]


def _rows_per_band(threshold: float) -> int:
    """The highest bands, and so the fewest candidates, that find a pair at the threshold."""
    heights = [n for n in range(_PERMUTATIONS, 0, -1) if _PERMUTATIONS % n == 0]
    for rows in heights:
        if 1 - (1 - threshold**rows) ** (_PERMUTATIONS // rows) >= _RECALL:
            return rows
    return 1


def _sketches(forms: Sequence[str]) -> Iterator[Any]:
    """MinHash digests, a matrix for each stretch of texts."""
    from rensa import RMinHash

    start, size = 0, 0
    for stop, text in enumerate(forms, start=1):
        size += len(text) + SHINGLE - 1
        if size >= _CHUNK or stop == len(forms):
            hashes, offsets = _hashed(forms[start:stop])
            yield RMinHash.digest_matrix_from_flat_token_hashes(
                hashes, offsets, _PERMUTATIONS, _SEED
            )
            start, size = stop, 0


def _hashed(forms: Sequence[str]) -> tuple[_Words, _Words]:
    """The hashes of all shingles, text after text, and where each text's begin."""
    offsets = np.zeros(len(forms) + 1, dtype=np.uint64)
    np.cumsum([len(text) for text in forms], out=offsets[1:])
    hashes = np.empty(int(offsets[-1]), dtype=np.uint64)
    gap = _END * (SHINGLE - 1)
    factors, (mixer,) = _odd(SHINGLE), _odd(1)
    for start in range(0, len(forms), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(forms))
        text = gap.join(forms[start:stop]) + gap
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        count = points.size - len(gap)
        sums = points[:count] * factors[0]
        for place, factor in enumerate(factors[1:], start=1):
            sums += points[place : place + count] * factor
        sums ^= sums >> np.uint64(32)
        sums *= mixer
        sums ^= sums >> np.uint64(29)
        hashes[int(offsets[start]) : int(offsets[stop])] = sums[points[:count] != 0]
    return hashes, offsets


def _shared_bands(sketch: NDArray[np.uint32], rows: int) -> Iterator[list[int]]:
    """For each sketch numbers of the bands that it shares with another one.

    That unequal bands may have one number costs a comparison and changes nothing.
    """
    bands = sketch.reshape(len(sketch), -1, rows).astype(np.uint64)
    keys = (bands * _odd(rows)).sum(axis=2, dtype=np.uint64)
    keys ^= keys >> np.uint64(32)
    keys += _odd(keys.shape[1])
    _, names, counts = np.unique(keys, return_inverse=True, return_counts=True)
    names = names.reshape(keys.shape)
    shared = counts[names] > 1
    return (row[mask].tolist() for row, mask in zip(names, shared, strict=True))


def _odd(count: int) -> _Words:
    chance = np.random.Generator(np.random.PCG64(_SEED))
    return chance.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
