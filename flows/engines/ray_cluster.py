"""Run shards on Ray: worker processes of this machine, or the cluster at an address."""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import signal
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, TypeVar

from flows.engines.workers import (
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

_QUIET = {
    "RAY_ENABLE_AUTO_CONNECT": "0",  # no cluster but what is asked for
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else it tells of each death on stdout, where the result goes
}
_HERE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # everywhere, what it does there: loopback only
    "RAY_AUTH_MODE": "token",
    "RAY_task_oom_retries": str(DEATHS),  # else it tries for ever
}


class RayEngine(WorkerEngine):
    """Workers of Ray, one processor each.

    Those that are started here listen on the loopback device, and ask for a token that only this run
    knows: whoever reaches a cluster may run code there.
    """

    def __init__(
        self, workers: int | None = None, address: str | None = None, gpus_per_worker: int = 0
    ) -> None:
        require_modules('run.engine = "ray"', "ray")
        self.address = address
        self.workers = workers or (usable_processors() if address is None else 0)
        self._each = gpus_per_worker
        if gpus_per_worker and address is None:
            gpus_of(self.workers, gpus_per_worker)  # Ray deals them out
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._is_started = False

    def start(self) -> None:
        """Start the workers, or connect to those at the address.

        Raises:
            EngineError: no cluster answers there, it has another version, or this process uses one.
        """
        if self._is_started:
            return
        set_environment(is_here=self.address is None)
        import ray

        if ray.is_initialized():
            raise EngineError(
                "this process is connected to a ray cluster already, and may be to one only; call "
                "ray.shutdown() first"
            )
        if self.address is None:
            self._init(
                address="local",
                num_cpus=self.workers,
                num_gpus=self.workers * self._each,
                include_dashboard=False,
                runtime_env={"env_vars": ONE_PROCESSOR},
            )
        else:
            require_answer("ray", self.address)
            try:
                self._init(address=self.address)
            except Exception as error:  # whatever listens there may answer anything
                raise no_answer("ray", self.address, error) from None
            self._require_workers()
        worker = ray.remote(_Worker).options(
            num_cpus=1, num_gpus=self._each, max_restarts=-1, max_task_retries=DEATHS
        )
        self._free = SimpleQueue()
        for _ in range(self.workers):
            self._free.put(worker.remote())
        self._is_started = True

    def _init(self, **options: Any) -> None:
        import ray

        handler = signal.getsignal(signal.SIGTERM)  # Ray sets its own
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        try:
            signal.signal(signal.SIGTERM, handler)
        except ValueError:  # not in the main thread, where Ray set none
            return

    def _require_workers(self) -> None:
        import ray

        try:
            probe = ray.remote(installed_version).options(num_cpus=0)  # also where all are busy
            there = ray.get(probe.remote(), timeout=60)
        except ray.exceptions.GetTimeoutError:
            ray.shutdown()
            raise EngineError(
                f"no worker of the ray cluster at run.address '{self.address}' answers within 60 s; "
                "look at `ray status` there"
            ) from None
        except ray.exceptions.RayError:
            there = None
        try:
            require_same_version([there])
        except EngineError:
            ray.shutdown()
            raise
        processors = int(ray.cluster_resources().get("CPU", 1))
        self.workers = min(self.workers or processors, processors)

    def share(self, shared: Any) -> Any:
        """Put it into Ray's store of objects, from which each worker takes it once."""
        import ray

        return ray.put(pickle.dumps(shared))

    def run(self, task: Callable[[Any, Any], Result], sent: Any, shard: Any) -> Result:
        """Run a shard on a worker that is free; Ray runs it again where that one dies."""
        import ray
        from ray import exceptions

        worker = self._free.get()
        if not self._is_started:  # a call would start a cluster of Ray's own accord
            self._free.put(worker)
            raise CancelledError
        # In a list: Ray would unpack a bare reference for each shard.
        reference = worker.run.remote(task, [sent], pickle.dumps(shard))
        try:
            result: Result = ray.get(reference)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.TaskCancelledError:
            raise CancelledError from None
        except exceptions.RayError:  # the worker, its node or its memory is gone
            raise workers_lost() from None
        finally:
            self._free.put(worker)
        return result

    def stop(self) -> None:
        """End the workers that were started here; leave others."""
        if not self._is_started:
            return
        import ray

        self._is_started = False
        ray.shutdown()


class _Worker:
    """An actor: it keeps its GPUs, and what shards share, from one shard to the next."""

    def __init__(self) -> None:
        self._shared: OrderedDict[str, Any] = OrderedDict()

    def run(self, task: Callable[[Any, Any], Result], sent: list[Any], shard: bytes) -> Result:
        """Run a shard."""
        import ray

        [reference] = sent
        key = reference.hex()
        if key not in self._shared:
            self._shared[key] = load(ray.get(reference))
            if len(self._shared) > 2:
                self._shared.popitem(last=False)
        return task(self._shared[key], pickle.loads(shard))


def set_environment(is_here: bool) -> None:
    """What Ray reads when it is imported, and hands on to its processes; the user's own goes first."""
    wanted = _QUIET | (_HERE if is_here else {})
    if is_here and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        wanted["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
