"""Send shards to workers: a few at once, each in a thread that waits for its result."""

from __future__ import annotations

import gc
import os
import pickle
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from flows.runtime.prefect_flow import run_shard
from warehouse.errors import PlanError, StillhouseError
from warehouse.processors import usable_processors

Shared = TypeVar("Shared")
Shard = TypeVar("Shard")
Result = TypeVar("Result")

DEATHS = 3
"""So often workers may die over one shard and have it run again."""
AHEAD = 2
"""Shards for each worker that are sent before the first result is taken."""
ANSWER_S = 10
"""Seconds within which the address of a cluster has to answer."""
WAKES_S = 1
"""Seconds after which whoever waits for results looks for a signal."""
ONE_PROCESSOR = {
    name: "1"
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
}
"""Environment of a worker on this machine: there is one for each processor."""


def load(pickled: bytes) -> Any:
    """Unpickle what all shards of a worker need, for as long as it lives.

    Nothing of it is garbage, so the garbage collector need not look through it again and again, which
    takes a sixth of the time of rules.
    """
    loaded = pickle.loads(pickled)
    gc.collect()
    gc.freeze()
    return loaded


class WorkersLost(StillhouseError):
    """Workers died again and again over the same shard."""


class EngineError(StillhouseError):
    """The workers of an engine cannot be reached, or cannot run this version."""


class WorkerEngine(ABC):
    """Runs shards in other processes. Prefect stays here: a task waits for the result of its shard.

    A subclass starts workers, sends them what all shards need, and runs one shard.
    """

    is_local = False
    workers: int
    address: str | None = None

    def map(
        self,
        task: Callable[[Shared, Shard], Result],
        shared: Shared,
        shards: Iterable[Shard],
        finished: Callable[[Result], object] | None = None,
    ) -> Iterator[Result]:
        """The results, in the order of the shards; few shards are held at once.

        Raises:
            WorkersLost: workers die over a shard, whoever takes it; memory that ran out is the
                commonest reason.
            EngineError: the workers cannot be reached.
        """
        left = iter(shards)
        first = list(islice(left, 1))
        if not first:
            return
        self.start()
        sent = self.share(shared)
        room = AHEAD * self.workers
        threads = ThreadPoolExecutor(room, thread_name_prefix="shard")

        def send(shard: Shard) -> Future[Result]:
            job = partial(self.run, task, sent, shard)
            return threads.submit(copy_context().run, run_shard, job)  # within the flow run

        waiting: deque[Future[Result]] = deque()
        try:
            waiting.extend(send(shard) for shard in chain(first, islice(left, room - 1)))
            running = set(waiting)
            while waiting:
                # Not for ever: a signal that another thread receives is handled when this one wakes.
                done, running = wait(running, WAKES_S, return_when=FIRST_COMPLETED)
                if finished is not None:
                    for future in done:
                        if future.exception() is None:
                            finished(future.result())
                while waiting and waiting[0].done():
                    result = waiting.popleft().result()
                    for shard in islice(left, 1):
                        following = send(shard)
                        waiting.append(following)
                        running.add(following)
                    yield result
        finally:
            if waiting:
                for future in waiting:
                    future.cancel()
                self.interrupt()
            threads.shutdown()
            self.release(sent)

    @abstractmethod
    def start(self) -> None:
        """Start the workers, or reach them, unless that is done."""

    @abstractmethod
    def share(self, shared: Any) -> Any:
        """Send the workers what all shards need; returns what `run` takes for it."""

    @abstractmethod
    def run(self, task: Callable[[Any, Any], Result], sent: Any, shard: Any) -> Result:
        """Run a shard on any worker, again where the worker dies, and wait for the result.

        Called in many threads at once.
        """

    def release(self, sent: Any) -> None:  # noqa: B027  (most need nothing)
        """Free what was shared."""

    @abstractmethod
    def stop(self) -> None:
        """End the workers; shards that run end with an error."""

    def interrupt(self) -> None:
        """End the workers, and with them the shards that run."""
        self.stop()

    def threads_of(self, shards: int) -> int | None:
        """Threads for each of these shards, which run at once and have this machine for themselves;
        None on a cluster, which gives its workers theirs."""
        if self.address is not None:
            return None
        return max(1, usable_processors() // min(self.workers, shards))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        self.stop()


def workers_lost() -> WorkersLost:
    """The error where a shard has cost too many workers."""
    return WorkersLost(
        f"workers died {DEATHS + 1} times over the same rows, as they do where memory runs out; set "
        'run.workers lower, or run.engine = "local"; what was finished is saved'
    )


def require_answer(engine: str, address: str) -> None:
    """See that somebody listens at a cluster's address, where it names host and port.

    Raises:
        EngineError: nobody does.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise EngineError(f"run.address '{address}' has no port; write it as host:port") from None
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as error:
        raise no_answer(engine, address, error) from None


def no_answer(engine: str, address: str, error: BaseException) -> EngineError:
    """The error where a cluster cannot be reached."""
    lines = str(error).split("\n")
    reason = lines[0].strip() or type(error).__name__
    if reason.endswith(":"):  # what follows is a traceback, whose last line says why
        reason = f"{reason} {[line for line in lines if line.strip()][-1].strip()}"
    return EngineError(
        f"no {engine} cluster answers at run.address '{address}' ({reason}); start it, or leave "
        "run.address out for workers on this machine"
    )


def installed_version() -> str:
    """The version of this package: what a worker on another machine has to have, too."""
    return version("stillhouse")


def require_same_version(versions: Iterable[str | None]) -> None:
    """See that workers have this version; None stands for one that has none.

    Raises:
        EngineError: one has not.
    """
    here = installed_version()
    for there in versions:
        if there != here:
            raise EngineError(
                f"the workers at run.address have stillhouse {there or 'not installed'}, and here is "
                f"{here}: install stillhouse=={here} and the packages of the plan's scorers there"
            )


def gpus_of(workers: int, each: int) -> list[str]:
    """`CUDA_VISIBLE_DEVICES` of each worker on this machine.

    Raises:
        PlanError: there are not enough GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        devices = [name.strip() for name in visible.split(",") if name.strip()]
    else:
        import torch

        devices = [str(number) for number in range(torch.cuda.device_count())]
    if len(devices) < workers * each:
        raise PlanError(
            f"run.gpus_per_worker = {each} with {workers} workers takes {workers * each} GPUs, and "
            f"this machine has {len(devices)}; set run.workers or run.gpus_per_worker lower"
        )
    return [",".join(devices[n * each : (n + 1) * each]) for n in range(workers)]
