"""Run the train stage: train a student on the kept samples."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from distill.learning.multiprocess import train_in_processes
from distill.plan.base_check import check_base
from distill.plan.sections import TrainSection
from flows.runtime import signals
from flows.runtime.prefect_flow import run_shard
from flows.runtime.progress import say
from flows.runtime.run import RunContext, open_run
from flows.runtime.training_monitor import monitored
from flows.stages.curate import curate_stage
from flows.stages.curated import Curated
from flows.stages.generate import load_samples
from flows.stages.known_prompts import prompts_of
from flows.stages.train_on_workers import train_on_workers
from flows.stages.training_records import (
    record_failure,
    student_id_of,
    student_record,
    training_inputs,
)
from train.config import steps_of
from train.loop import tracking
from train.loop.callbacks import StopAfterAudit, TrainingCallbacks, best_eval
from train.loop.checkpoints import last_step
from train.model.device import require_a_gpu_each
from warehouse.catalog import name_of
from warehouse.errors import StillhouseError, Stopped
from warehouse.records import Student
from warehouse.wording import format_count

AUDIT = "train --audit"
"""The verb of a run that audits and does not train."""


def train(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train the plan's student on the recorded samples that the gate keeps."""
    with open_run(plan_path, overrides, "train") as context:
        students = train_seeds(context, curate_stage(context, load_samples(context)))
        student = students[0]
        return {
            **context.result(),
            "student_id": student.student_id,
            "student_ids": [student.student_id for student in students],
            "student_path": str(student.folder_in(context.home)),
            "trained": bool(context.counts.get("trained")),
            **losses_of(student),
        }


def audit(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Audit the rows that `train` would train on, without training.

    Returns:
        The figures of the audit; `refused` is why a training would be, or None.
    """
    with open_run(plan_path, overrides, AUDIT) as context:
        curated = curate_stage(context, load_samples(context))
        section = context.plan.training
        figures: dict[str, Any] = {}

        def stop(audited: dict[str, Any]) -> None:
            figures.update(audited)
            raise StopAfterAudit

        out = context.home / "students" / student_id_of(section, curated.kept)
        with context.stage("train"), suppress(StopAfterAudit):
            section.objective.train(
                training_inputs(context, section, curated, out), TrainingCallbacks(audited=stop)
            )
        return {"refused": None, **figures}


def losses_of(student: Student) -> dict[str, Any]:
    """The loss at the step whose weights a student has; with early stopping also which, and why."""
    losses = {int(at["step"]): at["loss"] for at in student.losses if "loss" in at}
    best = best_eval(student.losses)
    if best is None:
        return {"final_loss": list(losses.values())[-1]}
    step, held_out = best
    return {"final_loss": losses[step], "best_step": step, "held_out_loss": held_out}


def check_training_inputs(context: RunContext, section: TrainSection | None = None) -> None:
    """Check that base, tuner and objective have what they need, before any call is paid for.

    `section` stands for the plan's own [train].

    Raises:
        StillhouseError: they have not; nothing was spent.
    """
    from train.model.base_model import resolve_base

    section = section or context.plan.training
    with context.stage("train"):
        tracking.require_tracker(section.track)
        section.tuner.ready()
        require_a_gpu_each(section.processes)
        resolve_base(section.base)
        prompts = (prompt for _, prompt in prompts_of(context.plan))
        context.tell(check_base(context.plan, prompts, section))
        section.objective.ready(section.base)


def train_seeds(
    context: RunContext, curated: Curated, section: TrainSection | None = None
) -> list[Student]:
    """The students of `train.seeds` seeds, of the same rows; the first is the plan's own.

    `section` stands for the plan's own [train].
    """
    arms = {"": section or context.plan.training}
    return train_arms(context, curated, arms, has_own=section is None)[""]


def train_arms(
    context: RunContext,
    curated: Curated,
    arms: Mapping[str, TrainSection],
    has_own: bool = False,
    alone: bool = False,
) -> dict[str, list[Student]]:
    """The students of each arm's seeds, of the same rows, by the arm's label.

    Where there are several to train and `[run] engine` has workers, they are trained there at once.

    Args:
        context: The run.
        curated: The rows.
        arms: [train] by label; all have one objective.
        has_own: Whether the first student is the plan's own.
        alone: Whether each one trains in a process of its own, so that its memory is its own; on
            workers each does.
    """
    sections = {label: section.of_each_seed for label, section in arms.items()}
    ids = {
        label: [student_id_of(one, curated.kept) for one in seeds]
        for label, seeds in sections.items()
    }
    wanted = {
        student_id: one
        for label, seeds in sections.items()
        for student_id, one in zip(ids[label], seeds, strict=True)
    }
    trained = train_on_workers(context, curated, wanted)
    students: dict[str, list[Student]] = {}
    for label, seeds in sections.items():
        students[label] = []
        for number, (one, student_id) in enumerate(zip(seeds, ids[label], strict=True), start=1):
            is_own = has_own and number == 1
            student = trained.get(student_id)
            if student is not None:
                if is_own:
                    context.summarize(student_id=student_id)
            else:
                if number > 1:
                    say(f"training seed {one.seed}, {number} of {len(seeds)}")
                student = train_stage(context, curated, None if is_own else one, alone)
            students[label].append(student)
    return students


def train_stage(
    context: RunContext, curated: Curated, section: TrainSection | None = None, alone: bool = False
) -> Student:
    """Train a student, or find the one that was trained on the same inputs.

    `section` stands for the plan's own [train]. `alone`: in a process of its own, so that
    its memory is its own.
    """
    is_the_plans_own = section is None
    section = section or context.plan.training
    with context.stage("train"):
        student_id = student_id_of(section, curated.kept)
        for known in context.store.by_ids(Student, "student_id", [student_id]):
            if known.folder_in(context.home).is_dir():
                say(f"student {student_id[:8]} is trained already")
                if section.track not in ("none", known.config.get("track")):
                    say(
                        f"note: nothing is written for train.track = '{section.track}': curves are "
                        "written while a student is trained, and this one is; to train another "
                        f"beside it: --set train.seed={section.seed + 1}"
                    )
                if is_the_plans_own:
                    context.summarize(student_id=student_id)
                return known
            say(
                f"the files of student {student_id[:8]} are gone from {known.folder_in(context.home)}; training again"
            )
        student = run_shard(lambda: _train(context, section, curated, student_id, alone))
        context.store.insert([student])
        context.count("trained", 1)
        if is_the_plans_own:  # once it is there: `chat` and `export` take it from the summary
            context.summarize(student_id=student_id)
        return student


def _train(
    context: RunContext,
    section: TrainSection,
    curated: Curated,
    student_id: str,
    alone: bool,
) -> Student:
    config = section.trainer_config()
    out = context.home / "students" / student_id
    if out.exists():  # its record was lost
        shutil.rmtree(out)
    tracking.require_tracker(config.track)
    require_a_gpu_each(config.processes)
    inputs = training_inputs(context, section, curated, out)
    label = f"training {name_of(section.tuner)}"
    if config.nodes > 1:
        others = format_count(config.nodes - 1, "other node")
        say(f"waiting for {others}: `distill join {config.rendezvous}` on each")
    with monitored(label, steps_of(curated.kept_count, config), context.plan.name) as monitor:
        here = config.world_size == 1 and not alone  # others cannot be told to end after a step
        try:
            with signals.finished(monitor.stop) if here else nullcontext():
                result = train_in_processes(section.objective, inputs, monitor.callbacks, alone)
        except StillhouseError as error:
            record_failure(context, student_id, monitor.figures, error)
            raise
        except KeyboardInterrupt:
            raise Stopped(_left(out)) from None
        monitor.done(result)
    return student_record(context, section, curated, student_id, result)


def _left(out: Path) -> str:
    """Describe how far a training that was interrupted got."""
    step = last_step(out)
    if step is None:
        return "stopped before the first checkpoint of the training, which begins anew"
    return f"stopped; the checkpoint of step {step} is kept"
