"""Make a training's inputs of what the gate keeps, and the records of how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.learning.objective import Objective, TrainingInputs
from distill.plan.sections import TrainSection
from flows.runtime.run import RunContext
from flows.stages.curated import Curated
from flows.stages.held_out import telling_texts_of
from train.loop.checkpoints import Unfinished
from train.loop.sft import TrainingResult
from warehouse.catalog import code_of, table_of
from warehouse.errors import AssetError, StillhouseError, TrainingError
from warehouse.records import Call, Failure, Sample, Student, inside, make_id


def student_id_of(section: TrainSection, kept: Sequence[Sample]) -> str:
    """Hash of base weights, tuner, objective, kept samples, trainer options and seed."""
    from train.model.base_model import base_fingerprint

    return make_id(
        "student",
        base_fingerprint(section.base),
        table_of(section.tuner),
        section.objective.fingerprint | code_of(section.objective),  # it may hold its own alone
        sorted(sample.sample_id for sample in kept),
        section.trainer_config().fingerprint(section.tuner.learning_rate),
    )


def training_inputs(
    context: RunContext, section: TrainSection, curated: Curated, out: Path
) -> TrainingInputs:
    """Everything that an objective needs to train, with the held-out items to look for."""
    return TrainingInputs(
        base=section.base,
        tuner=section.tuner,
        samples=curated.kept,
        config=section.trainer_config(),
        out=out,
        logprobs=_logprobs(context, section.objective, curated.kept),
        held_out=telling_texts_of(context.plan, curated.sample_set.asked()),
    )


def record_failure(
    context: RunContext, student_id: str, figures: dict[str, Any], error: StillhouseError
) -> None:
    """Record why a student was not trained, with the figures of its audit."""
    lasting = not isinstance(error, (AssetError, Unfinished))
    context.store.insert([Failure(context.run.run_id, "train", student_id, str(error), lasting)])
    context.count("failures", 1)
    context.run.summary["audit"] = figures


def _logprobs(context: RunContext, objective: Objective, kept: Sequence[Sample]) -> dict[str, Any]:
    """Stored log-probabilities of the teacher by sample, where an objective needs them."""
    if not objective.needs_logprobs:
        return {}
    wanted = {sample.sample_id: sample.call_ids[-1] for sample in kept if sample.call_ids}
    calls = context.store.by_ids(Call, "call_id", sorted(set(wanted.values())))
    calls.sort(key=lambda call: call.max_tokens)  # a call may have been made again with more
    logprobs = {call.call_id: call.logprobs for call in calls if call.logprobs}
    return {sample: logprobs[call] for sample, call in wanted.items() if call in logprobs}


def student_record(
    context: RunContext,
    section: TrainSection,
    curated: Curated,
    student_id: str,
    result: TrainingResult,
) -> Student:
    """The record of a student.

    Raises:
        TrainingError: training made no step.
    """
    if not result.losses:
        raise TrainingError("training made no step; give it more samples or epochs")
    config = section.trainer_config()
    return Student(
        student_id=student_id,
        base=inside(section.base, context.home),
        tuner=table_of(section.tuner),
        objective=table_of(section.objective),
        selection_id=curated.selection_id,
        config=config.model_dump(mode="json", exclude={"rendezvous"}),
        seed=config.seed,
        path=inside(result.path, context.home),
        losses=result.losses,
        audit={**result.audit, "trainable_parameters": result.trainable_parameters},
        versions=result.versions,
        seconds=result.seconds,
        run_id=context.run.run_id,
    )
