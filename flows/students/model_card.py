"""Gather a student's records into its model card; makes no model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datagen.teacher import Request, Teacher
from distill.evaluation.comparison import Comparison
from distill.evaluation.evaluate import BenchmarkAnswers, compare_on
from distill.learning.serving_check import ServingAgreement
from distill.report.model_card import Card, Form, public
from flows.runtime.run import RunContext
from flows.stages.contestants import ContestantFactory
from flows.stages.evaluate import items_of
from flows.stages.recorded import load_kept_samples
from flows.students.find import FoundStudent
from train.export.safetensors import needs_only_peft
from train.model.base_model import base_fingerprint
from warehouse.catalog import table_of
from warehouse.records import Answer, Choice


def card_of(found: FoundStudent, forms: Sequence[Form], checks: Sequence[ServingAgreement]) -> Card:
    """The card of a student in some forms."""
    return Card(
        name=found.name,
        forms=list(forms),
        base=public(found.base),
        fingerprint=base_fingerprint(found.base),
        tuner=table_of(found.tuner),
        source=found.tuner.source,
        needs_only_peft=needs_only_peft(found.path),
        checks=list(checks),
        comparisons=comparisons_on_record(found),
        **_recorded(found),
    )


def comparisons_on_record(found: FoundStudent) -> list[Comparison]:
    """What the plan's contestants have answered so far, compared, where the student has."""
    if found.plan is None or found.record is None or found.run is None:
        return []
    plan, store = found.plan, found.store
    work = RunContext(plan, "", (), store, found.run)
    contest = ContestantFactory(
        plan, store, found.run.run_id, found.record, load_kept_samples(plan, store), _asks_nobody
    )
    made = []
    for benchmark in plan.evaluate.every_benchmark:
        items = items_of(work, benchmark)
        answers: list[Answer] = []
        for name in plan.evaluate.contestants:
            asked = contest.contestant(name, benchmark).questions(items)
            found_ones: list[Answer] = store.by_ids(Answer, "answer_id", list(asked))
            answers += [replace(answer, contestant=name) for answer in found_ones]
        if any(answer.contestant == "student" for answer in answers):
            made.append(compare_on(BenchmarkAnswers(benchmark, "task", items, answers), ()))
    return made


def _asks_nobody(teacher: Teacher, requests: Sequence[Request]) -> Any:
    raise AssertionError("a model card asks nobody")


def _recorded(found: FoundStudent) -> dict[str, Any]:
    student, run = found.record, found.run
    if student is None:
        return {}
    choices = found.store.read(Choice, "selection_id = ?", [student.selection_id])
    card: dict[str, Any] = {
        "samples": len(choices),
        "kept": sum(choice.kept for choice in choices),
        "objective": student.objective,
        "config": public(student.config),
        "seed": student.seed,
        "losses": student.losses,
        "trained_weights": student.audit.get("trainable_parameters"),
        "seconds": student.seconds,
        "versions": student.versions,
        "student_id": student.student_id,
    }
    if run is not None:
        teacher = run.plan["teacher"]
        card |= {
            "teacher": public(f"{teacher.get('model') or teacher['use']}"),
            "recipes": public(run.plan["datagen"]["recipe"]),
            "gate": public(run.plan["quality"]["gate"]),
            "plan_name": run.plan_name,
            "plan_hash": run.plan_hash,
            "run_id": run.run_id,
            "git_sha": run.git_sha,
        }
    return card
