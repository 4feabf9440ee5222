"""A training that is killed goes on; several processes do what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from distill.learning.multiprocess import _followed
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


def test_a_fault_of_any_process_is_told_in_its_own_words(tmp_path):
    (tmp_path / "error.1").write_text("the second one has no room")
    worker = subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit(1)"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="the second one has no room"):
        _followed(worker, lambda step: None, tmp_path)
