"""`distill report A B`: two runs side by side, their students paired on the items of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.compare import compare
from distill.comparison import Difference, ItemText
from distill.two_runs import TwoRuns, render_two_html, render_two_markdown, two_runs
from warehouse.errors import StageError
from warehouse.records import Answer, Entry, Run
from warehouse.store import Store


def write_two(store: Store, a: Run, b: Run) -> tuple[TwoRuns, Path]:
    """Compare two runs and write the page beside the first one's report.

    Raises:
        StageError: one of them has no report of students.
    """
    ours, theirs = (_report_of(run) for run in (a, b))
    found = two_runs(ours, theirs, _differences(store, a, b, ours))
    folder = Path(a.summary["report_path"]).parent
    page = folder / f"beside-{b.run_id}.html"
    page.write_text(render_two_html(found), encoding="utf-8")
    page.with_suffix(".md").write_text(render_two_markdown(found), encoding="utf-8")
    return found, page


def _report_of(run: Run) -> dict[str, Any]:
    path = Path(run.summary.get("report_path") or "none")
    if path.name != "report.html" or not path.with_suffix(".json").is_file():
        raise StageError(
            f"run {run.run_id} ({run.summary.get('verb')}, {run.state}) has no report of a student; "
            "two runs of `distill run` or `distill judge` can be compared"
        )
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def _differences(store: Store, a: Run, b: Run, report: dict[str, Any]) -> list[Difference]:
    """Student of B minus student of A, benchmark by benchmark, on the items that both answered."""
    ours, theirs = (_answers(store, run) for run in (a, b))
    made = []
    for comparison in report["evaluation"]["comparisons"]:
        benchmark = comparison["benchmark"]
        left, right = f"{benchmark}: student of B", f"{benchmark}: student of A"
        said = [replace(one, contestant=left) for one in theirs.get(benchmark, [])]
        said += [replace(one, contestant=right) for one in ours.get(benchmark, [])]
        items = {one.item_id for one in said}
        found = compare(
            benchmark,
            said,
            [ItemText(item, "", None, []) for item in items],
            comparison["headline"],
            pairs=[(left, right)],
            lower_is_better=comparison.get("lower_is_better", False),
        )
        made += [pair for pair in found.differences if pair.n]
    return made


def _answers(store: Store, run: Run) -> dict[str, list[Answer]]:
    """What the run's student said, by benchmark."""
    entries = store.read(Entry, "run_id = ? AND contestant = 'student'", [run.run_id])
    by_id = {one.answer_id: one for one in store.by_ids(
        Answer, "answer_id", [entry.answer_id for entry in entries])}  # fmt: skip
    found: dict[str, list[Answer]] = {}
    for entry in entries:
        found.setdefault(entry.benchmark, []).append(by_id[entry.answer_id])
    return found
