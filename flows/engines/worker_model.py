"""Keep one model in a worker's memory, from one shard to the next."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

Model = TypeVar("Model")

_LOCK = Lock()
_MODEL: dict[Hashable, Any] = {}
"""The one that this worker has."""


@contextmanager
def worker_model(key: Hashable, make: Callable[[], Model]) -> Iterator[Model]:
    """The model of this key: made for the first shard that needs it, freed when another one is needed.

    Threads of one worker, which a Dask cluster may have, take turns: a tokenizer is not made for several.
    """
    with _LOCK:
        if key not in _MODEL:
            _free()
            _MODEL[key] = make()
        yield _MODEL[key]


def _free() -> None:
    if not _MODEL:
        return
    _MODEL.clear()
    gc.unfreeze()  # what shards share is frozen, and what lay beside it then; see `workers.load`
    gc.collect()
    gc.freeze()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def base_for_workers(base: str) -> str:
    """A base as workers find it: a folder by its whole path, since they have working directories of
    their own."""
    return str(Path(base).resolve()) if Path(base).is_dir() else base
