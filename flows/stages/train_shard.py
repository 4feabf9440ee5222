"""Train a student in a worker: an arm of a bake-off, or one of several seeds."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.learning.multiprocess import Killed, job_json, read_job, train_in_processes
from distill.learning.objective import Objective, TrainingInputs
from flows.engines.engine import ShardEngine
from flows.engines.worker_model import base_for_workers
from flows.engines.workers import DEATHS
from train.loop.callbacks import Step, TrainingCallbacks
from train.loop.sft import TrainingResult
from train.model.device import require_a_gpu_each
from warehouse.errors import StillhouseError, TrainingError

LEASE = ".lease"
"""Suffix of the file beside a student's folder that is there while a run has it trained."""
SEEN_WITHIN_S = 5.0
"""Seconds within which a worker has to see that file: a shared folder may show it late."""
_SHARED = ("samples", "logprobs", "held_out")
"""What the trainings have in common."""


@dataclass(frozen=True)
class TrainingShard:
    """One training, in plain records."""

    student_id: str
    job: str
    """`distill.learning.multiprocess.job_json`, without what is shared; JSON."""
    code: tuple[tuple[str, bytes], ...]
    """Relative path and content of the files of tuner and objective, where they are in some."""
    base_fingerprint: str
    token: str
    """Content of the lease, by which a worker knows that the run goes on."""
    threads: int | None
    """Threads for it; None leaves them to the cluster."""


@dataclass(frozen=True)
class TrainedShard:
    """What came of a training: a result, or the error that ended it."""

    student_id: str
    figures: dict[str, Any]
    """Of its audit."""
    result: TrainingResult | StillhouseError
    resumed_after: int | None = None
    """The last step after which it resumed, where something was killed."""

    def trained(self) -> TrainingResult:
        """The result.

        Raises:
            StillhouseError: there is none.
        """
        if isinstance(self.result, StillhouseError):
            raise self.result
        return self.result


def train_shards(
    engine: ShardEngine,
    trainings: Mapping[str, tuple[Objective, TrainingInputs]],
    threads: int | None,
    finished: Callable[[TrainedShard], object],
) -> None:
    """Train on workers, several at once.

    Args:
        engine: Where.
        trainings: By student id; they have samples, log-probabilities and held-out items in common.
        threads: Threads for each; None leaves them to the cluster.
        finished: Called with each that is over, in any order.

    Raises:
        TrainingError: a worker does not see the folder of students, or has other weights as base.
    """
    from train.model.base_model import base_fingerprint

    with _leased([inputs.out for _, inputs in trainings.values()]) as token:
        shared = ""
        shards = []
        for student_id, (objective, inputs) in trainings.items():
            with tempfile.TemporaryDirectory() as name:
                job = job_json(objective, inputs, Path(name))
                code = tuple(
                    (str(file.relative_to(name)), file.read_bytes())
                    for file in sorted(Path(name).rglob("*"))
                    if file.is_file()
                )
            common = {key: job.pop(key) for key in _SHARED}
            shared = shared or json.dumps(common)
            job |= {"base": base_for_workers(inputs.base), "out": str(inputs.out.resolve())}
            weights = base_fingerprint(inputs.base)
            shards.append(TrainingShard(student_id, json.dumps(job), code, weights, token, threads))
        for _ in engine.map(train_in_worker, shared, shards, finished):
            pass


@contextmanager
def _leased(students: Sequence[Path]) -> Iterator[str]:
    """Have a file with a random token beside each student's folder.

    A worker that does not see it does not have this folder; one that sees it no more, or another
    token, ends its training, since the run has ended.
    """
    token = secrets.token_hex(16)
    files = [_lease_of(out) for out in students]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(token)
    try:
        yield token
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _lease_of(out: Path) -> Path:
    return out.with_name(out.name + LEASE)


def _is_leased(out: Path, token: str) -> bool:
    try:
        return _lease_of(out).read_text() == token
    except OSError:
        return False


def train_in_worker(shared: str, shard: TrainingShard) -> TrainedShard:
    """Train in a process of its own, which ends with the worker; resumes where one was killed.

    Raises:
        TrainingError: this worker does not see the folder of students, or has other weights as base.
    """
    with tempfile.TemporaryDirectory() as name:
        for file, code in shard.code:
            path = Path(name) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(code)
        objective, inputs = read_job({**json.loads(shard.job), **json.loads(shared)}, Path(name))
        _check_worker(shard, inputs)
        if inputs.out.exists():  # of a worker that died before it could tell
            shutil.rmtree(inputs.out)
        require_a_gpu_each(inputs.config.processes)
        following = _Following(inputs.out, shard.token)
        result = _trained(objective, inputs, following, shard.threads)
    return TrainedShard(shard.student_id, following.figures, result, following.resumed_after)


def _trained(
    objective: Objective, inputs: TrainingInputs, following: _Following, threads: int | None
) -> TrainingResult | StillhouseError:
    callbacks = TrainingCallbacks(following.step, audited=following.audited)
    deaths = 0
    while True:
        try:
            return train_in_processes(objective, inputs, callbacks, alone=True, threads=threads)
        except Killed as error:  # by the system mostly, and memory may be free the next time
            deaths += 1
            if deaths > DEATHS:
                return error
        except StillhouseError as error:
            return error


@dataclass
class _Following:
    """Follows a training for a run that may end before it."""

    out: Path
    token: str
    figures: dict[str, Any] = field(default_factory=dict)
    resumed_after: int | None = None

    def audited(self, figures: dict[str, Any]) -> None:
        self.figures = dict(figures)

    def step(self, step: Step) -> None:
        if step.resumed:
            self.resumed_after = step.done
        if not _is_leased(self.out, self.token):
            raise TrainingError(f"the run that had student {self.out.name[:8]} trained has ended")


def _check_worker(shard: TrainingShard, inputs: TrainingInputs) -> None:
    from train.model.base_model import base_fingerprint

    host = socket.gethostname()
    until = time.monotonic() + SEEN_WITHIN_S
    while not _is_leased(inputs.out, shard.token):
        if time.monotonic() > until:
            raise TrainingError(
                f"worker {host} does not see the project's folder {inputs.out.parent}, into which "
                "students are trained; mount it there at the same path, or set run.engine = "
                '"local" for training'
            )
        time.sleep(0.2)
    found = base_fingerprint(inputs.base)
    if found != shard.base_fingerprint:
        raise TrainingError(
            f"base '{inputs.base}' on worker {host} has other weights than here, or is not there; "
            'have the same at the same path, or set run.engine = "local" for training'
        )
