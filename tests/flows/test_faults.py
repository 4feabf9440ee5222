"""Faults in every stage: after a restart the warehouse is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from distill.learning.multiprocess import environment
from tests.support.cli import distill
from tests.support.faulty import Faults
from tests.support.plans import scripted, write_plan
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.errors import WarehouseError
from warehouse.records import (
    Answer,
    Call,
    Choice,
    Failure,
    Prompt,
    Round,
    Run,
    RunAnswer,
    Sample,
    Score,
    SeedRun,
    Student,
)

STAGES = ("generate", "curate", "train", "evaluate", "report")
MOMENTS = 5
KINDS = (
    Answer, Call, Choice, Failure, Prompt, Round, RunAnswer, Sample, Score, SeedRun, Student,
)  # fmt: skip
OF_A_RUN = {
    "run_id", "created_at", "latency_s", "seconds", "started_at", "finished_at", "raw",
}  # fmt: skip
"""Columns that say when and in which run, not what."""

IN_FLIGHT = 16
"""More requests than the scripted teacher has at once."""

RUN = ("run", "plan.toml", "--set", "train.save_steps=1", "--set", "train.tuner.dropout=0.1")


def project(folder: Path) -> Path:
    write_plan(folder, scripted(folder / "asked.log"))
    return folder


def child(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command with a fault in a process of its own."""
    command = [sys.executable, "-m", "tests.support.faulty", *map(str, words), "--", *RUN]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment(1)
    )


def contents(folder: Path) -> dict[str, list[str]]:
    """All rows but what changes from run to run, in an order that their contents decide."""
    store = Store(folder / "w.duckdb")
    found = {}
    for kind in KINDS:
        rows = []
        for record in store.read(kind):
            row = {key: value for key, value in vars(record).items() if key not in OF_A_RUN}
            if kind is Student:
                row["audit"] = {
                    key: value for key, value in row["audit"].items() if "memory" not in key
                }
            rows.append(json.dumps(row, sort_keys=True, default=str))
        found[kind.__name__] = sorted(rows)
    return found


def asked(folder: Path) -> Counter[str]:
    """How often the teacher was asked for each call."""
    log = folder / "asked.log"
    return Counter(log.read_text().split() if log.exists() else ())


def kept(folder: Path) -> set[str]:
    """Calls whose replies are durable."""
    store = Store(folder / "w.duckdb")
    if not store.path.exists():
        return set()
    with Spool(store.path) as spool:
        spool.drain(store)
    return set(store.call_ids())


class Reader:
    """Reads a warehouse again and again, as `distill show` and `sql` do beside a run."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "w.duckdb")
        self.seen: list[int] = []
        self.refused: list[str] = []

    def until(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            try:
                table = self.store.query("SELECT count(*) AS n FROM samples")
                self.seen.append(table["n"].item())
            except WarehouseError as error:
                self.refused.append(str(error))
            time.sleep(0.3)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """An undisturbed run beside which somebody reads; its folder and the events of each stage."""
    folder = project(tmp_path_factory.mktemp("calm") / "p")
    command = [sys.executable, "-m", "tests.support.faulty", "none", "-", "0", "events.json", "--"]
    process = subprocess.Popen(
        [*command, *RUN], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment(1)
    )
    reader = Reader(folder)
    reader.until(process)
    assert process.returncode == 0, process.stderr.read()
    assert reader.seen == sorted(reader.seen) and reader.seen[-1] == 24
    assert all("no warehouse" in text for text in reader.refused), reader.refused
    events = json.loads((folder / "events.json").read_text())
    assert set(events) == set(STAGES)
    assert min(events.values()) >= MOMENTS
    return folder, events


def moment(events: int, number: int) -> int:
    """The event of a stage's moment; the first and the last event are among them."""
    return 1 + round(number * (events - 1) / (MOMENTS - 1))


@pytest.mark.trains
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == 2 else pytest.mark.slow) for n in range(MOMENTS)]
)
def test_killed_in_every_stage_a_run_ends_as_if_undisturbed(calm, tmp_path, number):
    calm_folder, events = calm
    folder = project(tmp_path / "p")
    settled: dict[str, int] = {}
    for stage in STAGES:
        done = child(folder, "kill", stage, moment(events[stage], number), "-")
        assert done.returncode == -signal.SIGKILL, (stage, done.returncode, done.stderr)
        now = asked(folder)
        for call_id, times in settled.items():
            assert now[call_id] == times, f"asked again after a kill in {stage}"
        settled = {call_id: now[call_id] for call_id in kept(folder)}
    finished = distill(folder, *RUN)
    assert finished.returncode == 0, finished.stderr
    ends_as(folder, calm_folder)
    now = asked(folder)
    for call_id, times in settled.items():
        assert now[call_id] == times
    twice = sum(now.values()) - len(now)
    assert twice <= IN_FLIGHT * len(STAGES)


def ends_as(folder: Path, calm_folder: Path) -> None:
    """Assert that a warehouse holds what an undisturbed run's does, and one run that is complete."""
    ours, theirs = contents(folder), contents(calm_folder)
    for kind in theirs:
        assert ours[kind] == theirs[kind], kind
    (run,) = Store(folder / "w.duckdb").read(Run)
    assert run.state == "completed"
    names = {path.name for path in (folder / "runs" / run.run_id).iterdir()}
    assert names >= {"report.html", "report.md", "report.json"}
    assert [path.name for path in (folder / "students").iterdir()] == [
        path.name for path in (calm_folder / "students").iterdir()
    ]


@pytest.mark.trains
@pytest.mark.parametrize(
    "stage",
    [pytest.param(name, marks=() if name == "generate" else pytest.mark.slow) for name in STAGES],
)
def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(calm, tmp_path, stage):
    calm_folder, events = calm
    folder = project(tmp_path / "p")
    faults = Faults("full", stage, moment(events[stage], 1))
    with faults.installed():
        done = distill(folder, *RUN)
    assert faults.counts[stage] >= faults.number, "the fault did not strike"
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "free disk space or fix the permissions, then rerun" in last, done.stderr
    before = {call_id: asked(folder)[call_id] for call_id in kept(folder)}
    finished = distill(folder, *RUN)
    assert finished.returncode == 0, finished.stderr
    after = asked(folder)
    assert all(after[call_id] == times for call_id, times in before.items())
    ours, theirs = contents(folder), contents(calm_folder)
    for kind in theirs:
        if kind != "Failure":
            assert ours[kind] == theirs[kind], kind


def children_of(pid: int) -> list[int]:
    """Process ids below a process, all generations."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == pid:
            number = int(entry.parent.name)
            found += [number, *children_of(number)]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.trains
@pytest.mark.parametrize("victim", ["run", pytest.param("worker", marks=pytest.mark.slow)])
def test_of_a_training_in_processes_nothing_outlives_its_run(tmp_path, victim):
    folder = project(tmp_path / "p")
    assert distill(folder, "generate", "plan.toml").returncode == 0
    words = ("train", "plan.toml", "--processes", "2", "--set", "train.save_steps=5",
             "--set", "train.epochs=8")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 200
    while not list(folder.glob("students/*.work/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.02)
    below = children_of(process.pid)
    assert len(below) >= 3, "torchrun and two workers"
    os.kill(process.pid if victim == "run" else below[-1], signal.SIGKILL)
    said = process.communicate()[1]
    if victim == "worker":
        assert process.returncode == 2 and "killed by SIGKILL" in said
    give_up = time.monotonic() + 60
    while any(is_alive(pid) for pid in below):
        assert time.monotonic() < give_up, "a training process outlived its run"
        time.sleep(0.1)
    done = distill(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] is True


@pytest.mark.trains
def test_a_second_run_on_a_warehouse_waits_and_finds_everything_done(tmp_path):
    folder = project(tmp_path / "p")
    command = [sys.executable, "-m", "flows.cli", "generate", "plan.toml", "--json"]
    runs = [
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    results = [json.loads(run.communicate()[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(result["calls_made"] for result in results) == [0, 24]
    assert set(asked(folder).values()) == {1}
