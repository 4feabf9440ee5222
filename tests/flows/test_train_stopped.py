"""Ctrl-C in a training, an early end, and what a user is told of students and of what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.runtime import signals
from flows.runtime.training_monitor import ending
from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from warehouse.db.store import Store
from warehouse.records import Run, Student

LONG = ("train.epochs=20", "train.save_steps=10", "train.tuner.dropout=0.0")
EARLY = (
    "train.epochs=8",
    "train.learning_rate=0.2",
    "train.early_stopping={share=0.2,patience=1,steps=1}",
)


def changed(*overrides: str) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plan whose teacher has answered."""
    folder = tmp_path_factory.mktemp("stopped")
    write_plan(folder, scripted(folder / "asked.log"))
    missing = distill(folder, "train", "plan.toml")
    assert missing.returncode == 2
    assert missing.stderr.endswith("run `distill generate plan.toml` first\n")
    assert distill(folder, "generate", "plan.toml").returncode == 0
    return folder


def interrupted(folder: Path) -> tuple[int, str]:
    """A training that gets a signal once it has a checkpoint: its exit code and what it said."""
    command = [sys.executable, "-m", "flows.cli", "train", "plan.toml", *changed(*LONG)]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, stderr=said, stdout=said)
    give_up = time.monotonic() + 240
    while not list(folder.glob("students/*.work/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    return process.wait(timeout=120), (folder / "said").read_text()


def test_a_signal_in_training_keeps_every_step_and_the_same_command_goes_on(folder):
    code, said = interrupted(folder)
    assert code == 3, said
    assert "Ctrl-C again stops at once" in said
    found = re.fullmatch(
        r"distill: stopped at step (\d+) of 60; a checkpoint is kept; resume with: distill train .*",
        said.splitlines()[-1],
    )
    assert found is not None, said
    (stopped,) = Store(folder / "w.duckdb").read(Run, "state = 'stopped'")
    assert stopped.summary["overrides"] == list(LONG)
    done = distill(folder, "train", "plan.toml", *changed(*LONG), "--json")
    assert done.returncode == 0, done.stderr
    assert f"training resumes at step {found[1]} of 60" in done.stderr
    result = json.loads(done.stdout)
    assert (result["run_id"], result["trained"]) == (stopped.run_id, True)

    shutil.rmtree(result["student_path"])
    again = distill(folder, "train", "plan.toml", *changed(*LONG), "--json")  # never interrupted
    assert again.returncode == 0, again.stderr
    assert "goes on" not in again.stderr
    assert json.loads(again.stdout)["final_loss"] == pytest.approx(result["final_loss"], rel=1e-5)


def test_the_first_signal_is_finished_and_the_second_interrupts():
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == 1

    with signals.finished(stop):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert asked == [True]
    with signals.finished(stop), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # there is nothing to finish
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_early_end_is_told_and_so_is_whose_weights_are_kept(folder):
    done = distill(folder, "train", "plan.toml", *changed(*EARLY), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (student,) = Store(folder / "w.duckdb").by_ids(Student, "student_id", [result["student_id"]])
    looks = {at["step"]: at["held_out_loss"] for at in student.losses if "held_out_loss" in at}
    losses = {at["step"]: at["loss"] for at in student.losses if "loss" in at}
    best = min(looks, key=looks.__getitem__)
    assert (result["best_step"], result["held_out_loss"]) == (best, looks[best])
    assert result["final_loss"] == losses[best]
    assert max(losses) == best + 1 < 24
    told = [line for line in done.stderr.splitlines() if line.startswith("stopped early at step")]
    assert told == [
        f"stopped early at step {best + 1:.0f} of 24: held-out loss {looks[best]:.4g} at step "
        f"{best:.0f} was not beaten for 1 evaluation; the weights of step {best:.0f} are kept"
    ]
    assert f"held-out {looks[best]:.3f}" in done.stderr
    (row,) = [
        row
        for row in json.loads(
            distill(folder, "show", "students", "--warehouse", "w.duckdb", "--json").stdout
        )
        if row["student_id"] == student.student_id
    ]
    for name in ("best_step", "final_loss", "held_out_loss"):
        assert row[name] == result[name]
    assert (row["tuner"], row["rows"], row["epochs"]) == ("lora", 19, 8)
    assert (row["memory"], row["path"]) == (student.audit["memory"], student.path)


def test_curves_of_a_student_that_is_there_already_are_not_promised(folder):
    plain = changed("train.epochs=1", "train.seed=7")
    assert distill(folder, "train", "plan.toml", *plain).returncode == 0
    again = distill(folder, "train", "plan.toml", *plain, *changed("train.track=tensorboard"))
    assert again.returncode == 0, again.stderr
    assert "note: nothing is written for train.track = 'tensorboard'" in again.stderr
    assert "--set train.seed=8" in again.stderr
    assert not (folder / "runs" / "tensorboard").exists()

    listed = distill(folder, "runs", "--warehouse", "w.duckdb").stdout.splitlines()
    assert "train.seed=7 train.track=tensorboard" in listed[1]
    assert "lora" in listed[1]
    wrong = distill(folder, "chat", "plan.toml", "--student", "ffff").stderr
    hint = re.search(r"`distill (show students --warehouse .*)` lists them", wrong)
    assert hint is not None, wrong
    (first, second, *_) = distill(folder, *hint[1].split()).stdout.splitlines()
    assert first.split()[:2] == ["student", "tuner"]
    assert second.split()[1:4] == ["lora", "24", "1"]  # the newest


def test_check_notes_what_training_would_miss_here(folder):
    wanted = changed("train.packing=true", "train.track=trackio")
    told = distill(folder, "check", "plan.toml", *wanted)
    assert told.returncode == 0, told.stderr
    notes = [line for line in told.stdout.splitlines() if line.startswith("note ")]
    found = {name: __import__("importlib.util").util.find_spec(name) for name in
             ("flash_attn", "trackio")}  # fmt: skip
    assert any("FlashAttention" in line for line in notes) == (found["flash_attn"] is None)
    assert any("stillhouse[monitor]" in line for line in notes) == (found["trackio"] is None)
    plain = distill(folder, "check", "plan.toml")
    assert "note " not in plain.stdout


@pytest.mark.parametrize(
    ("looks", "total", "told"),
    [
        ([0.9, 0.8, 0.85], 6, "stopped early at step 3 of 6: held-out loss 0.8 at step 2 was not "
         "beaten for 1 evaluation; the weights of step 2 are kept"),
        ([0.9, 0.8, 0.85, 0.81], 6, "stopped early at step 4 of 6: held-out loss 0.8 at step 2 was "
         "not beaten for 2 evaluations; the weights of step 2 are kept"),
        ([0.9, 0.8], 2, "held-out loss 0.8 at step 2 of 2 was the lowest; the weights of step 2 "
         "are kept"),
        ([], 2, "held-out rows were never evaluated in 2 steps; the last weights are kept"),
    ],
)  # fmt: skip
def test_an_ending_in_words(looks, total, told):
    losses = [{"step": n, "held_out_loss": loss} for n, loss in enumerate(looks, start=1)]
    assert ending(losses, total) == told
