"""The judge stage: contestants answer the held-out items; answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from datagen.teacher import Request
from distill.compare import Comparison, ItemText, compare
from distill.contestants import Ask, Contest, Contestant, LocalContestant, TeacherContestant
from distill.plan import Plan
from flows.asking import Asking
from flows.curate import curate_stage
from flows.fit import student_id_of
from flows.generate import samples_on_hand
from flows.progress import bar, meter, say
from flows.tasks import Work, at_work, shard
from quality.benchmark import Benchmark, Item
from warehouse.catalog import name_of
from warehouse.errors import StageError
from warehouse.records import Answer, Call, Failure, Student


@flow(name="stillhouse-judge", validate_parameters=False)
def judge(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Let the contestants answer what they have not answered, and compare them."""
    with at_work(plan_path, overrides, "judge") as work:
        comparisons = judge_stage(work, student_on_hand(work))
        return {
            "run_id": work.run.run_id,
            "plan_hash": work.plan.plan_hash,
            "calls_made": work.counts.get("calls_made", 0),
            "calls_reused": work.counts.get("calls_reused", 0),
            "failures": work.counts.get("failures", 0),
            **metrics_of(comparisons),
        }


def student_on_hand(work: Work) -> Student | None:
    """The student that this plan's `fit` made; None when no student is to be judged.

    Raises:
        StageError: a student is to be judged and there is none.
    """
    if "student" not in work.plan.evaluate.contestants:
        return None
    curated = curate_stage(work, samples_on_hand(work))
    student_id = student_id_of(work.plan.training, curated.kept)
    for student in work.store.by_ids(Student, "student_id", [student_id]):
        if Path(student.path).is_dir():
            return student
    raise StageError(f"no student of this plan yet; run `distill fit {work.plan_path}` first")


def judge_stage(work: Work, student: Student | None) -> list[Comparison]:
    """Ask, grade and compare, benchmark by benchmark.

    Raises:
        StageError: a benchmark has no items.
    """
    with work.stage("judge"):
        return [_judge(work, b, student) for b in work.plan.evaluate.benchmarks]


def _judge(work: Work, benchmark: Benchmark, student: Student | None) -> Comparison:
    name = name_of(benchmark)
    items = items_of(work, benchmark)
    contest = Contest(benchmark, work.run.run_id)
    answers: list[Answer] = []
    for contestant in contestants_of(work, contest, student):
        answers.extend(answered(work, contest, contestant, items))
        if contestant.protocol not in work.notes:
            work.notes.append(contestant.protocol)
    texts = texts_of(items)
    contestants = work.plan.evaluate.contestants
    return compare(name, answers, texts, headline=benchmark.metrics[0], contestants=contestants)


def items_of(work: Work, benchmark: Benchmark) -> list[Item]:
    """The held-out items of a benchmark.

    Raises:
        StageError: there are none.
    """
    items = list(benchmark.items(work.plan.folder))
    if not items:
        raise StageError(
            f"benchmark '{name_of(benchmark)}' gives no items; check its path, holdout and limit"
        )
    return items


def texts_of(items: Sequence[Item]) -> list[ItemText]:
    """What a reader needs to judge the answers."""
    return [
        ItemText(item.item_id, item.row.prompt, item.row.passage, item.row.reference)
        for item in items
    ]


def contestants_of(work: Work, contest: Contest, student: Student | None) -> list[Contestant]:
    """Who the plan lets answer; none of them has been asked or loaded yet."""
    return [_contestant(work, contest, name, student) for name in work.plan.evaluate.contestants]


def _contestant(work: Work, contest: Contest, name: str, student: Student | None) -> Contestant:
    if name == "teacher":
        return teacher_contestant(work.plan, contest, partial(_ask, work))
    return local_contestant(work, contest, name, student if name == "student" else None)


def local_contestant(
    work: Work, contest: Contest, name: str, student: Student | None
) -> LocalContestant:
    """A student under some name, or the plan's untuned base."""
    settings = work.plan.evaluate
    return LocalContestant(
        contest,
        name,
        student.base if student else work.plan.training.base,
        settings.max_new_tokens,
        settings.batch_size,
        Path(student.path) if student else None,
        student.student_id if student else None,
    )


def teacher_contestant(plan: Plan, contest: Contest, ask: Ask) -> TeacherContestant:
    """The plan's teacher, asked as its first recipe asks."""
    return TeacherContestant(
        contest,
        plan.teacher,
        plan.datagen.recipe[0],
        plan.folder,
        plan.evaluate.max_new_tokens,
        ask,
    )


def _ask(work: Work, requests: Sequence[Request]) -> tuple[dict[str, Call], dict[str, Failure]]:
    with Asking(work) as asking, meter("teacher answers", len(requests)) as told:
        asked = asking.ask(requests, "judge", told)
    return asked.calls, asked.failures


def answered(
    work: Work, contest: Contest, contestant: Contestant, items: Sequence[Item]
) -> list[Answer]:
    """A contestant's answers to items: those on record, and those asked for now."""
    ids = {contest.answer_id(contestant, item): item for item in items}
    known = {answer.answer_id for answer in work.store.by_ids(Answer, "answer_id", list(ids))}
    todo = [item for answer_id, item in ids.items() if answer_id not in known]
    if contestant.name == "teacher":
        work.count("calls_reused", len(known))
        said = list(contestant.answer(todo, lambda n: None))
    else:
        with bar(f"{contestant.name} answers", len(todo)) as advance:
            said = shard(lambda: list(contestant.answer(todo, advance))) if todo else []
        failed = [record for record in said if isinstance(record, Failure)]
        work.store.insert(failed)
        work.count("failures", len(failed))
    failures = [record for record in said if isinstance(record, Failure)]
    if failures:
        say(f"{contestant.name}: {len(failures)} items failed, first: {failures[0].error}")
    work.store.insert([record for record in said if isinstance(record, Answer)])
    found: list[Answer] = work.store.by_ids(Answer, "answer_id", list(ids))
    work.count("answers_reused", sum(answer.run_id != work.run.run_id for answer in found))
    return found


def metrics_of(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Per contestant its metrics and n: of the first benchmark, and of each by name."""
    by_benchmark = {
        comparison.benchmark: {
            standing.contestant: {
                "n": standing.graded,
                **{
                    metric: standing.metrics[metric].value if metric in standing.metrics else None
                    for metric in comparison.metrics
                },
            }
            for standing in comparison.standings
        }
        for comparison in comparisons
    }
    first = comparisons[0].benchmark if comparisons else None
    return {"contestants": by_benchmark.get(first or "", {}), "benchmarks": by_benchmark}
