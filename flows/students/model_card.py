"""Gather a student's records into its model card; makes no model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datagen.teacher import Request, Teacher
from distill.evaluation.comparison import Comparison
from distill.evaluation.evaluate import compare_on
from distill.evaluation.inputs import BenchmarkAnswers
from distill.learning.objective import row_of
from distill.learning.serving_check import ServingAgreement
from distill.report.model_card import Card, Form, TrainedForm, public
from flows.runtime.run import RunContext
from flows.stages.contestants import ContestantFactory
from flows.stages.evaluate import items_of
from flows.stages.recorded import load_kept_samples
from flows.students.find import FoundStudent
from train.dataset import encode, render
from train.export.safetensors import needs_only_peft
from train.model.base_model import base_fingerprint, public_base, quiet, resolve_base
from warehouse.catalog import table_of
from warehouse.records import Answer, Choice, Sample


def card_of(
    student: FoundStudent, forms: Sequence[Form], checks: Sequence[ServingAgreement]
) -> Card:
    """The card of a student in some forms."""
    return Card(
        name=student.name,
        forms=list(forms),
        base=public(student.base),
        fingerprint=base_fingerprint(student.base),
        tuner=table_of(student.tuner),
        source=student.tuner.source,
        needs_only_peft=needs_only_peft(student.path),
        public=public_base(student.base),
        trained_form=_trained_form(student),
        checks=list(checks),
        comparisons=compare_recorded_answers(student),
        **_recorded(student),
    )


def _trained_form(student: FoundStudent) -> TrainedForm | None:
    """A row that the student was trained on, as its tokenizer was given it; the shortest one."""
    if student.record is None:
        return None
    selection = [student.record.selection_id]
    kept = student.store.read(Choice, "selection_id = ? AND kept", selection)
    samples = student.store.by_ids(Sample, "sample_id", [choice.sample_id for choice in kept])
    if not samples:
        return None
    sample = min(
        samples,
        key=lambda one: (
            len(one.completion) + sum(len(message["content"]) for message in one.messages),
            one.sample_id,
        ),
    )
    quiet()
    from transformers import AutoTokenizer

    base = resolve_base(student.base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    row = row_of(sample)
    prompt = render(tokenizer, row["prompt"], row.get("tools"))
    text = encode(row, tokenizer).text
    return TrainedForm(prompt, text[len(prompt) :], sample.passage, sample.question)


def compare_recorded_answers(student: FoundStudent) -> list[Comparison]:
    """What the plan's contestants have answered so far, compared, where the student has."""
    if student.plan is None or student.record is None or student.run is None:
        return []
    plan, store = student.plan, student.store
    context = RunContext(plan, "", (), store, student.run)
    contest = ContestantFactory(
        plan,
        store,
        student.run.run_id,
        student.record,
        load_kept_samples(plan, store),
        _asks_nobody,
    )
    comparisons = []
    for benchmark in plan.evaluate.every_benchmark:
        items = items_of(context, benchmark)
        answers: list[Answer] = []
        for name in plan.evaluate.every_contestant:
            if contest.why_left_out(name, benchmark, items):
                continue
            questions = contest.contestant(name, benchmark).questions(items)
            found_ones: list[Answer] = store.by_ids(Answer, "answer_id", list(questions))
            answers += [replace(answer, contestant=name) for answer in found_ones]
        if any(answer.contestant == "student" for answer in answers):
            comparisons.append(compare_on(BenchmarkAnswers(benchmark, "task", items, answers), ()))
    return comparisons


def _asks_nobody(teacher: Teacher, requests: Sequence[Request]) -> Any:
    raise AssertionError("a model card makes no calls")


def _recorded(student: FoundStudent) -> dict[str, Any]:
    record, run = student.record, student.run
    if record is None:
        return {}
    choices = student.store.read(Choice, "selection_id = ?", [record.selection_id])
    card: dict[str, Any] = {
        "samples": len(choices),
        "kept": sum(choice.kept for choice in choices),
        "objective": record.objective,
        "config": public(record.config),
        "seed": record.seed,
        "losses": record.losses,
        "trained_weights": record.audit.get("trainable_parameters"),
        "seconds": record.seconds,
        "versions": record.versions,
        "student_id": record.student_id,
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
