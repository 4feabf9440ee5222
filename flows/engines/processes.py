"""Run shards in worker processes of this machine; one that dies has its shards run again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

from flows.engines.workers import DEATHS, ONE_PROCESSOR, WorkerEngine, gpus_of, load, workers_lost

Result = TypeVar("Result")


class ProcessEngine(WorkerEngine):
    """A pool of processes, started with the first shards and fresh ones after a death.

    They are spawned, not forked: a fork of a process with threads (DuckDB, polars, torch) may hang.
    """

    def __init__(self, workers: int, gpus_per_worker: int = 0) -> None:
        self.workers = workers
        self._gpus = gpus_of(workers, gpus_per_worker) if gpus_per_worker else []
        self._pool: ProcessPoolExecutor | None = None
        self._lock = Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="stillhouse-")
        self._sent = 0

    def start(self) -> None:
        """Start the pool; its processes start with the first shards."""
        with self._lock:
            self._pool = self._pool or self._new_pool()

    def share(self, shared: Any) -> Path:
        """Write it into a folder that only this user can read."""
        self._sent += 1
        file = Path(self._folder.name) / f"{self._sent}.pickle"
        file.write_bytes(pickle.dumps(shared))
        return file

    def run(self, task: Callable[[Any, Any], Result], sent: Path, shard: Any) -> Result:
        """Run a shard; a death ends the whole pool, and the next one runs it again."""
        for _ in range(DEATHS + 1):
            pool = self._pool
            if pool is None:
                raise CancelledError
            try:
                return pool.submit(_run, task, str(sent), shard).result()
            except BrokenProcessPool:
                self._replace(pool)
        raise workers_lost()

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:  # nobody else did it
                broken.shutdown(wait=True, cancel_futures=True)
                self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        gpus = context.SimpleQueue()
        for devices in self._gpus:
            gpus.put(devices)
        return ProcessPoolExecutor(
            self.workers,
            mp_context=context,
            initializer=_begin,
            initargs=(gpus if self._gpus else None,),
        )

    def release(self, sent: Path) -> None:
        """Remove the file."""
        sent.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the workers; a shard that runs ends first."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def interrupt(self) -> None:
        """End the workers, in the middle of a shard, which may be a training of hours."""
        pool = self._pool
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.terminate()
        self.stop()

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        super().__exit__(*error)
        self._folder.cleanup()


def _begin(gpus: Any) -> None:
    """A worker leaves Ctrl-C to the run's process, and uses one processor and its own GPUs."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(ONE_PROCESSOR)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()


def _end_with_parent() -> None:
    """Leave no worker behind where the run's process is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(task: Callable[[Any, Any], Result], file: str, shard: Any) -> Result:
    return task(_shared(file), shard)


@lru_cache(2)
def _shared(file: str) -> Any:
    """What the run's process wrote for its workers, into a folder that only its user can read."""
    return load(Path(file).read_bytes())
