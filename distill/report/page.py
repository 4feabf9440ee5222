"""Arrange an evaluation's findings for the templates of the report page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from distill.evaluation.breakdown import Group
from distill.evaluation.comparison import Comparison, Difference
from distill.evaluation.controls import form_warning, whole_verdict
from distill.evaluation.economics import gather_advice
from distill.evaluation.findings import Evaluation
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.style_facts import BOTH_NAME, StyleFacts
from distill.evaluation.verdict import (
    best_of,
    fine_tune,
    forgetting,
    gain,
    is_clear,
    points,
    warnings,
)
from distill.report.explorer import OUTCOMES, cut, explorer
from distill.report.plots import cost_plot, headline_top, kind_of, plane_plot, scaling_plot

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
BEFORE = (("verdict", "Verdict"), ("scores", "Scores"))
AFTER = (
    ("notes", "Notes"),
    ("funnel", "Prompts to examples"),
    ("quality", "Quality of the data"),
    ("trainer", "What the trainer saw"),
    ("training", "Training"),
    ("cost", "Cost and time"),
    ("again", "Reproduce this run"),
)


@dataclass(frozen=True)
class BenchmarkSummary:
    """One benchmark in words."""

    comparison: Comparison
    style: StyleFacts | None
    verdict: str
    fine_tune: str
    forgetting: str
    figures: list[tuple[str, Interval]]
    """Base, student and teacher with their headline."""
    content: list[tuple[str, Interval]]
    """The same with the content metric, where it is another one."""


def policy_for(script: str) -> str:
    """A content security policy that lets this very script run and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'"


def summarize(evaluation: Evaluation, comparison: Comparison) -> BenchmarkSummary:
    """Put one benchmark into words, with its style and facts."""
    style = next((s for s in evaluation.style if s.benchmark == comparison.benchmark), None)
    standings = [comparison.standing(name) for name in ("base", "student", "teacher")]
    by_metric = {
        metric: [
            (standing.contestant, standing.metrics[metric])
            for standing in standings
            if standing and metric in standing.metrics
        ]
        for metric in (comparison.headline, comparison.content)
    }
    return BenchmarkSummary(
        comparison=comparison,
        style=style,
        verdict=whole_verdict(comparison),
        fine_tune=fine_tune(comparison),
        forgetting=forgetting(comparison),
        figures=by_metric[comparison.headline],
        content=by_metric[comparison.content] if comparison.content != comparison.headline else [],
    )


def template_values(evaluation: Evaluation, left_out: Collection[str] = ()) -> dict[str, Any]:
    """Values for the templates; `left_out` names empty sections around the evaluation."""
    summaries = [summarize(evaluation, comparison) for comparison in evaluation.comparisons]
    groups = [(name, _by(members)) for name, members in evaluation.groups.items() if members]
    items = explorer(evaluation)
    sections = {
        "differences": ("Paired differences", evaluation.comparisons),  # or why there are none
        "economics": ("Prompt, retrieve or train?", evaluation.economics or evaluation.break_even),
        "style": ("Style against facts", evaluation.style),
        "scaling": ("Would more data help?", evaluation.scaling),
        "groups": ("By group of items", groups),
        "classes": ("By class", evaluation.classes),
        "agreement": ("Agreement with the teacher", evaluation.agreement),
        "robustness": ("Robustness", evaluation.robustness),
        "calibration": ("Calibration", evaluation.calibration),
        "wrong": ("Still wrong", evaluation.still_wrong),
        "items": ("Every item", items.entries),
    }
    return {
        "evaluation": evaluation,
        "sections": [
            *BEFORE,
            *((place, title) for place, (title, has) in sections.items() if has),
            *((place, title) for place, title in AFTER if place not in left_out),
        ],
        "tasks": [summary for summary in summaries if summary.comparison.role != "off_task"],
        "off_task": [summary for summary in summaries if summary.comparison.role == "off_task"],
        "warned": _warnings_by_benchmark(evaluation.comparisons),
        "one_seed": describe_one_seed(evaluation),
        "advice": gather_advice(evaluation.break_even, evaluation.cost),
        "costs": [
            (name, lines, cost_plot(lines))
            for name in dict.fromkeys(line.benchmark for line in evaluation.economics)
            if (lines := [line for line in evaluation.economics if line.benchmark == name])
        ],
        "plane": plane_plot(evaluation.style),
        "scalings": [(line, scaling_plot(line)) for line in evaluation.scaling],
        "groups": groups,
        "explorer": items,
        "outcomes": OUTCOMES,
        "some_lower": any(not comparison.higher_is_better for comparison in evaluation.comparisons),
    }


def describe_one_seed(evaluation: Evaluation) -> dict[str, str]:
    """Section -> which figures of it are of the first training seed's student alone; empty where
    there was one seed."""
    seeds = next((c.seeds for c in evaluation.comparisons if len(c.seeds) > 1), None)
    if seeds is None:
        return {}
    whole, every = f"the student of training seed {seeds[0].seed} alone", f"all {len(seeds)} seeds"
    named = ""
    if any(BOTH_NAME in line.sentence for line in evaluation.style):
        named = f", except of items {BOTH_NAME}"
    return {
        "here": f"Here “student” is {whole}, not the mean over {every}.",
        "economics": f"Prices, times and tokens of the student's answers are of {whole}. Its scores are "
        f"means over {every}, and what it cost so far counts {every}.",
        "style": f"Style is of {whole}. Content and headline are means over {every}{named}.",
    }


def _warnings_by_benchmark(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Benchmarks and their caveats; the same caveat of several benchmarks appears once."""
    names_by_line: dict[str, list[str]] = {}
    for comparison in comparisons:
        for line in (*form_warning(comparison), *warnings(comparison)):
            names_by_line.setdefault(line, []).append(comparison.benchmark)
    return [(", ".join(names), line) for line, names in names_by_line.items()]


def _by(groups: list[Group]) -> list[tuple[str, list[str], list[Group]]]:
    """What the items are grouped by, contestants, groups."""
    groupings = []
    for by, some in groupby(groups, key=lambda group: group.by):
        lines = list(some)
        groupings.append((by, list(dict.fromkeys(name for g in lines for name in g.scores)), lines))
    return groupings


def describe_difference(pair: Difference, comparison: Comparison) -> str:
    """Describe a difference in two or three words, without overclaiming."""
    if comparison.headline not in pair.metrics:
        return "not graded"
    if pair.n < MIN_ITEMS:
        return "too few items"
    if not is_clear(pair, comparison.headline):
        return "not clear"
    return f"{pair.left if gain(comparison, pair) > 0 else pair.right} is better"


def signed_text(value: float) -> str:
    """A change in points with its sign."""
    text = points(value)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def change_text(interval: Interval | None) -> str:
    """A change in points and its interval, in words."""
    if interval is None:
        return "not known"
    return f"{signed_text(interval.value)} points ({signed_text(interval.low)} to {signed_text(interval.high)})"


def _best(comparison: Comparison, metric: str) -> list[str]:
    """The contestants that the table marks as best; none for a metric of unknown direction."""
    unsure = not comparison.higher_is_better and metric != comparison.headline
    best = [] if unsure else best_of(comparison, metric)
    return best if len(best) < len(comparison.standings) else []


def price_text(usd: float | None) -> str:
    """US dollars to three digits that count, since answers cost little."""
    if usd is None:
        return "not known"
    return f"${usd:,.0f}" if usd >= 100 else f"${usd:#.3g}"


def quiet_evidence(text: str) -> Markup:
    """A sentence as HTML with its intervals and tests in a quieter style."""
    quiet = r'<span class="evidence">\g<0></span>'
    return Markup(re.sub(r"\((?:95 % interval|n = )[^()]*\)", quiet, str(escape(text))))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "top": headline_top,
    "best": _best,
    "kind": kind_of,
    "reading": describe_difference,
    "signed": signed_text,
    "change": change_text,
    "price": price_text,
    "evidence": quiet_evidence,
    "cut": lambda text: cut(text, 400),
}
