"""Find duplicates: equal, nearly equal by MinHash, or equal in meaning; the first one stays.

Near duplicates follow Lee et al. (2022, Deduplicating Training Data Makes Language Models
Better, section 4.2): MinHash (Broder, 1997) finds candidates, and the Jaccard similarity of the
texts' shingles decides. So the sketch can miss a pair (about one in a hundred at the threshold,
fewer above it) but never makes one up. Texts of one template, such as "What is the capital of
France?" for many countries, are sketched by the words that are their own, and these must be alike
too: such rows are no duplicates of each other, nor is each compared with all others.

A shingle is five characters. Question and completion are too short for the word 5-grams of that
paper: in twenty words one typo would undo a quarter of them. Characters bear typos and endings,
and need no spaces between words. The last shingles run over the end of the text, so that a text
shorter than five characters has shingles too and a short answer weighs a little more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quality.gate.rarity import Rarity
from warehouse.text.question_form import comparison_form, comparison_words

SHINGLE = 5  # characters
_PERMUTATIONS = 60  # many divisors: bands of any height
_RECALL = 0.99  # of the pairs whose similarity is just the threshold
_SLACK = 0.2  # over three standard deviations of a sketch's estimate
_CHUNK = 8_000_000  # characters whose hashes are held at once, eight bytes each
_AT_ONCE = 512  # texts that are hashed at once: they fit a processor's cache
_BLOCK = 1024  # vectors that are compared at once
_SEED = 42
_FEW = 10.0  # texts: what more of them share is the wording of a template
_COMMON = 0.5  # what a word counts below that is
_OWN = 0.2  # how far the rest of such texts may be below the threshold
_END = "\0"
_Words = NDArray[np.uint64]


class Embeds(Protocol):
    """What turns texts into vectors of length one: `quality.models.embeddings.Encoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row per text."""
        ...


def form(text: str) -> str:
    """The form in which a text is compared; see `warehouse.text.question_form`."""
    return comparison_form(text)


def words(text: str) -> list[str]:
    """The words and signs of a text as it is compared; in unspaced scripts, its characters."""
    return comparison_words(text)


def shingles(text: str) -> set[str]:
    """All runs of five characters of a text as it is compared."""
    return _runs(form(text))


def exact(texts: Sequence[str]) -> list[int | None]:
    """For each text the index of the first equal one, None if it is the first; blank ones never."""
    return repeats([form(text) for text in texts])


def repeats(forms: Sequence[str]) -> list[int | None]:
    """The same of texts that are in that form already."""
    first: dict[str, int] = {}
    first_index = [first.setdefault(text, n) if text else n for n, text in enumerate(forms)]
    return [None if number == n else number for n, number in enumerate(first_index)]


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
    firsts = repeats(forms)
    once = [n for n, first in enumerate(firsts) if first is None and forms[n]]
    duplicates: dict[int, tuple[int, float]] = {}
    index = _Kept([forms[n] for n in once], threshold)
    for number, hit in index.duplicates():
        duplicates[once[number]] = (once[hit[0]], hit[1])
    return [
        duplicates.get(n) if first is None else duplicates.get(first, (first, 1.0))
        for n, first in enumerate(firsts)
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


class _Kept:
    """Unequal texts, gone through in order; each is compared with those kept before it."""

    def __init__(self, forms: Sequence[str], threshold: float) -> None:
        self.forms = forms
        self.threshold = threshold
        self.rows = _rows_per_band(threshold)
        self.sets: dict[int, set[str]] = {}
        self.own: dict[int, str] = {}
        self.own_threshold = min(threshold, max(0.5, threshold - _OWN))

    def duplicates(self) -> Iterator[tuple[int, tuple[int, float]]]:
        """(text, (kept text, similarity)) of each that is dropped."""
        suspects = self._suspects()
        own = self._own_words(suspects)
        free = [n for n in suspects if n not in own]
        yield from self._compare(free, [self.forms[n] for n in free], self.rows)
        yield from self._compare(list(own), list(own.values()), _rows_per_band(self.own_threshold))

    def _own_words(self, suspects: Sequence[int]) -> dict[int, str]:
        """The words of each text of a template that are its own: not in a run that many have."""
        texts = [self.forms[n].split() for n in suspects]
        rarity = Rarity(texts, few=max(_FEW, len(self.forms) / 100))
        own: dict[int, str] = {}
        for number, tokens in zip(suspects, texts, strict=True):
            left = [
                word
                for word, lone in zip(tokens, rarity.lone(tokens), strict=True)
                if lone >= _COMMON
            ]
            if 0 < len(left) <= len(tokens) / 2:
                own[number] = self.own[number] = " ".join(left)
        return own

    def _compare(
        self, suspects: Sequence[int], texts: Sequence[str], rows: int
    ) -> Iterator[tuple[int, tuple[int, float]]]:
        """Go through suspects; the bands of `texts` say which may be alike."""
        if not suspects:
            return
        sketch = np.concatenate(
            [np.array(matrix.to_rows(), dtype=np.uint32) for matrix in _sketches(texts)]
        )
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for row, keys in enumerate(_shared_bands(sketch, rows)):
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
            pair = suspects[row], suspects[other]
            least = self.own_threshold if pair[0] in self.own else self.threshold
            if guess >= least - _SLACK and self._own_alike(*pair):
                similarity = self._jaccard(*pair)
                if similarity >= self.threshold and (best is None or similarity > best[1]):
                    best = suspects[other], similarity
        return best

    def _own_alike(self, left: int, right: int) -> bool:
        if left not in self.own:
            return True
        a, b = _runs(self.own[left]), _runs(self.own[right])
        return len(a & b) >= self.own_threshold * len(a | b)

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
