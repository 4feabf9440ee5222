"""The fit stage: kept samples -> a student."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from distill.plan import TrainSection
from flows.curate import Curated, curate_stage
from flows.generate import samples_on_hand
from flows.progress import bar, say
from flows.tasks import Work, at_work, shard
from warehouse.catalog import name_of, table_of
from warehouse.errors import StageError
from warehouse.records import Sample, Student, make_id


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
        section.trainer_config().model_dump(mode="json"),
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
    from train.sft import steps_of

    config = section.trainer_config()
    out = work.home / "students" / student_id
    for left in out.parent.glob(f"{student_id}*"):  # by a run that was killed in training
        shutil.rmtree(left)
    label = f"fitting {name_of(section.tuner)}"
    with bar(label, steps_of(len(kept), config)) as advance:
        fitted = section.objective.fit(section.base, section.tuner, kept, config, out, advance)
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
