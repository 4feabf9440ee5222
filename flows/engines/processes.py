"""Run shards in worker processes of this machine; one that dies has its shards run again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from warehouse.errors import StillhouseError

Shared = TypeVar("Shared")
Shard = TypeVar("Shard")
Result = TypeVar("Result")

DEATHS = 3
"""So often workers may die over one shard until the stage is given up."""
AHEAD = 2
"""Shards for each worker that are sent before the first result is taken."""


class WorkersLost(StillhouseError):
    """Workers died again and again over the same shard."""


class ProcessEngine:
    """A pool of processes, started with the first shards and fresh ones after a death.

    They are spawned, not forked: a fork of a process with threads (DuckDB, polars, torch) may hang.
    """

    is_local = False

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="stillhouse-")
        self._sent = 0

    def map(
        self, task: Callable[[Shared, Shard], Result], shared: Shared, shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """The results, in the order of the shards; few shards are held at once.

        Raises:
            WorkersLost: workers die over a shard, whoever takes it; memory that ran out is the
                commonest reason.
        """
        self._sent += 1
        file = Path(self._folder.name) / f"{self._sent}.pickle"
        file.write_bytes(pickle.dumps(shared))
        left = iter(shards)
        waiting: deque[tuple[Shard, Future[Result] | None]] = deque()
        deaths = 0
        try:
            for shard in islice(left, AHEAD * self.workers):
                waiting.append((shard, self._send(task, file, shard)))
            while waiting:
                shard, future = waiting[0]
                try:
                    if future is None:
                        raise BrokenProcessPool
                    result = future.result()
                except BrokenProcessPool:
                    deaths += 1
                    if deaths > DEATHS:
                        raise WorkersLost(
                            f"worker processes died {deaths} times over the same rows, as they do "
                            "where memory runs out; set run.workers lower, or run.engine = "
                            '"local"; what was finished is saved'
                        ) from None
                    self._stop()
                    waiting = deque((s, self._send(task, file, s)) for s, _ in waiting)
                    continue
                deaths = 0
                waiting.popleft()
                for following in islice(left, 1):
                    waiting.append((following, self._send(task, file, following)))
                yield result
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()
            file.unlink(missing_ok=True)

    def _send(self, task: Callable[..., Result], file: Path, shard: Any) -> Future[Result] | None:
        """Give a shard to the pool; None where a worker has died, which ends the whole pool."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
            )
        try:
            return self._pool.submit(_run, task, str(file), shard)
        except BrokenProcessPool:
            return None

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        self._stop()
        self._folder.cleanup()


def _begin() -> None:
    """A worker leaves Ctrl-C to the run's process, and uses one processor."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"


def _run(task: Callable[[Any, Any], Result], file: str, shard: Any) -> Result:
    return task(_shared(file), shard)


@lru_cache(2)
def _shared(file: str) -> Any:
    """What the run's process wrote for its workers, into a folder that only its user can read."""
    with contextlib.closing(open(file, "rb")) as content:
        return pickle.load(content)
