"""Train several students at once on the workers of `[run] engine`; records are written here."""

from __future__ import annotations

from collections.abc import Mapping

from distill.plan.sections import TrainSection
from flows.engines.engine import engine_of
from flows.runtime.artifacts import Artifacts
from flows.runtime.progress import bar, console, say
from flows.runtime.run import RunContext
from flows.runtime.training_monitor import print_audit
from flows.stages.curated import Curated
from flows.stages.train_shard import TrainedShard, train_shards
from flows.stages.training_records import record_failure, student_record, training_inputs
from train.loop.checkpoints import last_step
from warehouse.catalog import name_of
from warehouse.errors import StillhouseError, Stopped
from warehouse.records import Student
from warehouse.wording import format_count


def train_on_workers(
    context: RunContext, curated: Curated, sections: Mapping[str, TrainSection]
) -> dict[str, Student]:
    """Those that workers have trained, by id: all that are missing, or none.

    Raises:
        TrainingError: one could not be trained; the others were, and are kept.
    """
    known = context.store.by_ids(Student, "student_id", list(sections))
    have = {each.student_id for each in known if each.folder_in(context.home).is_dir()}
    missing = {each: section for each, section in sections.items() if each not in have}
    are_alone = all(section.nodes == 1 for section in missing.values())  # nodes meet at one address
    if len(missing) < 2 or context.plan.run.engine == "local" or not are_alone:
        return {}
    students: dict[str, Student] = {}
    errors: list[StillhouseError] = []
    trainings = {
        each: (
            section.objective,
            training_inputs(context, section, curated, context.home / "students" / each),
        )
        for each, section in missing.items()
    }
    with (
        context.stage("train"),
        engine_of(context.plan.run) as engine,
        bar("training on workers", len(missing)) as advance,
    ):

        def finished(shard: TrainedShard) -> None:
            advance(1)
            student_id, section = shard.student_id, missing[shard.student_id]
            name = f"{name_of(section.tuner)}, seed {section.seed}"
            if shard.figures:
                say(f"{name}:")
                print_audit(shard.figures, console)
            try:
                student = student_record(context, section, curated, student_id, shard.trained())
            except StillhouseError as error:
                errors.append(error)
                record_failure(context, student_id, shard.figures, error)
                say(f"{name} was not trained: {error}")
                return
            context.store.insert([student])
            context.count("trained", 1)
            Artifacts(context.plan.name).publish(student.audit, student.losses)
            after = (
                "" if shard.resumed_after is None else f", resumed after step {shard.resumed_after}"
            )
            say(f"{name} is trained, {student.seconds:.0f} s{after}")
            students[student_id] = student

        try:
            train_shards(engine, trainings, engine.threads_of(len(missing)), finished)
        except KeyboardInterrupt:
            left = {each: last_step(trainings[each][1].out) for each in missing.keys() - students}
            reached = sum(step is not None for step in left.values())
            raise Stopped(
                f"stopped; {len(students)} of {format_count(len(missing), 'student')} are trained, "
                f"and {reached} of the others left a checkpoint"
            ) from None
    if errors:
        raise errors[0]
    return students
