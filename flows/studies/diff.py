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
    render_two_html,
    render_two_markdown,
)
from warehouse.db.store import Store
from warehouse.errors import NotFoundError
from warehouse.records import Answer, Run, RunAnswer


def write_two(store: Store, a: Run, b: Run) -> tuple[TwoRuns, Path]:
    """Compare two runs and write the page beside the first one's report.

    Raises:
        NotFoundError: one of them has no report of students.
    """
    ours, theirs = (_report_of(run) for run in (a, b))
    found = compare_runs(ours, theirs, *_compared(store, a, b, ours))
    folder = Path(a.summary["report_path"]).parent
    page = folder / f"beside-{b.run_id}.html"
    page.write_text(render_two_html(found), encoding="utf-8")
    page.with_suffix(".md").write_text(render_two_markdown(found), encoding="utf-8")
    return found, page


def _report_of(run: Run) -> dict[str, Any]:
    path = Path(run.summary.get("report_path") or "none")
    if path.name != "report.html" or not path.with_suffix(".json").is_file():
        raise NotFoundError(
            f"run {run.run_id} ({run.summary.get('verb')}, {run.state}) has no report of a student; "
            "two runs of `distill run` or `distill evaluate` can be compared"
        )
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def _compared(
    store: Store, a: Run, b: Run, report: dict[str, Any]
) -> tuple[list[Comparison], list[str]]:
    """Student of B against student of A, benchmark by benchmark, on the items that both answered;
    and what could not be compared. Answers to another version of a benchmark are left out: they
    were asked or graded otherwise."""
    ours, theirs = (_answers(store, run) for run in (a, b))
    made, unlike = [], []
    for comparison in report["evaluation"]["comparisons"]:
        benchmark = comparison["benchmark"]
        said = {STUDENT_B: theirs.get(benchmark, []), STUDENT_A: ours.get(benchmark, [])}
        versions = [{one.benchmark_version for one in given} for given in said.values()]
        if all(versions) and versions[0] != versions[1]:
            in_b, in_a = (", ".join(sorted(one)) for one in versions)
            unlike.append(
                f"{benchmark} is of version {in_a} in A and of {in_b} in B: asked or graded "
                "otherwise, so what the students said to it is not compared."
            )
            continue
        answers = [replace(one, contestant=name) for name in said for one in said[name]]
        found = compare(
            benchmark,
            answers,
            [ItemText(item, "", None, []) for item in {one.item_id for one in answers}],
            comparison["headline"],
            pairs=[(STUDENT_B, STUDENT_A)],
            higher_is_better=comparison.get("higher_is_better", True),
        )
        if any(pair.n for pair in found.differences):
            made.append(found)
    return adjust_p_values(made), unlike


def _answers(store: Store, run: Run) -> dict[str, list[Answer]]:
    """What the run's student said, by benchmark."""
    entries = store.read(RunAnswer, "run_id = ? AND contestant = 'student'", [run.run_id])
    by_id = {one.answer_id: one for one in store.by_ids(
        Answer, "answer_id", [entry.answer_id for entry in entries])}  # fmt: skip
    found: dict[str, list[Answer]] = {}
    for entry in entries:
        found.setdefault(entry.benchmark, []).append(by_id[entry.answer_id])
    return found
