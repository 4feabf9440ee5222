"""Fitting from the command line: the audit is seen before anything is trained, what it refuses
is on record, and the curves are where they were asked for."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest

from distill.learning.multiprocess import train_in_processes
from distill.learning.objective import TrainingInputs
from distill.objectives.sequence import Sequence
from tests.distill.test_sequence import sample
from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.loop.callbacks import StopAfterAudit, TrainingCallbacks
from train.loop.sft import train_student
from train.tuners.lora import Lora
from warehouse.db.store import Store
from warehouse.errors import MissingExtraError, TrainingError
from warehouse.records import Failure, Run, Student


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plan whose teacher has answered."""
    folder = tmp_path_factory.mktemp("fit")
    write_plan(folder, scripted(folder / "asked.log"))
    assert distill(folder, "generate", "plan.toml").returncode == 0
    return folder


def artifacts(database, name):
    """Prefect's artifacts, by key, in their order."""
    with sqlite3.connect(database) as db:
        rows = db.execute("SELECT key, type, data FROM artifact WHERE key LIKE ? ORDER BY created",
                          [f"{name}%"]).fetchall()  # fmt: skip
    return [(key, kind, json.loads(str(data))) for key, kind, data in rows]


def test_an_audit_alone_trains_nothing(folder):
    done = distill(folder, "train", "plan.toml", "--audit", "--json", "--set", "train.seed=5")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["rows_in"], figures["rows_kept"], figures["refused"]) == (24, 24, None)
    assert figures["held_out_overlap"] == {"items": 12, "rows": 0, "shown": []}
    assert figures["memory_estimate"]["total"] > 0
    assert "memory" not in figures
    assert not (folder / "students").exists()
    store = Store(folder / "w.duckdb")
    assert store.read(Student) == []
    verbs = [run.summary["verb"] for run in store.read(Run, "state = 'completed'")]
    assert verbs == ["generate", "train --audit"]


def test_the_audit_is_seen_before_training_and_kept_with_what_it_took(folder, prefect_configured):
    name = ("--set", "name=watched", "--set", "train.track=tensorboard")
    done = distill(folder, "train", "plan.toml", "--json", *name)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stderr.index("What the trainer sees") < done.stderr.index("3/3")
    assert "<|im_start|>assistant\n⟦" in done.stderr
    (student,) = Store(folder / "w.duckdb").by_ids(Student, "student_id", [result["student_id"]])
    audit = student.audit
    assert audit["supervised_tokens"] > 24
    assert audit["ends"] == {"<|im_end|>": 24}
    assert audit["serving_ends"] == ["<|im_end|>"]
    assert audit["memory"] > audit["memory_before"] > 0
    assert 0 < audit["trainable_parameters"] < audit["parameters"]

    told = artifacts(prefect_configured, "watched")
    assert [kind for _, kind, _ in told] == ["markdown", "progress", "markdown"]
    assert told[1][2] == 100
    assert "No loss was recorded" in told[0][2]
    assert "| Memory measured |" in told[2][2]
    assert "at step 3." in told[2][2]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "runs" / "tensorboard" / student.student_id))
    events.Reload()
    curve = {event.step: event.value for event in events.Scalars("train/loss")}
    losses = {entry["step"]: entry["loss"] for entry in student.losses}
    assert curve == pytest.approx(losses)
    assert len(curve) == 3
    assert os.listdir(folder / "students") == [student.student_id]


@pytest.mark.parametrize("flags", [(), ("--audit",)])
def test_a_refused_training_shows_its_figures_and_is_on_record(folder, flags):
    done = distill(folder, "train", "plan.toml", "--set", "train.max_length=80", *flags)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("distill: 24 of 24 rows are longer than train.max_length = 80")
    assert "Traceback" not in done.stderr
    store = Store(folder / "w.duckdb")
    if flags:
        assert "24 of 24 rows (100.0%)" in done.stdout
        assert "<|im_start|>assistant\n⟦" in done.stdout
        return
    assert "24 of 24 rows (100.0%)" in done.stderr
    (failure,) = store.read(Failure, "stage = 'train'")
    assert error == f"distill: {failure.error}"
    (run,) = store.read(Run, "run_id = ?", [failure.run_id])
    assert run.state == "failed"
    assert run.summary["audit"]["truncated"] == 24
    assert f"{failure.subject}.work" not in os.listdir(folder / "students")


def test_what_is_allowed_is_trained(folder):
    allowed = ("--set", "train.max_length=80", "--set", "train.allow=['truncated']")
    done = distill(folder, "train", "plan.toml", "--json", *allowed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] is True


def test_a_tracker_that_is_not_there_is_told_before_training(folder, monkeypatch):
    from train.loop import tracking

    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stillhouse\[monitor\]'") as caught:
        tracking.require_tracker("trackio")
    assert "\n" not in str(caught.value)
    tracking.require_tracker("none")
    with pytest.raises(MissingExtraError, match="train.track = 'trackio' needs trackio"):
        train_student(
            "no base", Lora(), [], SftConfig(track="trackio"), folder / "students" / "untracked"
        )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objective")
    base = str(make_tiny(folder / "tiny"))
    config = SftConfig(epochs=1, batch_size=4, max_length=128)

    def made(name, held_out=()):
        samples = [sample(n) for n in range(8)]
        out = folder / "students" / name
        return TrainingInputs(base, Lora(rank=4), samples, config, out, held_out=held_out)

    return made


def test_a_watch_is_told_the_audit_first_and_a_function_of_steps_still_stands(inputs):
    told = []
    callbacks = TrainingCallbacks(
        lambda step: told.append(step.done), lambda figures: told.append(figures)
    )
    result = train_in_processes(Sequence(), inputs("watched"), callbacks, alone=True)
    assert told[1:] == [1, 2]
    assert told[0]["rows_kept"] == 8
    assert {**told[0], "memory": result.audit["memory"]} == result.audit
    steps = []
    Sequence().train(inputs("plain"), steps.append)
    assert [step.done for step in steps] == [1, 2]


def test_who_wants_the_audit_alone_leaves_nothing(inputs):
    def stop(figures):
        raise StopAfterAudit

    one = inputs("stopped")
    with pytest.raises(StopAfterAudit):
        Sequence().train(one, TrainingCallbacks(audited=stop))
    assert not list(one.out.parent.glob("stopped*"))


def test_a_row_that_gives_away_a_held_out_item_stops_training(inputs):
    """Whatever the gate let through; also in a process of its own, with its figures told."""
    told = []
    one = inputs("leaking", held_out=[("What gas do plants take in? 3", None), ("Why?", "x")])
    with pytest.raises(TrainingError, match="1 of 8 rows contain a held-out item") as caught:
        train_in_processes(Sequence(), one, TrainingCallbacks(audited=told.append), alone=True)
    assert "What gas do plants take in? 3" in str(caught.value)
    assert [figures["held_out_overlap"]["rows"] for figures in told] == [1]
    assert not list(one.out.parent.glob("leaking*"))
