"""Run shards on Dask: worker processes of this machine, or the cluster at an address."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar
from uuid import uuid4

from flows.engines.workers import (
    ANSWER_S,
    DEATHS,
    ONE_PROCESSOR,
    EngineError,
    WorkerEngine,
    gpus_of,
    installed_version,
    load,
    no_answer,
    require_answer,
    require_same_version,
    workers_lost,
)
from warehouse.extras import require_modules
from warehouse.processors import usable_processors

Result = TypeVar("Result")

_OPTIONS = {
    "distributed.comm.timeouts.connect": "5s",  # how long a dead worker is waited for
    "distributed.scheduler.http.routes": [],  # pages that anybody on this machine could read
    "distributed.worker.http.routes": [],
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.admin.large-graph-warning-threshold": "16GiB",  # what is shared goes with the graph
}


class DaskEngine(WorkerEngine):
    """Workers of Dask, of one thread each where they are started here.

    Those are reached on the loopback device, with a certificate that only this run knows: whoever
    reaches a scheduler may run code there.
    """

    def __init__(
        self, workers: int | None = None, address: str | None = None, gpus_per_worker: int = 0
    ) -> None:
        require_modules('run.engine = "dask"', "distributed")
        self.address = address
        self.workers = workers or (usable_processors() if address is None else 0)
        self._each = gpus_per_worker
        self._gpus = (
            gpus_of(self.workers, gpus_per_worker) if gpus_per_worker and address is None else []
        )
        self._client: Any = None
        self._cluster: Any = None
        self._options = ExitStack()

    def start(self) -> None:
        """Start the workers, or connect to those at the address.

        Raises:
            EngineError: no cluster answers there, it has no worker, or another version.
        """
        if self._client is not None:
            return
        import dask
        from distributed import Client, LocalCluster

        self._options.enter_context(dask.config.set(_OPTIONS))  # also for workers that come later
        if self.address is not None:
            self._connect(self.address)
            return
        for name in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the engine tells of deaths itself
        self._cluster = LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            security=True,
            silence_logs=logging.CRITICAL,
            env=dict(ONE_PROCESSOR),
        )
        self._client = Client(self._cluster, set_as_default=False)
        self._client.register_plugin(_plugin(self._gpus))

    def _connect(self, address: str) -> None:
        from distributed import Client

        require_answer("dask", address)
        try:
            self._client = Client(address, timeout=ANSWER_S, set_as_default=False)
        except Exception as error:  # whatever listens there may answer anything
            raise no_answer("dask", address, error) from None
        try:
            self._client.wait_for_workers(1, timeout=ANSWER_S)
        except TimeoutError:
            self.stop()
            raise EngineError(
                f"the dask scheduler at run.address '{address}' has no worker; start "
                f"`dask worker {address}` on the machines that are to work"
            ) from None
        versions = self._client.run(installed_version, on_error="return").values()
        require_same_version(v if isinstance(v, str) else None for v in versions)
        threads = sum(self._client.nthreads().values())
        self.workers = min(self.workers or threads, threads)

    def share(self, shared: Any) -> Any:
        """A task that gives it, not a copy of it: Dask runs it again where a worker dies."""
        return self._client.submit(load, pickle.dumps(shared), pure=False)

    def run(self, task: Callable[[Any, Any], Result], sent: Any, shard: Any) -> Result:
        """Run a shard; Dask gives it to another worker where one dies."""
        from distributed import KilledWorker

        wanted = {"GPU": self._each} if self._each and self.address is not None else None
        key = f"{task.__name__}-{uuid4().hex}"  # the name by which Dask learns how long one takes
        shard = pickle.dumps(shard)
        future = self._client.submit(_run, task, sent, shard, key=key, pure=False, resources=wanted)
        try:
            result: Result = future.result()
        except KilledWorker:
            raise workers_lost() from None
        return result

    def release(self, sent: Any) -> None:
        """Let the workers forget it."""
        sent.release()

    def stop(self) -> None:
        """End the workers that were started here; leave others."""
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.close()
        self._options.close()


def _run(task: Callable[[Any, Any], Result], shared: Any, shard: bytes) -> Result:
    return task(shared, pickle.loads(shard))


def _plugin(gpus: list[str]) -> Any:
    """What each worker that is started here does first, also one that takes the place of another."""
    from distributed import WorkerPlugin

    class Begin(WorkerPlugin):
        """Leave Ctrl-C to the run's process, and use the worker's own GPUs."""

        name = "stillhouse"

        def setup(self, worker: Any) -> None:
            import signal

            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name)]

    return Begin()
