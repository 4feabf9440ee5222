"""Know which of many texts are alike, and drop near duplicates among any part of them.

What is compared depends on all the texts and never on which of them are left, so it is found out once
and holds for every gate: `Alike` is what has to be kept. A pair that was not compared before is
compared by need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quality.gate.near_duplicates import Pairs, least_of_own, pairs_maybe_alike
from quality.gate.shingle_sets import ShingleSets
from quality.gate.sketch_shard import MapShards, map_here, shards_of, sketch_shard
from quality.gate.sketches import signature_rows
from warehouse.text.question_form import comparison_form

Rows = NDArray[np.int64]
"""Numbers of texts, ascending."""
TextsOf = Callable[[Rows], Sequence[str]]
"""Gives the texts with these numbers."""
Hit = tuple[int, float]
"""The text that another one is like, and their similarity."""


@dataclass(frozen=True)
class Repeats:
    """Which texts are equal to an earlier one."""

    count: int
    """Of all texts."""
    rows: Rows
    """Those that are."""
    firsts: Rows
    """The first of its equals, for each of `rows`."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Compare texts; a blank one is equal to none."""
        first: dict[str, int] = {}
        count, rows, firsts = 0, [], []
        for number, text in enumerate(texts):
            count += 1
            if text and first.setdefault(text, number) != number:
                rows.append(number)
                firsts.append(first[text])
        return cls(count, np.array(rows, dtype=np.int64), np.array(firsts, dtype=np.int64))

    def classes(self) -> Rows:
        """For each text the first of its equals, or itself."""
        classes = np.arange(self.count)
        classes[self.rows] = self.firsts
        return classes

    def among(self, left: Rows) -> tuple[Rows, Rows]:
        """Those that are left and have an earlier equal that is left, and the first one of these."""
        classes = self.classes()
        first = self._first_left(classes, left)[classes[left]]
        return left[first != left], first[first != left]

    def _first_left(self, classes: Rows, left: Rows) -> Rows:
        """For each class the first of its texts that is left, or -1."""
        first = np.full(self.count, -1)
        first[classes[left[::-1]]] = left[::-1]
        return first

    def first_left(self, left: Rows) -> Rows:
        """For the first of each group of equals the first that is left, or -1."""
        return self._first_left(self.classes(), left)

    def as_json(self) -> dict[str, Any]:
        """Lists of numbers."""
        return {"count": self.count, "rows": self.rows.tolist(), "firsts": self.firsts.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Of `as_json`."""
        rows, firsts = (np.array(content[key], dtype=np.int64) for key in ("rows", "firsts"))
        return cls(content["count"], rows, firsts)


@dataclass(frozen=True)
class Alike:
    """Which texts may be near duplicates, at a threshold."""

    threshold: float
    repeats: Repeats
    """Equal ones, in the form in which they are compared; below, the first of each stands for all."""
    pairs: Pairs
    """Those to compare."""
    own: dict[int, str]
    """The words of its own of a text of a template."""
    compared: dict[tuple[int, int], float] = field(default_factory=dict)
    """Pairs (earlier, later) that were compared: the similarity, or 0.0 where their own words are
    less alike than they must be."""

    @classmethod
    def of(cls, texts: Iterable[str], threshold: float, map_shards: MapShards = map_here) -> Self:
        """Find out which texts may be alike.

        Args:
            texts: Any texts; a blank one has no duplicates.
            threshold: Least Jaccard similarity of the shingles, 0 < threshold <= 1.
            map_shards: What runs the sketches over shards of the texts.
        """
        if not 0 < threshold <= 1:
            raise ValueError(
                f"the threshold is a similarity above 0 and at most 1, not {threshold}"
            )
        forms: list[str] = []
        first: dict[str, int] = {}  # of those with a form
        sketches: list[NDArray[np.uint32]] = [signature_rows([])]
        for shard in map_shards(sketch_shard, None, shards_of(texts)):
            numbered = enumerate(shard.forms, start=len(forms))
            new = [bool(text) and first.setdefault(text, n) == n for n, text in numbered]
            sketches.append(shard.signatures[np.array(new, dtype=bool)])
            forms += shard.forms
        repeats = Repeats.of(forms)
        once = np.array(list(first.values()), dtype=np.int64)
        sketch = np.concatenate(sketches)
        del sketches
        found = pairs_maybe_alike(list(first), sketch, threshold, map_shards)
        own = {int(once[number]): words for number, words in found.own.items()}
        alike = cls(threshold, repeats, once[found.pairs], own)
        compare = _Comparison(alike, forms)
        alike._walk(np.arange(len(forms)), compare.similarity)  # notes what it compares
        return alike

    def drops(self, left: Rows, texts_of: TextsOf) -> list[tuple[int, Hit]]:
        """The near duplicates among the texts that are left: (text, what it is like), in order.

        Each is like an earlier one that is left and is dropped for none; of several, the most alike.

        Args:
            left: The texts among which duplicates are looked for.
            texts_of: Gives texts; called for those that have to be compared anew, if any.
        """
        missing: dict[tuple[int, int], None] = {}

        def note(earlier: int, later: int) -> None:
            missing[earlier, later] = None

        while True:
            hits = self._walk(left, note)
            if not missing:
                break
            rows = np.unique(np.array(list(missing), dtype=np.int64))
            forms = map(comparison_form, texts_of(rows))
            compare = _Comparison(self, dict(zip(rows.tolist(), forms, strict=True)))
            for earlier, later in sorted(missing):
                self.compared[earlier, later] = compare.similarity(earlier, later)
            missing.clear()
        rows, firsts = self.repeats.among(left)
        for row, first in zip(rows.tolist(), firsts.tolist(), strict=True):
            hits[row] = hits.get(first, (first, 1.0))
        return sorted(hits.items())

    def _walk(
        self, left: Rows, similarity_of: Callable[[int, int], float | None]
    ) -> dict[int, Hit]:
        """Go through the first of equal texts in order; `similarity_of` is asked for what is not known,
        and where it cannot tell, a text passes for unlike."""
        kept_for: dict[int, Hit] = {}
        classes = self.repeats.classes()
        for later, beside in self._beside(left):
            best: Hit | None = None
            # One that was dropped stands for the one it was dropped for.
            for other in dict.fromkeys(kept_for[n][0] if n in kept_for else n for n in beside):
                one, two = sorted((int(classes[other]), int(classes[later])))
                similarity = self.compared.get((one, two))
                if similarity is None:
                    similarity = similarity_of(one, two)
                    if similarity is None:
                        continue
                    self.compared[one, two] = similarity
                if similarity >= self.threshold and (best is None or similarity > best[1]):
                    best = other, similarity
            if best is not None:
                kept_for[later] = best
        return kept_for

    def _beside(self, left: Rows) -> Iterator[tuple[int, list[int]]]:
        """Each text that is left with the earlier ones, in order, that it may be like."""
        pairs = self.repeats.first_left(left)[self.pairs]
        pairs = np.sort(pairs[(pairs >= 0).all(axis=1)], axis=1)
        pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        for later, several in groupby(pairs.tolist(), key=lambda pair: pair[1]):
            yield later, [earlier for earlier, _ in several]

    def as_json(self) -> dict[str, Any]:
        """Lists, with a column for each half of a pair."""
        compared = list(self.compared)
        return {
            "threshold": self.threshold,
            "repeats": self.repeats.as_json(),
            "pairs": self.pairs.T.tolist(),
            "own": {str(number): words for number, words in self.own.items()},
            "compared": [
                [one for one, _ in compared],
                [two for _, two in compared],
                list(self.compared.values()),
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Of `as_json`."""
        one, two, similarity = content["compared"]
        return cls(
            content["threshold"],
            Repeats.from_json(content["repeats"]),
            np.array(content["pairs"], dtype=np.int64).T,
            {int(number): words for number, words in content["own"].items()},
            dict(zip(zip(one, two, strict=True), similarity, strict=True)),
        )


class _Comparison:
    """Compare texts exactly."""

    def __init__(self, alike: Alike, forms: Mapping[int, str] | Sequence[str]) -> None:
        self._own = alike.own
        self._least = least_of_own(alike.threshold)
        self._shingles, self._own_shingles = ShingleSets(forms), ShingleSets(alike.own)

    def similarity(self, left: int, right: int) -> float:
        """The Jaccard similarity of two texts; 0.0 where their own words are too unlike."""
        has_own = left in self._own and right in self._own
        if has_own and self._own_shingles.similarity(left, right) < self._least:
            return 0.0
        return self._shingles.similarity(left, right)
