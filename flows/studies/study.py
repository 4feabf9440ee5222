"""Run the scaling study: `distill study scaling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.evaluation.compare import compare
from distill.evaluation.imitation import NONE
from distill.evaluation.inputs import texts_of
from distill.evaluation.scaling import ScalePoint, Scaling, fit_scaling
from distill.evaluation.statistics import Interval
from distill.report.report import to_plain
from distill.report.study_page import (
    Study,
    read_shares,
    render_html,
    render_markdown,
    share_of,
)
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import (
    answer_as_student,
)
from flows.stages.curate import curate_stage
from flows.stages.curated import Curated
from flows.stages.evaluate import items_of
from flows.stages.generate import generate_stage, load_samples
from flows.stages.report import write_pages
from flows.stages.train import check_training_inputs, train_stage
from quality.tasks.benchmark import Benchmark
from warehouse.errors import NothingToDoError
from warehouse.records import Student
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
        return write_study(context, study_of(context, "scaling", named, scaling=curves))


def _part(curated: Curated, share: float) -> Curated:
    chosen = {sample.sample_id for sample in share_of(curated.kept, share)}
    if len(chosen) < LEAST_ROWS:
        raise NothingToDoError(
            f"{100 * share:g} % of {format_count(curated.kept_count, 'row')} are {len(chosen)}; a student takes at "
            f"least {LEAST_ROWS}: give larger shares or generate more"
        )
    return curated.keeping(chosen)


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


def study_of(context: RunContext, kind: str, rows: dict[str, int], **results: Any) -> Study:
    """The content of the page."""
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


def write_study(context: RunContext, study: Study) -> dict[str, Any]:
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
    if study.setup:
        result |= {
            "supervised_tokens": study.setup.tokens,
            "caveat": study.setup.caveat,
            "findings": {line.comparison.benchmark: line.findings for line in study.contrasts},
        }
    context.run.summary.update({**result, "scaling": plain["scaling"]})
    return result
