"""A training that is killed goes on; several processes do what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from distill.learning.multiprocess import _follow
from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from warehouse.db.store import Store
from warehouse.errors import TrainingError
from warehouse.records import Student

LONG = tuple(
    word
    for key in ("epochs=40", "save_steps=10", "tuner.dropout=0.0")
    for word in ("--set", f"train.{key}")
)


def prepared(folder):
    write_plan(folder, scripted(folder / "asked.log"))
    assert distill(folder, "generate", "plan.toml").returncode == 0
    return folder


def student(folder):
    (made,) = Store(folder / "w.duckdb").read(Student)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same training, never interrupted."""
    folder = prepared(tmp_path_factory.mktemp("whole"))
    assert distill(folder, "train", "plan.toml", *LONG).returncode == 0
    return student(folder)


def test_sigkill_in_training_and_run_again_ends_at_the_same_loss(tmp_path, whole):
    folder = prepared(tmp_path)
    command = [sys.executable, "-m", "flows.cli", "train", "plan.toml", *LONG]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 240
    while not list(folder.glob("students/*.work/checkpoint-*")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not Store(folder / "w.duckdb").read(Student)
    done = distill(folder, "train", "plan.toml", *LONG, "--json")
    assert done.returncode == 0, done.stderr
    made = student(folder)
    assert [entry["step"] for entry in made.losses] == [entry["step"] for entry in whole.losses]
    assert made.losses[-1]["loss"] == pytest.approx(whole.losses[-1]["loss"], rel=1e-5)
    assert json.loads(done.stdout)["final_loss"] == made.losses[-1]["loss"]
    assert [path.name for path in (folder / "students").iterdir()] == [made.student_id]


def test_two_processes_share_a_batch_and_learn_what_one_learns(tmp_path, whole):
    folder = prepared(tmp_path)
    done = distill(folder, "train", "plan.toml", *LONG, "--processes", "2")
    assert done.returncode == 0, done.stderr
    made = student(folder)
    assert made.config["processes"] == 2
    assert [entry["step"] for entry in made.losses] == [entry["step"] for entry in whole.losses]
    for ours, theirs in zip(made.losses, whole.losses, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3)


def test_a_fault_in_a_process_is_one_line(tmp_path):
    folder = prepared(tmp_path)
    few = ("--set", "train.max_length=4", "--processes", "2")
    done = distill(folder, "train", "plan.toml", *few)
    assert done.returncode == 2
    assert "raise train.max_length" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_that_can_not_be_shared_is_refused_in_the_plan(tmp_path):
    folder = prepared(tmp_path)
    done = distill(folder, "train", "plan.toml", "--processes", "3")
    assert done.returncode == 2
    assert "cannot be shared by processes = 3" in done.stderr


def followed(folder, code):
    """What the parent makes of workers that do `code`."""
    worker = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return _follow(worker, lambda step: None, folder)


def test_a_fault_of_any_process_is_told_in_its_own_words(tmp_path):
    (tmp_path / "error.1").write_text("the second one has no room")
    (tmp_path / "crash.0").write_text("RuntimeError: Connection closed by peer")
    with pytest.raises(TrainingError, match="^the second one has no room$"):
        followed(tmp_path, "raise SystemExit(1)")


LAUNCHER = """
import sys
print("Traceback (most recent call last):\\nImportError: no torch for you", file=sys.stderr)
print("E1129 09:00:00 1 torch/distributed/elastic/multiprocessing/api.py:984] failed "
      "(exitcode: {code}) local_rank: 1 (pid: 7) of binary: python", file=sys.stderr)
print("torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\\n=====", file=sys.stderr)
raise SystemExit(1)
"""


def test_a_crash_is_the_traceback_of_the_process_that_failed_first(tmp_path, monkeypatch):
    from distill.learning.multiprocess import main

    job = tmp_path / "job.json"
    job.write_text("{}")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(KeyError):
        main(job)
    later = tmp_path / "crash.0"
    later.write_text("RuntimeError: Connection closed by peer")
    os.utime(later, ns=(2**62, 2**62))
    with pytest.raises(RuntimeError, match="^training process 1 failed:\nTraceback") as error:
        followed(tmp_path, LAUNCHER.format(code=1))
    assert "KeyError: 'base'" in str(error.value)
    assert "ChildFailedError" not in str(error.value) and "peer" not in str(error.value)


def test_what_a_worker_prints_before_it_starts_is_shown_without_the_launchers_banner(tmp_path):
    with pytest.raises(RuntimeError, match="no torch for you") as error:
        followed(tmp_path, LAUNCHER.format(code=1))
    assert str(error.value).endswith("ImportError: no torch for you\n")


def test_a_killed_worker_is_one_line_that_names_the_signal(tmp_path):
    (tmp_path / "crash.0").write_text("it lost the connection to the killed one")
    with pytest.raises(TrainingError, match="killed by SIGKILL") as error:
        followed(tmp_path, LAUNCHER.format(code=-9))
    assert "\n" not in str(error.value)
