"""A cluster that somebody else started, in another folder: what goes there, and what does not."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from flows.stages.generate import generate
from tests.support.plans import GROUNDED, IMITATION, scripted, write_plan
from warehouse.db.store import Store
from warehouse.records import Score, Student

SECRET = "sk-never-on-a-worker"
SEEN = '''
"""What a worker sees."""

import os
from dataclasses import dataclass

from quality.scoring.scorer import Scorer, Verdict


@dataclass
class Seen(Scorer):
    """1, with the process, its folder, and the keys in its environment."""

    version = "1"

    @property
    def model(self):
        return "eyes"

    def score_batch(self, samples):
        keys = [name for name, value in os.environ.items() if "never-on-a-worker" in value]
        for sample in samples:
            yield Verdict(1.0, None, {"pid": os.getpid(), "folder": os.getcwd(), "keys": keys})
'''
RUN = """
import sys
from flows.stages import curate as stage
from flows.stages.train import train
if __name__ == "__main__":
    stage.SCORED_AT_ONCE = 8
    train(sys.argv[1], sys.argv[2:])
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def started(folder: Path, *commands: list[str], **environment: str) -> Iterator[None]:
    """Processes of a cluster, in a folder of their own; they and theirs end at the end."""
    log = (folder / "log").open("w")
    processes = [
        psutil.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log)
        for command in commands
    ]
    try:
        yield
    finally:
        below = [child for process in processes for child in process.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(processes, timeout=30)
        for process in [*processes, *below]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        log.close()


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    file = str(folder / "scheduler.json")
    python = [sys.executable, "-m"]
    scheduler = [
        *python,
        "distributed.cli.dask_scheduler",
        "--host",
        "tcp://127.0.0.1",
        "--port",
        "0",
    ]
    worker = [*python, "distributed.cli.dask_worker", "--host", "127.0.0.1", "--nworkers", "2"]
    with started(
        folder,
        [*scheduler, "--no-dashboard", "--scheduler-file", file],
        [*worker, "--nthreads", "1", "--no-dashboard", "--scheduler-file", file],
    ):
        deadline = time.monotonic() + 120
        while not Path(file).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(Path(file).read_text())["address"]


@contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    port = free_port()
    ray = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={free_port()}", f"--ray-client-server-port={port}",
        "--include-dashboard=false", "--num-cpus=2", "--disable-usage-stats",
    ]  # fmt: skip
    with (  # a socket's path has at most 107 letters
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short,
        started(folder, ray, RAY_TMPDIR=short, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"),
    ):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.2)
        yield f"ray://127.0.0.1:{port}"


CLUSTERS = {"dask": dask_cluster, "ray": ray_cluster}


@pytest.mark.parametrize("name", ["dask", pytest.param("ray", marks=pytest.mark.slow)])
def test_scores_and_students_come_from_a_cluster_elsewhere(name, tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "p"
    elsewhere.mkdir()
    plan = write_plan(folder, scripted(folder / "asked.log"))
    text = plan.read_text().replace(
        GROUNDED, IMITATION + "[quality]\nscorers = ['./seen.py:Seen']\n"
    )
    text = text.replace(f'"{folder / "w.duckdb"}"', '"w.duckdb"')
    plan.write_text(text.replace(f'"{folder / "tiny"}"', '"tiny"'))
    (folder / "seen.py").write_text(SEEN)
    generate(str(plan))
    with CLUSTERS[name](elsewhere) as address:
        options = [f"run.engine={name}", f"run.address={address}", "run.workers=2", "train.seeds=2"]
        done = subprocess.run(
            [sys.executable, "-c", RUN, "plan.toml", *options],
            cwd=folder,
            env={**os.environ, "TEACHER_API_KEY": SECRET},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("is trained, ") == 2
    store = Store(folder / "w.duckdb")
    details = [score.details for score in store.read(Score)]
    assert len(details) == 24
    assert {each["folder"] for each in details} != {str(folder)}
    assert all(each["keys"] == [] for each in details)
    assert os.getpid() not in {each["pid"] for each in details}
    assert sorted(student.seed for student in store.read(Student)) == [0, 1]
