"""Compare two runs, pairing their students on common items: `distill report A B`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.comparison import Comparison, ItemText
from distill.report.diff import (
    STUDENT_A,
    STUDENT_B,
    TwoRuns,
    compare_runs,
    have_same_student,
    render_two_html,
    render_two_markdown,
)
from flows.stages.last_time import student_answers
from warehouse.db.store import Store
from warehouse.errors import NotFoundError
from warehouse.records import Run


def write_comparison(store: Store, a: Run, b: Run) -> tuple[TwoRuns, Path]:
    """Compare two runs and write the page beside the first one's report.

    Raises:
        NotFoundError: one of them has no report of students.
    """
    ours, theirs = (_report_of(run) for run in (a, b))
    pairs = ([], []) if have_same_student(ours, theirs) else _compared(store, a, b, ours)
    comparison = compare_runs(ours, theirs, *pairs)
    folder = Path(a.summary["report_path"]).parent
    page = folder / f"beside-{b.run_id}.html"
    page.write_text(render_two_html(comparison), encoding="utf-8")
    page.with_suffix(".md").write_text(render_two_markdown(comparison), encoding="utf-8")
    return comparison, page


def _report_of(run: Run) -> dict[str, Any]:
    path = Path(run.summary.get("report_path") or "none")
    if path.name != "report.html" or not path.with_suffix(".json").is_file():
        raise NotFoundError(
            f"run {run.run_id} ({run.summary.get('verb')}, {run.state}) has no report of a student; "
            "two runs of `distill run` or `distill evaluate` can be compared"
        )
    report: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return report


def _compared(
    store: Store, a: Run, b: Run, report: dict[str, Any]
) -> tuple[list[Comparison], list[str]]:
    """Student of B against student of A, benchmark by benchmark, on the items that both answered;
    and what could not be compared. Answers to another version of a benchmark are left out: they
    were asked or graded otherwise."""
    ours, theirs = (student_answers(store, run) for run in (a, b))
    texts = {
        (item["benchmark"], item["item_id"]): ItemText(
            item["item_id"], item["question"], item["passage"], []
        )
        for item in report["evaluation"].get("explored", ())
    }
    comparisons, unlike = [], []
    for comparison in report["evaluation"]["comparisons"]:
        benchmark = comparison["benchmark"]
        by_student = {
            STUDENT_B: theirs.get(benchmark, [[]]),
            STUDENT_A: ours.get(benchmark, [[]]),
        }
        versions = [
            {answer.benchmark_version for answers in fits for answer in answers}
            for fits in by_student.values()
        ]
        if all(versions) and versions[0] != versions[1]:
            in_b, in_a = (", ".join(sorted(names)) for names in versions)
            unlike.append(
                f"{benchmark} is of version {in_a} in A and of {in_b} in B: asked or graded "
                "otherwise, so the students' answers to it are not compared."
            )
            continue
        answers = [
            replace(answer, contestant=name)
            for name, fits in by_student.items()
            for answer in fits[0]
        ]
        result = compare(
            benchmark,
            answers,
            [
                texts.get((benchmark, item_id), ItemText(item_id, "", None, []))
                for item_id in {answer.item_id for answer in answers}
            ],
            comparison["headline"],
            pairs=[(STUDENT_B, STUDENT_A)],
            role=comparison.get("role", "task"),
            higher_is_better=comparison.get("higher_is_better", True),
            other_seeds={name: fits[1:] for name, fits in by_student.items()},
        )
        if any(pair.n for pair in result.differences):
            comparisons.append(result)
    return adjust_p_values(comparisons), unlike
