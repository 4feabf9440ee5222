"""Tell how many students a plan trains and how long that takes, from students trained before."""

from __future__ import annotations

from distill.plan.plan import Plan
from distill.report.report import duration_text
from train.config import steps_of
from warehouse.catalog import name_of, table_of
from warehouse.db.store import Store
from warehouse.records import Student, inside
from warehouse.wording import format_count


def training_line(plan: Plan, store: Store, rows: int) -> str:
    """The trainings of a plan that has no more than so many rows, in one line.

    The time is that of the newest student with the same base, tuner and objective, per optimiser
    step; students that are trained already are counted, too.
    """
    section = plan.training
    seeds, steps = section.seeds, steps_of(rows, section.trainer_config())
    first = section.seed
    which = "" if seeds == 1 else f" (seeds {first} to {first + seeds - 1})"
    each = " each" if seeds > 1 else ""
    line = (
        f"{format_count(seeds, 'training')}{which} of at most {format_count(rows, 'row')}, "
        f"{format_count(steps, 'step')}{each}"
    )
    took = _seconds_per_step(plan, store)
    if took is None:
        return f"{line}; how long is not known before one was trained here"
    return f"{line}: about {duration_text(took * steps * seeds)}{' in all' if each else ''}"


def _seconds_per_step(plan: Plan, store: Store) -> float | None:
    """Of the newest student of this base, tuner, objective and batch; None where there is none."""
    section = plan.training
    config = section.trainer_config()
    alike = [
        student
        for student in store.read(Student)
        if student.losses
        and student.base == inside(section.base, store.home)
        and student.tuner == table_of(section.tuner)
        and student.objective.get("use") == name_of(section.objective)
        and all(
            student.config.get(name) == getattr(config, name)
            for name in ("batch_size", "gradient_accumulation", "max_length")
        )
    ]
    if not alike:
        return None
    newest = max(alike, key=lambda student: student.created_at)
    return newest.seconds / max(at["step"] for at in newest.losses)
