"""Run the evaluate stage: contestants answer held-out items, and answers are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from datagen.spending.pricing import total_usd
from distill.contestants.contestant import ContestantSpec
from distill.contestants.perturbed_items import perturb_items
from distill.evaluation.comparison import Comparison
from distill.evaluation.controls import compare_with_controls, control_sentences
from distill.evaluation.evaluate import evaluate_answers
from distill.evaluation.findings import Evaluation
from distill.evaluation.inputs import BenchmarkAnswers, Perturbed, Rules, TrainingProvenance
from distill.evaluation.over_seeds import Trained, of_seed
from distill.plan.preflight import check_evaluation
from flows.engines.engine import ShardEngine, engine_of
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import (
    ContestantFactory,
    answer_as_student,
    collect_answers,
    local_model,
    request_answers,
)
from flows.stages.curate import curate_stage
from flows.stages.curated import Curated
from flows.stages.generate import load_samples
from flows.stages.known_prompts import refuse_prompts_as_benchmark
from flows.stages.last_time import compare_with_last_time
from flows.stages.report import write_report
from flows.stages.training_records import student_id_of
from quality.tasks.benchmark import Benchmark, Item
from warehouse.errors import NotFoundError, NothingToDoError
from warehouse.records import Answer, Call, Choice, Run, Student


def evaluate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Let the contestants answer what they have not answered, and compare them."""
    with open_run(plan_path, overrides, "evaluate") as context:
        check_evaluation(context.plan, context.store)
        refuse_prompts_as_benchmark(context.plan)
        curated = select_samples(context)
        return evaluate_and_report(context, find_trained_students(context, curated), curated)


def evaluate_and_report(
    context: RunContext, students: Sequence[Student], curated: Curated | None, **facts: Any
) -> dict[str, Any]:
    """Evaluate, write the report and summarize the run.

    Args:
        students: The student of each training seed, the plan's own first; none where no student is
            evaluated.

    Returns:
        What `--json` prints: the run's counts, `facts`, the report's path and the metrics.
    """
    evaluation = evaluate_stage(context, students, curated)
    paths = write_report(context, curated, next(iter(students), None), evaluation)
    result = {
        **context.result("calls_made", "calls_reused", "failures"),
        **facts,
        "report_path": str(paths["html"]),
        **result_of(evaluation),
    }
    context.summarize(**result)
    return result


def select_samples(context: RunContext) -> Curated | None:
    """Apply the gate to recorded samples; None where no contestant needs a selection."""
    settings = context.plan.evaluate
    drawn = [settings.context(part.context) for part in settings.parts() if part.context]
    if not settings.judges_student and not any(part.needs_selection for part in drawn):
        return None
    return curate_stage(context, load_samples(context))


def find_trained_students(context: RunContext, curated: Curated | None) -> list[Student]:
    """The students that this plan trained, one for each seed; none where none is to be evaluated.

    Raises:
        NotFoundError: a student is to be evaluated, and that of a seed is not there.
    """
    if not context.plan.evaluate.judges_student or curated is None:
        return []
    sections = context.plan.training.of_each_seed
    ids = [student_id_of(section, curated.kept) for section in sections]
    there = {
        student.student_id: student
        for student in context.store.by_ids(Student, "student_id", ids)
        if student.folder_in(context.home).is_dir()
    }
    missing = [section.seed for i, section in zip(ids, sections, strict=True) if i not in there]
    if missing:
        which = "" if len(sections) == 1 else f" with seed {', '.join(map(str, missing))}"
        raise NotFoundError(
            f"no student of this plan{which} yet; run `distill train {context.plan_path}` first"
        )
    return [there[student_id] for student_id in ids]


def evaluate_stage(
    context: RunContext, students: Sequence[Student], curated: Curated | None
) -> Evaluation:
    """Let contestants answer, grade and compare, with one model in memory at a time.

    Of several `students`, one for each training seed, the first is the contestant of the plan; the
    others answer what it is asked without a context, and its scores become means over seeds.

    Raises:
        NothingToDoError: a benchmark has no items.
    """
    with context.stage("evaluate"), engine_of(context.plan.run) as engine:
        plan = context.plan
        kept = curated.kept if curated else []
        student = next(iter(students), None)
        request = partial(request_answers, context)
        run_id = context.run.run_id
        factory = ContestantFactory(plan, context.store, run_id, student, kept, request, engine)
        benchmarks = plan.evaluate.every_benchmark
        items = {benchmark.label: items_of(context, benchmark) for benchmark in benchmarks}
        answers: dict[str, list[Answer]] = {label: [] for label in items}
        forms: list[Perturbed] = []
        left_out = _find_left_out(context, factory, items)
        for specs in _group_by_model(plan.evaluate.parts()):
            names = [spec.name for spec in specs]
            for benchmark in benchmarks:
                for name in names:
                    if name in left_out[benchmark.label]:
                        continue
                    contestant = factory.contestant(name, benchmark)
                    answers[benchmark.label] += collect_answers(
                        context, contestant, items[benchmark.label]
                    )
                    if contestant.protocol not in context.protocol:
                        context.protocol.append(contestant.protocol)
            forms += _answer_perturbed_items(context, factory, names, items)
            factory.model(specs[0]).close()
        trained = _answer_as_each_seed(context, students, items, answers, engine)
        by_benchmark = [
            BenchmarkAnswers(
                benchmark,
                "task" if benchmark in plan.evaluate.benchmarks else "off_task",
                items[benchmark.label],
                answers[benchmark.label],
                left_out[benchmark.label],
                trained[benchmark.label],
            )
            for benchmark in benchmarks
        ]
        provenance = training_provenance(context, students, curated)
        last_time = compare_with_last_time(context, student, by_benchmark)
        return evaluate_answers(by_benchmark, read_rules(context), provenance, forms, last_time)


def _answer_as_each_seed(
    context: RunContext,
    students: Sequence[Student],
    items: Mapping[str, list[Item]],
    answers: Mapping[str, Sequence[Answer]],
    engine: ShardEngine,
) -> dict[str, list[Trained]]:
    """Benchmark -> the student of each training seed with its answers; none where there is one."""
    settings = context.plan.evaluate
    trained: dict[str, list[Trained]] = {label: [] for label in items}
    if len(students) < 2 or "student" not in settings.contestants:
        return trained
    first, *others = students
    for label, given in answers.items():
        own = [answer for answer in given if answer.contestant == "student"]
        trained[label].append(Trained(first.seed, first.student_id, own))
    for other in others:
        model = local_model(context.plan, context.run.run_id, context.home, other, engine)
        for benchmark in settings.every_benchmark:
            given = answer_as_student(
                context, benchmark, items[benchmark.label], of_seed(other.seed), other, model
            )
            trained[benchmark.label].append(Trained(other.seed, other.student_id, given))
        model.close()
    seeds = ", ".join(str(student.seed) for student in students)
    context.protocol.append(
        f"student: its scores and differences are means over training seeds {seeds}; examples, "
        f"style, times and everything else are of seed {first.seed}"
    )
    return trained


def _find_left_out(
    context: RunContext, factory: ContestantFactory, items: dict[str, list[Item]]
) -> dict[str, set[str]]:
    """Benchmark -> contestants that do not answer it; the notes say why."""
    left_out: dict[str, set[str]] = {}
    settings = context.plan.evaluate
    for benchmark in settings.every_benchmark:
        own = items[benchmark.label]
        reasons = {
            name: factory.why_left_out(name, benchmark, own) for name in settings.every_contestant
        }
        left_out[benchmark.label] = {name for name, why in reasons.items() if why}
        if benchmark in settings.benchmarks:
            context.notes += [
                f"{name} did not answer {benchmark.label}: {why}"
                for name, why in reasons.items()
                if why
            ]
    return left_out


def _group_by_model(contestants: Sequence[ContestantSpec]) -> list[list[ContestantSpec]]:
    """Contestants of the same model together, in the plan's order."""
    groups: dict[tuple[str, str | None], list[ContestantSpec]] = {}
    for spec in contestants:
        groups.setdefault((spec.who, spec.student), []).append(spec)
    return list(groups.values())


def _answer_perturbed_items(
    context: RunContext,
    factory: ContestantFactory,
    names: Sequence[str],
    items: dict[str, list[Item]],
) -> list[Perturbed]:
    """Answers to perturbed items, of those among `names` that the plan asks them."""
    settings = context.plan.evaluate.robustness
    if settings is None:
        return []
    wanted = context.plan.evaluate.robustness_contestants
    perturbed = []
    for benchmark in context.plan.evaluate.benchmarks:
        for kind in settings.perturbations:
            pairs = perturb_items(items[benchmark.label][: settings.limit], kind)
            for name in filter(wanted.__contains__, names):
                contestant = factory.contestant(name, benchmark)
                answers = collect_answers(context, contestant, [item for item, _ in pairs], kind)
                origin = {item.item_id: was for item, was in pairs}
                perturbed.append(Perturbed(benchmark.label, kind, name, answers, origin))
    return perturbed


def read_rules(context: RunContext) -> Rules:
    """The plan's settings for reading answers."""
    settings, ship = context.plan.evaluate, context.plan.ship
    return Rules(
        contestants=settings.every_contestant,
        usd_per_hour=settings.usd_per_hour,
        at_once=_at_once(context),
        ship=ship.conditions if ship else (),
        certain=ship.certain if ship else True,
    )


def _at_once(context: RunContext) -> dict[str, int]:
    """Contestants behind a server on this machine: requests that it answers at the same time."""
    settings = context.plan.evaluate
    teachers = {"teacher": context.plan.teacher, **settings.endpoints}
    slots = {who: part.slots for who, part in teachers.items() if hasattr(part, "slots")}
    return {part.name: slots[part.who] for part in settings.parts() if part.who in slots}


def training_provenance(
    context: RunContext, students: Sequence[Student], curated: Curated | None
) -> TrainingProvenance:
    """The training rows behind the students, their scores, and what both cost, of all seeds."""
    if not students or curated is None:
        return TrainingProvenance()
    kept = curated.kept
    ids = {sample.sample_id for sample in kept}
    wanted = sorted({call_id for sample in curated.samples for call_id in sample.call_ids})
    spent: dict[str, list[float | None]] = {}
    calls: list[Call] = context.store.by_ids(Call, "call_id", wanted)  # one made again has two rows
    for call in calls:
        spent.setdefault(call.call_id, []).append(call.cost_usd)
    costs = {
        sample.sample_id: total_usd(usd for key in sample.call_ids for usd in spent.get(key, ()))
        for sample in curated.samples
    }
    scoring = _scoring_calls(context, curated, calls)
    return TrainingProvenance(
        kept=kept,
        scores=[score for score in curated.scores if score.sample_id in ids],
        costs=costs,
        scoring_usd=total_usd(call.cost_usd for call in scoring),
        training_hours=sum(student.seconds for student in students) / 3600
        + _model_hours(context, [*calls, *scoring]),
    )


def _scoring_calls(context: RunContext, curated: Curated, calls: Sequence[Call]) -> list[Call]:
    """What was asked to score a selection: by the runs that chose from its samples, whatever they
    kept, and those that asked for these."""
    ids = [sample.sample_id for sample in curated.samples]
    choices: list[Choice] = context.store.by_ids(Choice, "sample_id", ids)
    selections = {choice.selection_id for choice in choices}
    runs = {call.run_id for call in calls} | {
        run.run_id
        for run in context.store.read(Run)
        if run.summary.get("selection_id") in selections
    }
    runs.add(context.run.run_id)
    return [call for call in context.store.read(Call, "stage = 'curate'") if call.run_id in runs]


def _model_hours(context: RunContext, calls: Sequence[Call]) -> float:
    """Hours of this machine that a local teacher and judge took."""
    local = [m for m in (context.plan.teacher, context.plan.judge) if hasattr(m, "slots")]
    slots = {model.identity: model.slots for model in local}
    took = (call.latency_s / slots[call.teacher] for call in calls if call.teacher in slots)
    return float(sum(took)) / 3600


def items_of(context: RunContext, benchmark: Benchmark) -> list[Item]:
    """The held-out items of a benchmark.

    Raises:
        NothingToDoError: there are none.
    """
    items = list(benchmark.items(context.plan.folder))
    if not items:
        raise NothingToDoError(
            f"benchmark '{benchmark.label}' gives no items; check its path, holdout and limit"
        )
    return items


def result_of(evaluation: Evaluation) -> dict[str, Any]:
    """What `--json` prints of it: metrics, the report's first lines, what was learned, which controls
    the student beats, and whether it ships."""
    summary = metrics_of(evaluation.comparisons)
    if evaluation.opening and evaluation.opening.lines:
        summary["opening"] = dict(evaluation.opening.lines)
    if evaluation.style:
        summary["learned"] = {line.benchmark: line.outcome for line in evaluation.style}
        summary["sentences"] = {line.benchmark: line.sentence for line in evaluation.style}
    controls = {
        comparison.benchmark: {
            "sentences": control_sentences(comparison),
            "results": [
                {"control": r.control, "metric": r.metric, "outcome": r.outcome, "beaten": r.beaten}
                for r in results
            ],
        }
        for comparison in evaluation.comparisons
        if (results := compare_with_controls(comparison))
    }
    if controls:
        summary["controls"] = controls
    if evaluation.cost:
        summary["cost"] = vars(evaluation.cost)
    if evaluation.ship:
        summary["ship"] = {
            "ships": evaluation.ship.ships,
            "by_chance": evaluation.ship.by_chance,
            "chance_sentence": evaluation.ship.chance_sentence,
            "rule": evaluation.ship.rule,
            "conditions": [vars(condition) for condition in evaluation.ship.checked],
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
