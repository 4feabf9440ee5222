"""Run a training in several processes, started through torchrun.

The parent writes the job, starts the workers and reads the first one's steps; rank 0 alone
writes the student. On one machine they meet on the loopback address; several machines meet
through `distill.learning.nodes`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.learning.objective import Objective, TrainingInputs
from train.config import SftConfig
from train.loop.callbacks import Step, TrainingCallbacks, report_audit, report_generated
from train.loop.sft import TrainingResult
from warehouse import catalog
from warehouse.errors import Outcome, StillhouseError, TrainingError
from warehouse.parent_process import end_with_parent
from warehouse.part_origins import part_error
from warehouse.processors import usable_processors
from warehouse.records import Sample

_LAUNCH = ("torch.distributed.run", "--standalone", "--nproc_per_node")
"""Python's `-m` arguments: one machine, any free port. Accelerate's own launcher, which calls
this one for GPUs, starts a single process on a CPU."""

WORKER = "distill.learning.multiprocess"
"""The module that each training process runs."""

_SHOWN = 2000
"""Characters of a worker's traceback to show."""

_WORKER_FAILED = re.compile(r"failed \(exitcode: -?\d+\)")
"""How torchrun logs that a worker ended; a traceback and a banner of its own come after it."""

_KILLED = re.compile(r"exitcode\s*: -(?!15\b)(\d+)")
"""A signal that ended a worker, in torchrun's log; it sends 15 itself, to those that are left."""


def train_in_processes(
    objective: Objective,
    inputs: TrainingInputs,
    callbacks: Callable[[Step], None] = lambda step: None,
    alone: bool = False,
    threads: int | None = None,
) -> TrainingResult:
    """Run `objective.train` in `inputs.config.processes` processes of each of its `nodes`.

    A single one runs in this process, unless `alone` asks for a child. `threads`: those that its
    processes share; None leaves them all of the machine, or what the environment says.

    Raises:
        TrainingError: a worker's own error, the signal that killed it, or a node that did not
            come, does not fit or was lost.
        RuntimeError: a worker crashed; with the end of its traceback.
    """
    number, nodes = inputs.config.processes, inputs.config.nodes
    if number * nodes == 1 and not alone:
        return objective.train(inputs, callbacks)
    inputs.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".train-", dir=inputs.out.parent) as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(job_json(objective, inputs, job.parent)))
        if nodes > 1:
            command = python_command("distill.learning.nodes", str(job))
        elif number > 1:
            command = python_command(*_LAUNCH, str(number), "--module", WORKER, str(job))
        else:
            command = python_command(WORKER, str(job))
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end is this process's end
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(number if number * nodes > 1 else None, threads),
        )
        try:
            return _follow(worker, callbacks, Path(folder))
        finally:
            if worker.poll() is None:
                worker.terminate()
                worker.wait()


def python_command(module: str, *words: str) -> list[str]:
    """The command line of a module in this Python; the working directory is not searched."""
    return [sys.executable, "-P", "-m", module, *words]


def environment(processes: int | None = None, threads: int | None = None) -> dict[str, str]:
    """Environment variables of training processes: our packages first, a fair share of threads.

    Args:
        processes: Those that share this machine; None leaves their threads to torch.
        threads: What they share of it, whatever the environment says; None leaves it to that.
    """
    homes = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, homes)),
        "PYTHONSAFEPATH": "1",  # a train.py in the working directory is not our package
    }
    if threads is not None:
        each = str(max(1, threads // (processes or 1)))
        variables |= {"OMP_NUM_THREADS": each, "MKL_NUM_THREADS": each}
    elif processes is not None:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, usable_processors() // processes)))
    return variables


class Killed(TrainingError):
    """A signal ended a training process; training resumes at its last checkpoint."""


def job_json(objective: Objective, inputs: TrainingInputs, folder: Path) -> dict[str, Any]:
    """A training as JSON-able values; code of parts in files goes into the folder."""
    return {
        "objective": catalog.table_in(objective, folder / "objective"),
        "base": inputs.base,
        "tuner": catalog.table_in(inputs.tuner, folder / "tuner"),
        "samples": [asdict(sample) for sample in inputs.samples],
        "config": inputs.config.model_dump(mode="json"),
        "out": str(inputs.out),
        "logprobs": dict(inputs.logprobs),
        "held_out": [list(item) for item in inputs.held_out],
    }


def read_job(described: Mapping[str, Any], folder: Path) -> tuple[Objective, TrainingInputs]:
    """The training that `job_json` described; `folder` has the code of its parts."""
    inputs = TrainingInputs(
        base=described["base"],
        tuner=catalog.build("tuner", described["tuner"], folder / "tuner"),
        samples=[Sample(**sample) for sample in described["samples"]],
        config=SftConfig.model_validate_json(json.dumps(described["config"])),
        out=Path(described["out"]),
        logprobs=described["logprobs"],
        held_out=[(question, passage) for question, passage in described["held_out"]],
    )
    return catalog.build("objective", described["objective"], folder / "objective"), inputs


def _follow(worker: Any, callbacks: Callable[[Step], None], folder: Path) -> TrainingResult:
    from threading import Thread

    stderr_lines: list[str] = []
    listener = Thread(target=lambda: stderr_lines.extend(worker.stderr), daemon=True)
    listener.start()
    for line in worker.stdout:
        if line.startswith('{"step":'):
            callbacks(Step(**json.loads(line)["step"]))
        elif line.startswith('{"audited":'):
            report_audit(callbacks, json.loads(line)["audited"])
        elif line.startswith('{"drawn":'):
            report_generated(callbacks, *json.loads(line)["drawn"])
    code = worker.wait()
    listener.join()
    for error in sorted(folder.glob("error.*")):  # of any rank: the others failed because of it
        raise TrainingError(error.read_text(encoding="utf-8"))
    result = folder / "result.json"
    if result.is_file():
        values = json.loads(result.read_text())
        return TrainingResult(**{**values, "path": Path(values["path"])})
    for lost in sorted(folder.glob("lost.*")):  # another node, which ended this one's workers, too
        raise TrainingError(lost.read_text(encoding="utf-8"))
    raise crash_of(code, "".join(stderr_lines), folder)


def crash_of(code: int, stderr: str, folder: Path) -> Exception:
    """The reason of an unexpected end: a signal, the first traceback, or the workers' output."""
    killed = _KILLED.search(f"{stderr}\nexitcode: {code}")
    if killed:
        return Killed(
            f"a training process was killed by {signal.Signals(int(killed.group(1))).name}; the "
            "system kills with SIGKILL where memory runs out: lower train.batch_size or "
            "train.max_length, then rerun; training resumes at its last checkpoint"
        )
    crashes = sorted(folder.glob("crash.*"), key=lambda file: file.stat().st_mtime_ns)
    if crashes:  # the first to fail: the others failed because of it
        own = crashes[0].read_text(encoding="utf-8")
        return RuntimeError(f"training process {crashes[0].suffix[1:]} failed:\n{own[-_SHOWN:]}")
    failed = _WORKER_FAILED.search(stderr)
    own = stderr[: stderr.rfind("\n", 0, failed.start()) + 1] if failed else stderr
    return RuntimeError(f"training processes ended with {code}:\n{own[-_SHOWN:]}")


def main(job: Path) -> None:
    """Run one worker; write its error or traceback to a file for the parent."""
    rank = os.environ.get("RANK", "0")
    try:
        _run_job(job, first=rank == "0")
    except (StillhouseError, Outcome) as error:
        job.with_name(f"error.{rank}").write_text(str(error), encoding="utf-8")
        raise
    except Exception as error:
        fault = part_error(error)
        name, text = ("error", str(fault)) if fault else ("crash", traceback.format_exc())
        job.with_name(f"{name}.{rank}").write_text(text, encoding="utf-8")
        raise


def _run_job(job: Path, first: bool) -> None:
    """Train as in a single process; the first worker reports to the parent."""
    described: Mapping[str, Any] = json.loads(job.read_text())
    objective, inputs = read_job(described, job.parent)

    def say(what: str, value: Any) -> None:
        if first:
            print(json.dumps({what: value}), flush=True)

    callbacks = TrainingCallbacks(
        step=lambda step: say("step", asdict(step)),
        audited=lambda figures: say("audited", figures),
        drawn=lambda done, total: say("drawn", [done, total]),
    )
    result = objective.train(inputs, callbacks)
    if first:
        job.with_name("result.json").write_text(
            json.dumps({**asdict(result), "path": str(result.path)})
        )


if __name__ == "__main__":
    end_with_parent()
    main(Path(sys.argv[1]))
