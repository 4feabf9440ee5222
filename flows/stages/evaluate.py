"""Run the evaluate stage: contestants answer held-out items, and answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from datagen.spending.pricing import total_usd
from distill.contestants.contestant import ContestantSpec
from distill.contestants.perturbed_items import perturb_items
from distill.evaluation.comparison import Comparison
from distill.evaluation.evaluate import (
    BenchmarkAnswers,
    Perturbed,
    Rules,
    TrainingProvenance,
    evaluate_answers,
)
from distill.evaluation.findings import Evaluation
from distill.plan.preflight import check_evaluation
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import ContestantFactory, answered, asked_for
from flows.stages.curate import Curated, curate_stage
from flows.stages.generate import samples_on_hand
from flows.stages.report import write_report
from flows.stages.train import student_id_of
from quality.tasks.benchmark import Benchmark, Item
from warehouse.errors import NotFoundError, NothingToDoError
from warehouse.records import Answer, Call, Choice, Run, Student


def evaluate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Let the contestants answer what they have not answered, and compare them."""
    with open_run(plan_path, overrides, "evaluate") as work:
        check_evaluation(work.plan, work.store)
        curated = selection_on_hand(work)
        return evaluate_and_report(work, student_on_hand(work, curated), curated)


def evaluate_and_report(
    work: RunContext, student: Student | None, curated: Curated | None, **facts: Any
) -> dict[str, Any]:
    """Evaluate, write the report and summarize the run.

    Returns:
        What `--json` prints: the run's counts, `facts`, the report's path and the metrics.
    """
    evaluation = evaluate_stage(work, student, curated)
    paths = write_report(work, curated, student, evaluation)
    result = {
        "run_id": work.run.run_id,
        "plan_hash": work.plan.plan_hash,
        "calls_made": work.counts.get("calls_made", 0),
        "calls_reused": work.counts.get("calls_reused", 0),
        **facts,
        "failures": work.counts.get("failures", 0),
        "report_path": str(paths["html"]),
        **result_of(evaluation),
    }
    work.summarize(**result)
    return result


def selection_on_hand(work: RunContext) -> Curated | None:
    """What the gate keeps of the samples on hand; None where no contestant draws from it."""
    settings = work.plan.evaluate
    drawn = [settings.context(one.context) for one in settings.parts() if one.context]
    if not settings.judges_student and not any(one.needs_selection for one in drawn):
        return None
    return curate_stage(work, samples_on_hand(work))


def student_on_hand(work: RunContext, curated: Curated | None) -> Student | None:
    """The student that this plan trained; None when no student is to be evaluated.

    Raises:
        NotFoundError: a student is to be evaluated and there is none.
    """
    if not work.plan.evaluate.judges_student or curated is None:
        return None
    student_id = student_id_of(work.plan.training, curated.kept)
    for student in work.store.by_ids(Student, "student_id", [student_id]):
        if student.folder_in(work.home).is_dir():
            return student
    raise NotFoundError(f"no student of this plan yet; run `distill train {work.plan_path}` first")


def evaluate_stage(
    work: RunContext, student: Student | None, curated: Curated | None
) -> Evaluation:
    """Ask, grade and compare: model by model, so that one model at a time is in memory.

    Raises:
        NothingToDoError: a benchmark has no items.
    """
    with work.stage("evaluate"):
        plan = work.plan
        kept = curated.kept if curated else []
        contest = ContestantFactory(
            plan, work.store, work.run.run_id, student, kept, partial(asked_for, work)
        )
        items = {one.label: items_of(work, one) for one in plan.evaluate.every_benchmark}
        answers: dict[str, list[Answer]] = {label: [] for label in items}
        forms: list[Perturbed] = []
        for names in _by_speaker(plan.evaluate.parts()):
            for benchmark in plan.evaluate.every_benchmark:
                for name in names:
                    contestant = contest.contestant(name, benchmark)
                    found = answered(work, contestant, items[benchmark.label])
                    answers[benchmark.label] += found
                    if contestant.protocol not in work.protocol:
                        work.protocol.append(contestant.protocol)
            forms += _disturbed(work, contest, names, items)
            contestant.model.close()
        judged = [
            BenchmarkAnswers(one, role, items[one.label], answers[one.label])
            for role, benchmarks in (
                ("task", plan.evaluate.benchmarks),
                ("off_task", plan.evaluate.off_task),
            )
            for one in benchmarks
        ]
        return evaluate_answers(judged, rules_of(work), made_of(work, student, curated), forms)


def _by_speaker(contestants: Sequence[ContestantSpec]) -> list[list[str]]:
    """Names of the same model together, in the plan's order."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for one in contestants:
        found.setdefault((one.who, one.student), []).append(one.name)
    return list(found.values())


def _disturbed(
    work: RunContext, contest: ContestantFactory, names: Sequence[str], items: dict[str, list[Item]]
) -> list[Perturbed]:
    """The answers of those among `names` who are asked the task's questions in disturbed forms."""
    settings = work.plan.evaluate.robustness
    if settings is None:
        return []
    made = []
    for benchmark in work.plan.evaluate.benchmarks:
        for kind in settings.perturbations:
            pairs = perturb_items(items[benchmark.label][: settings.limit], kind)
            for name in (one for one in names if one in work.plan.evaluate.robustness_contestants):
                contestant = contest.contestant(name, benchmark)
                found = answered(work, contestant, [item for item, _ in pairs], kind)
                origin = {item.item_id: was for item, was in pairs}
                made.append(Perturbed(benchmark.label, kind, name, found, origin))
    return made


def rules_of(work: RunContext) -> Rules:
    """How the plan wants answers to be read."""
    settings, ship = work.plan.evaluate, work.plan.ship
    return Rules(
        contestants=settings.contestants,
        usd_per_hour=settings.usd_per_hour,
        at_once=_at_once(work),
        ship=ship.conditions if ship else (),
        certain=ship.certain if ship else False,
    )


def _at_once(work: RunContext) -> dict[str, int]:
    """Contestants behind a server on this machine: requests that it answers at the same time."""
    settings = work.plan.evaluate
    asked = {"teacher": work.plan.teacher, **settings.endpoints}
    slots = {who: one.slots for who, one in asked.items() if hasattr(one, "slots")}
    return {one.name: slots[one.who] for one in settings.parts() if one.who in slots}


def made_of(
    work: RunContext, student: Student | None, curated: Curated | None
) -> TrainingProvenance:
    """What the student was made of: its rows, their scores, and what both took."""
    if student is None or curated is None:
        return TrainingProvenance()
    kept = curated.kept
    ids = {sample.sample_id for sample in kept}
    wanted = sorted({call_id for sample in curated.samples for call_id in sample.call_ids})
    spent: dict[str, list[float | None]] = {}
    calls: list[Call] = work.store.by_ids(Call, "call_id", wanted)  # one made again has two rows
    for call in calls:
        spent.setdefault(call.call_id, []).append(call.cost_usd)
    costs = {
        sample.sample_id: total_usd(usd for one in sample.call_ids for usd in spent.get(one, ()))
        for sample in curated.samples
    }
    scoring = _scoring_calls(work, curated, calls)
    return TrainingProvenance(
        kept=kept,
        scores=[score for score in curated.scores if score.sample_id in ids],
        costs=costs,
        scoring_usd=total_usd(call.cost_usd for call in scoring),
        training_hours=student.seconds / 3600 + _asking_hours(work, [*calls, *scoring]),
    )


def _scoring_calls(work: RunContext, curated: Curated, calls: Sequence[Call]) -> list[Call]:
    """What was asked to score a selection: by the runs that chose from its samples, whatever they
    kept, and those that asked for these."""
    ids = [sample.sample_id for sample in curated.samples]
    choices: list[Choice] = work.store.by_ids(Choice, "sample_id", ids)
    selections = {choice.selection_id for choice in choices}
    runs = {call.run_id for call in calls} | {
        run.run_id for run in work.store.read(Run) if run.summary.get("selection_id") in selections
    }
    runs.add(work.run.run_id)
    return [call for call in work.store.read(Call, "stage = 'curate'") if call.run_id in runs]


def _asking_hours(work: RunContext, calls: Sequence[Call]) -> float:
    """What teacher and judge on this machine took of its time; one that is asked elsewhere took none."""
    plan = work.plan
    slots = {one.identity: one.slots for one in (plan.teacher, plan.judge) if hasattr(one, "slots")}
    took = (call.latency_s / slots[call.teacher] for call in calls if call.teacher in slots)
    return float(sum(took)) / 3600


def items_of(work: RunContext, benchmark: Benchmark) -> list[Item]:
    """The held-out items of a benchmark.

    Raises:
        NothingToDoError: there are none.
    """
    items = list(benchmark.items(work.plan.folder))
    if not items:
        raise NothingToDoError(
            f"benchmark '{benchmark.label}' gives no items; check its path, holdout and limit"
        )
    return items


def result_of(evaluation: Evaluation) -> dict[str, Any]:
    """What `--json` prints of it: metrics, what was learned, and whether it ships."""
    summary = metrics_of(evaluation.comparisons)
    if evaluation.style:
        summary["learned"] = {line.benchmark: line.outcome for line in evaluation.style}
        summary["sentences"] = {line.benchmark: line.sentence for line in evaluation.style}
    if evaluation.ship:
        summary["ship"] = {
            "ships": evaluation.ship.ships,
            "conditions": [vars(one) for one in evaluation.ship.checked],
        }
    return summary


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
