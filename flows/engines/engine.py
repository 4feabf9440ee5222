"""Define what runs the shards of a stage: the same results whichever it is."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from distill.plan.sections import RunSection
from flows.runtime.prefect_flow import run_shard

Shared = TypeVar("Shared")
Shard = TypeVar("Shard")
Result = TypeVar("Result")


class ShardEngine(Protocol):
    """Runs a function over shards. A context manager: workers live as long as it."""

    is_local: bool
    """Whether shards run in this process, so that what they share need not be sent anywhere."""

    def map(
        self,
        task: Callable[[Shared, Shard], Result],
        shared: Shared,
        shards: Iterable[Shard],
        finished: Callable[[Result], object] | None = None,
    ) -> Iterator[Result]:
        """The results, in the order of the shards; workers start with the first shard.

        Args:
            task: A function of a module; it is given `shared` and a shard.
            shared: What all shards need; sent to each worker once.
            shards: Plain records.
            finished: Called here with each result as soon as it is there, in any order: what
                advances the one bar of all workers.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class LocalEngine:
    """Runs one shard after the other, here."""

    is_local = True

    def map(
        self,
        task: Callable[[Shared, Shard], Result],
        shared: Shared,
        shards: Iterable[Shard],
        finished: Callable[[Result], object] | None = None,
    ) -> Iterator[Result]:
        """The results, in the order of the shards."""
        gc.collect()
        gc.freeze()  # see `flows.engines.workers.load`
        try:
            for shard in shards:
                result = run_shard(partial(task, shared, shard))
                if finished is not None:
                    finished(result)
                yield result
        finally:
            gc.unfreeze()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing was started."""


def engine_of(section: RunSection) -> Any:
    """The engine that a plan's `[run]` names."""
    if section.engine == "process":
        from flows.engines.processes import ProcessEngine

        return ProcessEngine(section.worker_count, section.gpus_per_worker)
    if section.engine == "dask":
        from flows.engines.dask_cluster import DaskEngine

        return DaskEngine(section.workers, section.address, section.gpus_per_worker)
    if section.engine == "ray":
        from flows.engines.ray_cluster import RayEngine

        return RayEngine(section.workers, section.address, section.gpus_per_worker)
    return LocalEngine()
