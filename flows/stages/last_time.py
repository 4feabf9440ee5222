"""Find the student of the last run of a plan, and compare tonight's with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.evaluation.comparison import Comparison
from distill.evaluation.evaluate import compare_on
from distill.evaluation.inputs import BenchmarkAnswers
from distill.evaluation.opening import BEFORE, NOW, LastTime
from distill.evaluation.over_seeds import of_seed
from flows.runtime.run import RunContext
from warehouse.db.store import Store
from warehouse.records import Answer, Run, RunAnswer, Student


def compare_with_last_time(
    context: RunContext, student: Student | None, boards: Sequence[BenchmarkAnswers]
) -> LastTime | None:
    """Compare with the newest other student that a run of a plan of this name evaluated.

    Only benchmarks of the task and of the same version are compared, on the items that both
    answered; None where there was no other student, or none answered these.
    """
    if student is None:
        return None
    runs = context.store.read(Run, "plan_name = ? AND state = 'completed'", [context.plan.name])
    runs = [run for run in runs if run.summary.get("report_path")]
    for run in sorted(runs, key=lambda run: run.started_at, reverse=True):
        before = str(run.summary.get("student_id") or "")
        if run.run_id == context.run.run_id or before in ("", student.student_id):
            continue
        answers = student_answers(context.store, run)
        comparisons = [
            comparison
            for board in boards
            if board.role == "task"
            and (comparison := _compared(board, answers.get(board.benchmark.label, [[]])[0]))
        ]
        if comparisons:
            return LastTime(run.run_id, f"{run.started_at:%Y-%m-%d}", before, comparisons)
    return None


def student_answers(store: Store, run: Run) -> dict[str, list[list[Answer]]]:
    """Answers of a run's student, by benchmark and training seed, the plan's own first."""
    mine = "run_id = ? AND (contestant = 'student' OR contestant LIKE ?)"
    entries = store.read(RunAnswer, mine, [run.run_id, of_seed("%")])
    ids = [entry.answer_id for entry in entries]
    by_id = {answer.answer_id: answer for answer in store.by_ids(Answer, "answer_id", ids)}
    by_benchmark: dict[str, dict[str, list[Answer]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.contestant):  # "student" comes first
        fits = by_benchmark.setdefault(entry.benchmark, {})
        fits.setdefault(entry.contestant, []).append(by_id[entry.answer_id])
    return {benchmark: list(fits.values()) for benchmark, fits in by_benchmark.items()}


def _compared(board: BenchmarkAnswers, before: Sequence[Answer]) -> Comparison | None:
    then = [answer for answer in before if answer.benchmark_version == board.benchmark.version]
    answers = [
        *board.answers_of(NOW).values(),
        *(replace(answer, contestant=BEFORE) for answer in then),
    ]
    comparison = compare_on(replace(board, answers=answers), [NOW, BEFORE])
    pair = comparison.difference(NOW, BEFORE)
    return comparison if pair and pair.n else None
