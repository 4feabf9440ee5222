"""Sketch a shard of texts: what may run in other processes, wherever a caller's `map` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quality.gate.sketches import signature_rows
from warehouse.text.question_form import comparison_form

Shared = TypeVar("Shared")
Shard = TypeVar("Shard")
Result = TypeVar("Result")

SKETCHED_AT_ONCE = 4096
"""Texts of one shard."""


class MapShards(Protocol):
    """What runs a function over shards: `map_here`, or the `map` of one of `flows.engines`."""

    def __call__(
        self,
        task: Callable[[Shared, Shard], Result],
        shared: Shared,
        shards: Iterable[Shard],
    ) -> Iterator[Result]:
        """The results, in the order of the shards; `task` is a function of a module."""
        ...


def map_here(
    task: Callable[[Shared, Shard], Result], shared: Shared, shards: Iterable[Shard]
) -> Iterator[Result]:
    """One shard after the other, in this process."""
    return (task(shared, shard) for shard in shards)


def shards_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, as many at once as are sketched at once."""
    left = iter(texts)
    while shard := list(islice(left, SKETCHED_AT_ONCE)):
        yield shard


@dataclass(frozen=True)
class SketchedShard:
    """Texts in the form in which they are compared, and their MinHash signatures."""

    forms: list[str]
    signatures: NDArray[np.uint32]
    """(texts, permutations)."""


def sketch_shard(_: None, texts: Sequence[str]) -> SketchedShard:
    """Fold texts to their forms and sign them."""
    forms = [comparison_form(text) for text in texts]
    return SketchedShard(forms, signature_rows(forms))


def sign_shard(_: None, forms: Sequence[str]) -> NDArray[np.uint32]:
    """The MinHash signatures of texts that are in that form already: (texts, permutations)."""
    return signature_rows(forms)
