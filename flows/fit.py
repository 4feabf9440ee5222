"""The fit stage: kept samples -> a student."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from distill.objective import Material, Objective
from distill.plan import TrainSection
from distill.processes import fit_in_processes
from flows.curate import Curated, curate_stage
from flows.generate import samples_on_hand
from flows.progress import say, training
from flows.tasks import Work, at_work, shard
from train.config import steps_of
from warehouse.catalog import name_of, table_of
from warehouse.errors import StageError
from warehouse.records import Call, Sample, Student, make_id


@flow(name="stillhouse-fit", validate_parameters=False)
def fit(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Fit the plan's student to what the gate keeps of the samples on hand."""
    with at_work(plan_path, overrides, "fit") as work:
        student = fit_stage(work, curate_stage(work, samples_on_hand(work)))
        return {
            "run_id": work.run.run_id,
            "plan_hash": work.plan.plan_hash,
            "student_id": student.student_id,
            "student_path": student.path,
            "trained": bool(work.counts.get("trained")),
            "final_loss": student.losses[-1]["loss"] if student.losses else None,
        }


def ready_base(work: Work) -> None:
    """See that the base model can be had before the teacher is asked anything.

    Raises:
        AssetError: it can not; nothing was spent.
    """
    from train.student import resolve_base

    with work.stage("fit"):
        resolve_base(work.plan.training.base)


def student_id_of(section: TrainSection, kept: Sequence[Sample]) -> str:
    """Hash of base weights, tuner, objective, kept samples, trainer options and seed."""
    from train.student import base_fingerprint

    return make_id(
        "student",
        base_fingerprint(section.base),
        table_of(section.tuner),
        table_of(section.objective),
        sorted(sample.sample_id for sample in kept),
        section.trainer_config().decides(),
    )


def fit_stage(work: Work, curated: Curated) -> Student:
    """Fit a student, or find the one that was fitted to the same things before."""
    section = work.plan.training
    with work.stage("fit"):
        kept = curated.kept
        student_id = student_id_of(section, kept)
        for known in work.store.by_ids(Student, "student_id", [student_id]):
            if Path(known.path).is_dir():
                say(f"student {student_id[:8]} is trained already")
                return known
            say(f"the files of student {student_id[:8]} are gone from {known.path}; training again")
        student = shard(lambda: _train(work, section, kept, curated.selection_id, student_id))
        work.store.insert([student])
        work.count("trained", 1)
        return student


def _train(
    work: Work, section: TrainSection, kept: Sequence[Sample], selection_id: str, student_id: str
) -> Student:
    config = section.trainer_config()
    out = work.home / "students" / student_id
    if out.exists():  # its record was lost
        shutil.rmtree(out)
    material = Material(
        section.base, section.tuner, kept, config, out, _logprobs(work, section.objective, kept)
    )
    with training(f"fitting {name_of(section.tuner)}", steps_of(len(kept), config)) as watch:
        fitted = fit_in_processes(section.objective, material, watch)
    if not fitted.losses:
        raise StageError("training took no step; give it more samples or epochs")
    return Student(
        student_id=student_id,
        base=section.base,
        tuner=table_of(section.tuner),
        objective=table_of(section.objective),
        selection_id=selection_id,
        config=config.model_dump(mode="json"),
        seed=config.seed,
        path=str(fitted.path),
        losses=fitted.losses,
        audit={**fitted.audit, "trainable_parameters": fitted.trainable_parameters},
        versions=fitted.versions,
        seconds=fitted.seconds,
        run_id=work.run.run_id,
    )


def _logprobs(work: Work, objective: Objective, kept: Sequence[Sample]) -> dict[str, Any]:
    """What the teacher's calls keep of its distribution, by sample, where an objective needs it."""
    if not objective.needs_logprobs:
        return {}
    calls = {sample.call_ids[-1]: sample.sample_id for sample in kept if sample.call_ids}
    found = work.store.by_ids(Call, "call_id", list(calls))
    return {calls[call.call_id]: call.logprobs for call in found if call.logprobs}
