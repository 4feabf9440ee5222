"""Find duplicates: equal, nearly equal, or equal in meaning; the first one stays.

A shingle is five characters. Question and completion are too short for the word 5-grams of that
paper: in twenty words one typo would undo a quarter of them. Characters bear typos and endings,
and need no spaces between words. The last shingles run over the end of the text, so that a text
shorter than five characters has shingles too and a short answer weighs a little more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quality.gate.alike import Alike
from quality.gate.sketch_shard import MapShards, map_here
from quality.gate.sketches import runs
from warehouse.text.question_form import comparison_form, comparison_words

_BLOCK = 1024  # vectors that are compared at once


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
    return runs(form(text))


def near(
    texts: Iterable[str], threshold: float = 0.8, map_shards: MapShards = map_here
) -> list[tuple[int, float] | None]:
    """For each text the earlier kept one that is most like it, if one is like enough.

    Args:
        texts: Any texts; a blank one has no duplicates.
        threshold: Least Jaccard similarity of the shingles, 0 < threshold <= 1.
        map_shards: What runs the sketches of shards; left out, this process.

    Returns:
        One entry per text, in order: (index of the kept text, similarity), or None: kept.
    """
    whole = list(texts)
    alike = Alike.of(whole, threshold, map_shards)
    everything = np.arange(len(whole))
    hits = dict(alike.drops(everything, lambda rows: [whole[n] for n in rows]))
    return [hits.get(number) for number in range(len(whole))]


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
