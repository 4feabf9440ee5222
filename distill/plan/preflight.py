"""Check before any request whether an evaluation can work."""

from __future__ import annotations

from distill.contestants.contestant import find_student_by_id
from distill.contestants.context import Sources
from distill.evaluation.ship_gate import Planned, refuse_unmeasurable
from distill.plan.plan import Plan
from quality.tasks.benchmark import Benchmark
from warehouse.db.store import Store


def refuse_what_fails(plan: Plan, store: Store) -> dict[str, int]:
    """Read every benchmark and what the contestants' contexts draw from, and hold `[ship]` against them.

    Returns:
        Items of each benchmark, by its label.

    Raises:
        AssetError, DataError: items or documents could not be downloaded.
        PlanError: a condition of `[ship]` cannot be measured.
        NotFoundError: an earlier student who is to answer is not in the warehouse.
    """
    settings = plan.evaluate
    counts = {one.label: sum(1 for _ in one.items(plan.folder)) for one in settings.every_benchmark}
    sources = Sources(plan.datagen.recipe[0], plan.folder)
    for one in settings.parts():
        if one.student:
            find_student_by_id(store, one.student)
    for name in {one.context for one in settings.parts() if one.context}:
        settings.context(name).ready(sources)
    refuse_unmeasurable_conditions(plan)
    return counts


def refuse_unmeasurable_conditions(plan: Plan) -> None:
    """See that every condition of `[ship]` can be measured with this plan; reads no data.

    Raises:
        PlanError: one cannot.
    """
    if plan.ship is None:
        return
    settings = plan.evaluate
    planned = [
        *(_planned(one, "task") for one in settings.benchmarks),
        *(_planned(one, "off_task") for one in settings.off_task),
    ]
    refuse_unmeasurable(plan.ship.conditions, planned, settings.contestants)


def _planned(benchmark: Benchmark, role: str) -> Planned:
    return Planned(benchmark.label, benchmark.metrics, role, benchmark.higher_is_better)
