"""Compare two runs from their report JSON: what changed in the plan, and in the results.

Scores of two runs are shown beside each other, but only a paired difference of the two
students on the same items says whether one is better; the caller computes it from the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.evaluation.comparison import Comparison
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.verdict import evidence_of, gain, is_clear, metric_name, points
from distill.report.page import POLICY
from distill.report.report import render

MISSING = "not set"
STUDENT_A, STUDENT_B = "student of A", "student of B"


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    run_id: str
    plan_name: str
    created_at: str
    student: str | None
    ships: bool | None
    """None where the plan had no conditions, or the report is of an older version."""
    cost_usd: float | None
    """Of all stages; None where a price is not known."""
    seconds: float


@dataclass(frozen=True)
class Change:
    """A key that differs; texts as JSON, or "not set"."""

    key: str
    a: str
    b: str


@dataclass(frozen=True)
class DiffRow:
    """One contestant's score by one metric in both runs."""

    contestant: str
    metric: str
    a: Interval | None
    b: Interval | None


@dataclass(frozen=True)
class BoardPair:
    """One benchmark in both runs."""

    benchmark: str
    n: tuple[int | None, int | None]
    """Items in each run; None where it was not run."""
    headlines: tuple[str | None, str | None]
    verdicts: tuple[str | None, str | None]
    lines: list[DiffRow]

    @property
    def is_same(self) -> bool:
        """Whether both runs have the same scores and the same verdict here."""
        same = all(line.a == line.b for line in self.lines)
        return same and self.n[0] == self.n[1] and self.verdicts[0] == self.verdicts[1]


@dataclass(frozen=True)
class TwoRuns:
    """The content of `distill report A B`."""

    a: Side
    b: Side
    plan: list[Change]
    versions: list[Change]
    boards: list[BoardPair]
    comparisons: list[Comparison] = field(default_factory=list)
    """The students of both, item by item."""
    sentences: list[str] = field(default_factory=list)
    """Findings and caveats."""


def compare_runs(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    comparisons: Sequence[Comparison] = (),
    unlike: Sequence[str] = (),
) -> TwoRuns:
    """Compare two reports, each as `distill.report.report.to_json` gives it (older ones too).

    `comparisons` are of the two students, item by item, `STUDENT_B` minus `STUDENT_A`; `unlike`
    lists what could not be compared. Both are left out where the students are the same.
    """
    boards = _boards(a, b)
    plan = _changes(a.get("plan") or {}, b.get("plan") or {})
    same = have_same_student(a, b)
    if same:
        comparisons, unlike = (), ()
    return TwoRuns(
        a=_side(a),
        b=_side(b),
        plan=plan,
        versions=_changes(a.get("versions") or {}, b.get("versions") or {}),
        boards=boards,
        comparisons=list(comparisons),
        sentences=[
            *([_same_student(a, boards)] if same else []),
            *(_difference_sentence(comparison) for comparison in comparisons),
            *_seeds_sentence(comparisons),
            *unlike,
            *_caveats(a, b, boards, same_plan=not plan, untested=not comparisons and not same),
        ],
    )


def render_two_html(runs: TwoRuns) -> str:
    """One self-contained page without a script."""
    return render("two_runs.html.j2", two=runs, policy=POLICY)


def render_two_markdown(runs: TwoRuns) -> str:
    """The same as Markdown."""
    return render("two_runs.md.j2", two=runs)


def _comparisons(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Comparisons by benchmark; older reports have them at the top."""
    evaluation = report.get("evaluation") or report
    comparisons = evaluation.get("comparisons") or ()
    return {comparison["benchmark"]: comparison for comparison in comparisons}


def _side(report: Mapping[str, Any]) -> Side:
    stages = report.get("stages") or []
    costs = [stage.get("cost_usd") for stage in stages]
    ship = (report.get("evaluation") or {}).get("ship") or {}
    return Side(
        run_id=str(report.get("run_id", "")),
        plan_name=str(report.get("plan_name", "")),
        created_at=str(report.get("created_at", "")),
        student=(report.get("ids") or {}).get("student"),
        ships=ship.get("ships"),
        cost_usd=None if None in costs else sum(costs),
        seconds=sum(stage.get("seconds") or 0.0 for stage in stages),
    )


def _boards(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[BoardPair]:
    ours, theirs = _comparisons(a), _comparisons(b)
    boards = []
    for benchmark in dict.fromkeys([*ours, *theirs]):
        in_a, in_b = ours.get(benchmark), theirs.get(benchmark)
        sides = [side for side in (in_a, in_b) if side]
        names = dict.fromkeys(s["contestant"] for side in sides for s in side["standings"])
        metrics = dict.fromkeys(metric for side in sides for metric in side["metrics"])
        lines = [
            DiffRow(name, metric, _score(in_a, name, metric), _score(in_b, name, metric))
            for metric in metrics
            for name in names
        ]
        boards.append(
            BoardPair(
                benchmark=benchmark,
                n=(in_a["n"] if in_a else None, in_b["n"] if in_b else None),
                headlines=(in_a["headline"] if in_a else None, in_b["headline"] if in_b else None),
                verdicts=(
                    in_a.get("verdict") if in_a else None,
                    in_b.get("verdict") if in_b else None,
                ),
                lines=[line for line in lines if line.a or line.b],
            )
        )
    return boards


def _score(comparison: Mapping[str, Any] | None, name: str, metric: str) -> Interval | None:
    for standing in comparison["standings"] if comparison else ():
        at = standing["metrics"].get(metric)
        if standing["contestant"] == name and at and None not in at.values():
            return Interval(at["value"], at["low"], at["high"])
    return None


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Keys whose values differ; a key that is null in one and left out in the other does not."""
    ours, theirs = dict(_flat("", a)), dict(_flat("", b))
    return [
        Change(key, ours.get(key, MISSING), theirs.get(key, MISSING))
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    ]


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    """Dotted keys and their values as JSON."""
    if isinstance(value, Mapping) and (value or not key):
        parts = [(f"{key}.{name}" if key else str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        parts = [(f"{key}[{place}]", inner) for place, inner in enumerate(value)]
    else:
        return [] if value is None else [(key, json.dumps(value, ensure_ascii=False))]
    return [pair for name, inner in parts for pair in _flat(name, inner)]


def _difference_sentence(comparison: Comparison) -> str:
    """One benchmark's paired difference in a sentence."""
    pair, where = comparison.differences[0], comparison.benchmark
    interval = pair.metrics.get(comparison.headline)
    if interval is None:
        return f"{where}: no item was graded for both students."
    if pair.n < MIN_ITEMS:
        return f"{where}: {pair.n} common items are too few to claim anything."
    size = f"{points(interval.value)} points {metric_name(comparison.headline)}"
    evidence = evidence_of(pair, interval)
    if not is_clear(pair, comparison.headline):
        return f"{where}: no clear difference between the students, B minus A {size} ({evidence})."
    side = "better" if gain(comparison, pair) > 0 else "worse"
    return f"{where}: the student of B is {side}, B minus A {size} ({evidence})."


def _seeds_sentence(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence where a side was trained once, so that no interval covers its seeds."""
    pairs = [pair for comparison in comparisons for pair in comparison.differences if pair.n]
    once = [
        name
        for place, name in ((1, "A"), (0, "B"))
        if pairs and all(pair.fits[place] == 1 for pair in pairs)
    ]
    if not once:
        return []
    who = f"the student of {once[0]} was" if len(once) == 1 else "each student was"
    return [
        f"{who[0].upper()}{who[1:]} trained once: two trainings of one plan may differ by as much "
        "(several seeds: --set train.seeds=3)."
    ]


def have_same_student(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two reports are of the same student, of the same training seeds."""
    ours, theirs = _students(a), _students(b)
    return bool(ours) and ours == theirs


def _students(report: Mapping[str, Any]) -> set[str]:
    """The ids of a report's student, of every training seed."""
    first = (report.get("ids") or {}).get("student")
    seeds = [seed for board in _comparisons(report).values() for seed in board.get("seeds") or ()]
    return {*(seed["student_id"] for seed in seeds), *([first] if first else [])}


def _same_student(report: Mapping[str, Any], boards: Sequence[BoardPair]) -> str:
    """That there are no two students, and where scores that differ come from."""
    ids = sorted(_students(report))
    who = f"the same student, {ids[0][:12]}"
    if len(ids) > 1:
        who = f"the same student of {len(ids)} training seeds"
    same = all(board.is_same for board in boards)
    why = "" if same else " Scores that differ are of other items, contestants or settings."
    return f"Both runs evaluate {who}, so there are no two students to compare.{why}"


def _caveats(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    boards: Sequence[BoardPair],
    same_plan: bool,
    untested: bool,
) -> list[str]:
    """Caveats against reading the scores side by side."""
    sentences = []
    if same_plan and a.get("plan_hash") == b.get("plan_hash"):
        sentences.append("Both runs use the same plan.")
    for board in boards:
        if None in board.n:
            where = "B" if board.n[0] is None else "A"
            sentences.append(f"{board.benchmark} was run only in {where}.")
        elif board.n[0] != board.n[1]:
            sentences.append(
                f"{board.benchmark} has {board.n[0]} items in A and {board.n[1]} in B."
            )
        elif board.headlines[0] != board.headlines[1]:
            sentences.append(f"{board.benchmark} has different headline metrics in A and B.")
    if untested and boards:
        sentences.append(
            "The two students were not compared item by item, so the differences below are not tested."
        )
    return sentences
