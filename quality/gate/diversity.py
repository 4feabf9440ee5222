"""Select samples that cover the set, or that are spread evenly over groups."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quality.gate.dedup import Embeds, form, words

_COLUMNS = 1 << 18
_DIGITS = 6  # of a distance: rounding must not decide which of two equal texts is taken


def spread(
    points: Sequence[str] | NDArray[Any], limit: int, encoder: Embeds | None = None
) -> list[int]:
    """Choose what covers the set: k-centre greedy (Sener and Savarese, 2018, algorithm 1).

    The first is the one nearest to the mean of all, each next one the farthest from those
    taken, by cosine; of equally far ones the first. A smaller limit takes the beginning of
    what a larger one takes. Blank texts come last.

    Args:
        points: Texts, or their vectors (one row each).
        limit: How many at most.
        encoder: What embeds texts; left out, TF-IDF of their words says how far apart they are.

    Returns:
        Indices in the order they were taken.
    """
    if limit < 0:
        raise ValueError(f"the limit is a number from 0 up, not {limit}")
    if not len(points) or not limit:
        return []
    vectors = _vectors(points, encoder)
    mean = np.asarray(vectors.mean(axis=0)).ravel()
    blank = ~np.asarray(abs(vectors).sum(axis=1) > 0).ravel()
    central = np.round(vectors @ mean, _DIGITS)
    central[blank] = -np.inf
    distance = np.full(len(points), np.inf)
    distance[blank] = -1.0
    chosen = [int(central.argmax())]
    while True:
        last = chosen[-1]
        distance = np.minimum(distance, np.round(1.0 - _cosines(vectors, last), _DIGITS))
        distance[last] = -np.inf
        if len(chosen) == min(limit, len(points)):
            return chosen
        chosen.append(int(distance.argmax()))


def balance(
    groups: Sequence[str], ranks: Sequence[float] | None = None, limit: int | None = None
) -> list[int]:
    """Choose evenly over groups: the best of each, then the second of each, until there are enough.

    A small group gives all it has and the others share the rest; where the last round is
    larger than what is left, the best of it are taken. Equals go by their order.

    Args:
        groups: The group of each.
        ranks: How good each is, higher is better; NaN is the worst. Left out, the first is best.
        limit: How many at most; left out, all.

    Returns:
        Indices in the order they were taken.
    """
    if ranks is not None and len(ranks) != len(groups):
        raise ValueError(f"{len(groups)} groups but {len(ranks)} ranks")
    if limit is not None and limit < 0:
        raise ValueError(f"the limit is a number from 0 up, not {limit}")
    worth = [
        -math.inf if math.isnan(rank) else float(rank) for rank in ranks or [0.0] * len(groups)
    ]
    best_first = sorted(range(len(groups)), key=lambda n: (-worth[n], n))
    taken: Counter[str] = Counter()
    rounds: dict[int, int] = {}
    for number in best_first:
        rounds[number] = taken[groups[number]]
        taken[groups[number]] += 1
    return sorted(best_first, key=lambda n: rounds[n])[:limit]  # a stable sort keeps best first


def _vectors(points: Sequence[str] | NDArray[Any], encoder: Embeds | None) -> Any:
    """Rows of length one (or zero): dense, or sparse for texts without an encoder."""
    if isinstance(points, np.ndarray):
        vectors = np.asarray(points, dtype=np.float64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if encoder is not None:
        embedded = np.asarray(encoder.encode(points), dtype=np.float64)
        embedded[[n for n, text in enumerate(points) if not text.strip()]] = 0.0
        return embedded
    return _tf_idf(points)


def _tf_idf(texts: Sequence[str]) -> Any:
    """Hashed TF-IDF (Salton and Buckley, 1988) with smoothed idf and logarithmic counts."""
    from scipy import sparse

    columns: list[int] = []
    values: list[float] = []
    starts = [0]
    for text in texts:
        tokens = words(text) or ([form(text)] if form(text) else [])
        counts = Counter(zlib.crc32(word.encode()) % _COLUMNS for word in tokens)
        columns += counts
        values += [1.0 + math.log(count) for count in counts.values()]
        starts.append(len(columns))
    matrix = sparse.csr_array((values, columns, starts), shape=(len(texts), _COLUMNS))
    document_counts = np.bincount(matrix.indices, minlength=_COLUMNS)
    matrix.data *= (np.log((1 + len(texts)) / (1 + document_counts)) + 1)[matrix.indices]
    lengths = np.sqrt((matrix * matrix).sum(axis=1))
    matrix.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(matrix.indptr))
    return matrix


def _cosines(vectors: Any, row: int) -> NDArray[np.float64]:
    vector = vectors[[row]]
    vector = vector.toarray().ravel() if hasattr(vector, "toarray") else vector.ravel()
    return np.asarray(vectors @ vector)
