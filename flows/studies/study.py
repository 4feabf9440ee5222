"""Run the scaling study and the imitation study: `distill study`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from distill.contestants.contestant import EndpointModel
from distill.evaluation.compare import compare
from distill.evaluation.evaluate import BenchmarkAnswers, texts_of
from distill.evaluation.scaling import ScalePoint, Scaling, fit_scaling
from distill.evaluation.statistics import Interval
from distill.plan.sections import QualitySection
from distill.report.report import to_plain
from distill.report.study_page import (
    BROAD,
    NONE,
    TASK,
    Study,
    broad_recipe,
    contrasts_of,
    read_shares,
    render_html,
    render_markdown,
    share_of,
)
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import (
    answer_as_student,
    collect_answers,
    make_contestant,
    request_answers,
)
from flows.stages.curate import Curated, curate_stage
from flows.stages.evaluate import items_of
from flows.stages.generate import generate_stage, load_samples
from flows.stages.report import write_pages
from flows.stages.train import check_training_inputs, train_stage
from quality.tasks.benchmark import Benchmark, Item
from warehouse.errors import NothingToDoError
from warehouse.records import Answer, Student
from warehouse.wording import format_count

LEAST_ROWS = 4
"""Rows below which no student is trained."""


def study_scaling(
    plan_path: str, overrides: Sequence[str], shares: Sequence[str]
) -> dict[str, Any]:
    """Train the student on growing shares of the selection, and evaluate each on the same items."""
    wanted = read_shares(shares)
    with open_run(plan_path, overrides, "study scaling", {"--shares": shares}) as context:
        check_training_inputs(context)
        generate_stage(context)
        curated = curate_stage(context, load_samples(context, counted=False))
        parts = {share: _part(curated, share) for share in wanted}
        students = {share: train_stage(context, part) for share, part in parts.items()}
        rows = {share: len(part.kept) for share, part in parts.items()}
        with context.stage("evaluate"):
            curves = [
                _curve(context, benchmark, students, rows)
                for benchmark in context.plan.evaluate.benchmarks
            ]
        named = {f"{100 * share:g} %": rows[share] for share in wanted}
        return _done(context, _study(context, "scaling", named, scaling=curves))


def _part(curated: Curated, share: float) -> Curated:
    chosen = {sample.sample_id for sample in share_of(curated.kept, share)}
    if len(chosen) < LEAST_ROWS:
        raise NothingToDoError(
            f"{100 * share:g} % of {format_count(len(curated.kept), 'row')} are {len(chosen)}; a student takes at "
            f"least {LEAST_ROWS}: give larger shares or generate more"
        )
    choices = [
        replace(choice, kept=choice.kept and choice.sample_id in chosen)
        for choice in curated.choices
    ]
    return replace(curated, choices=choices)


def _curve(
    context: RunContext,
    benchmark: Benchmark,
    students: dict[float, Student],
    rows: dict[float, int],
) -> Scaling:
    items = items_of(context, benchmark)
    metric = benchmark.metrics[0]
    answers = answer_as_student(context, benchmark, items, NONE, None)
    names = {share: f"{100 * share:g} %" for share in students}
    for share, student in students.items():
        answers += answer_as_student(context, benchmark, items, names[share], student)
    comparison = compare(
        benchmark.label,
        answers,
        texts_of(items),
        metric,
        contestants=list(names.values()),
        pairs=(),
    )
    scores = {
        standing.contestant: standing.metrics.get(metric) for standing in comparison.standings
    }
    graded = [
        {a.item_id: float(grade) for a in answers if a.contestant == name
         and (grade := a.grades.get(metric)) is not None}
        for name in names.values()
    ]  # fmt: skip
    points = [
        ScalePoint(share, rows[share], students[share].student_id, scores[name] or _unknown())
        for share, name in names.items()
    ]
    return fit_scaling(
        benchmark.label,
        metric,
        points,
        scores.get(NONE),
        graded,
        higher_is_better=benchmark.higher_is_better,
        group_of={item.item_id: item.group for item in texts_of(items)},
    )


def _unknown() -> Interval:
    raise NothingToDoError(
        "no item was graded, so no curve can be drawn; look at the benchmark's references"
    )


def study_imitation(
    plan_path: str, overrides: Sequence[str], broad: Sequence[str]
) -> dict[str, Any]:
    """No imitation, broad imitation, the plan's own: as many rows each, the same items."""
    with open_run(plan_path, overrides, "study imitation", {"--broad": broad}) as context:
        check_training_inputs(context)
        generate_stage(context)
        task = curate_stage(context, load_samples(context, counted=False))
        other = _curate_broad_imitation(context, broad[0], len(task.kept))
        parts = {BROAD: _first(other, len(task.kept)), TASK: _first(task, len(other.kept))}
        students = {name: train_stage(context, part) for name, part in parts.items()}
        rows = {NONE: 0, **{name: len(part.kept) for name, part in parts.items()}}
        with context.stage("evaluate"):
            answered_benchmarks = []
            for benchmark in context.plan.evaluate.benchmarks:
                items = items_of(context, benchmark)
                answered_benchmarks.append(
                    BenchmarkAnswers(
                        benchmark, "task", items, _all_answers(context, benchmark, items, students)
                    )
                )
            contrasts = contrasts_of(answered_benchmarks)
        return _done(context, _study(context, "imitation", rows, contrasts=contrasts))


def _curate_broad_imitation(context: RunContext, source: str, rows: int) -> Curated:
    """Curate the teacher's replies to questions off the task, sent without context; they are not
    scored, and held-out items are left out."""
    recipe = broad_recipe(context.plan, source, rows)
    sampling = replace(
        context.plan.datagen.sampling, max_tokens=max(128, context.plan.datagen.sampling.max_tokens)
    )
    datagen = context.plan.datagen.model_copy(update={"recipe": [recipe], "sampling": sampling})
    plan = context.plan.model_copy(update={"datagen": datagen, "quality": QualitySection()})
    plan._folder = context.plan.folder
    other = replace(context, plan=plan)
    generate_stage(other)
    return curate_stage(other, load_samples(other, counted=False))


def _first(curated: Curated, rows: int) -> Curated:
    """At most `rows` of the kept rows, by hash, so that both students get the same number."""
    if rows >= len(curated.kept):
        return curated
    return _part(curated, rows / len(curated.kept))


def _all_answers(
    context: RunContext, benchmark: Benchmark, items: Sequence[Item], students: dict[str, Student]
) -> list[Answer]:
    teacher = EndpointModel(
        context.plan.teacher, partial(request_answers, context, context.plan.teacher)
    )
    recipe = context.plan.evaluate.context("recipe")
    contestant = make_contestant(
        context.plan, context.run.run_id, "teacher", teacher, recipe, benchmark
    )
    answers = collect_answers(context, contestant, items)
    answers += answer_as_student(context, benchmark, items, NONE, None)
    for name, student in students.items():
        answers += answer_as_student(context, benchmark, items, name, student)
    return answers


def _study(context: RunContext, kind: str, rows: dict[str, int], **results: Any) -> Study:
    return Study(
        kind=kind,
        run_id=context.run.run_id,
        plan_name=context.plan.name,
        plan_hash=context.plan.plan_hash,
        rows=rows,
        notes=list(dict.fromkeys(context.notes)),
        versions=context.run.versions,
        **results,
    )


def _done(context: RunContext, study: Study) -> dict[str, Any]:
    """Write the pages, and keep in the run what a later report shows."""
    plain = to_plain(study)
    pages = write_pages(context, "study", render_html(study), render_markdown(study), plain)
    result = {
        **context.result("calls_made", "calls_reused"),
        "study": study.kind,
        "rows": study.rows,
        "sentences": {
            **{line.benchmark: line.sentence for line in study.scaling},
            **{line.comparison.benchmark: line.sentence for line in study.contrasts},
        },
        "report_path": str(pages["html"]),
    }
    context.run.summary.update({**result, "scaling": plain["scaling"]})
    return result
