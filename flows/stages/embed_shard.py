"""Embed texts in shards, here or on workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.engines.engine import LocalEngine, ShardEngine
from flows.engines.worker_model import worker_model
from flows.runtime.progress import bar
from quality.models.embeddings import Encoder

EMBEDDED_AT_ONCE = 1024
"""Texts of one shard, which are batched among themselves: vectors do not depend on the engine."""


@dataclass(frozen=True)
class ShardedEncoder:
    """What the gate's semantic comparison embeds with, on the run's engine."""

    name: str
    """The hub id or folder of a sentence-transformers model; each worker loads it."""
    engine: ShardEngine

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector of length one per text.

        Returns:
            Array of shape (len(texts), dimensions), float32.
        """
        starts = range(0, len(texts), EMBEDDED_AT_ONCE)
        shards = [list(texts[start : start + EMBEDDED_AT_ONCE]) for start in starts] or [[]]
        engine = self.engine if len(shards) > 1 else LocalEngine()
        with bar("embedding", len(texts)) as advance:
            found = engine.map(
                embed_shard, self.name, shards, lambda vectors: advance(len(vectors))
            )
            return np.concatenate(list(found))


def embed_shard(name: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of a shard of texts."""
    with worker_model(("encoder", name), lambda: Encoder(name)) as encoder:
        return encoder.encode(texts)
