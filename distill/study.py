"""Studies: would more data help, and does imitation here teach facts or style?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from datagen.recipe import Recipe
from distill.comparison import Comparison
from distill.plan import Plan
from distill.plots import scaling_plot
from distill.report import render
from distill.scaling import Scaling
from distill.style_facts import StyleFacts, style_facts
from distill.verdict import metric_name, points
from quality.benchmark import Benchmark
from warehouse import assets
from warehouse.catalog import build
from warehouse.errors import PlanError
from warehouse.records import Answer, Sample, make_id

NONE, BROAD, TASK = "no imitation", "broad imitation", "task imitation"
"""The students of an imitation study: the untuned base, and two that were fitted."""


@dataclass(frozen=True)
class Contrast:
    """The contrast on one benchmark: what each student learned."""

    comparison: Comparison
    learned: dict[str, StyleFacts]
    """Student -> its style and facts against the base."""
    gap_closed: dict[str, float | None]
    """Student -> share of the gap from base to teacher; None where there is no clear gap."""
    sentence: str


@dataclass(frozen=True)
class Study:
    """What a study found out."""

    kind: str
    """scaling | imitation."""
    run_id: str
    plan_name: str
    plan_hash: str
    rows: dict[str, int]
    """Student -> rows that it was fitted to."""
    scaling: list[Scaling] = field(default_factory=list)
    contrasts: list[Contrast] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)


def read_shares(shares: Sequence[str]) -> list[float]:
    """Shares as typed: "25,50,100" in percent, or "0.25"; sorted.

    Raises:
        PlanError: fewer than three, from which no curve can be told, or one that is no share.
    """
    found = set()
    for text in (part.strip() for words in shares for part in words.split(",")):
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            raise PlanError(
                f"--shares takes percents, for example 25,50,100, not '{text}'"
            ) from None
        value = value / 100 if value > 1 or text.endswith("%") else value
        if not 0 < value <= 1:
            raise PlanError(f"--shares: '{text}' is not above 0 and at most 100 %")
        found.add(value)
    if len(found) < 3:
        raise PlanError("--shares takes at least three, for example --shares 25,50,100")
    return sorted(found)


def broad_recipe(plan: Plan, source: str, rows: int | None = None) -> Recipe:
    """The recipe that asks the teacher other questions, as they stand.

    Raises:
        DataError, PlanError: the questions can not be had, or are those of the plan.
    """
    if any(getattr(recipe, "prompts", None) == source for recipe in plan.datagen.recipe):
        raise PlanError(
            f"--broad {source} is what the plan asks already; name other questions, a data set "
            f"({', '.join(assets.names('data'))}) or a file"
        )
    options = {"use": "imitation", "prompts": source, "limit": rows}
    recipe: Recipe = build("recipe", {k: v for k, v in options.items() if v is not None})
    next(recipe.ask_all(plan.folder), None)  # a file that is not there is told at once
    return recipe


def share_of(kept: Sequence[Sample], share: float) -> list[Sample]:
    """A share of the selection, chosen by hash: a smaller one lies within every larger one."""
    ordered = sorted(kept, key=lambda sample: make_id("share", sample.sample_id))
    return ordered[: max(1, round(share * len(kept)))]


def contrast_of(
    benchmark: Benchmark, comparison: Comparison, answers: Sequence[Answer]
) -> Contrast:
    """What broad and task-specific imitation taught (Gudibande et al., 2023, sections 3 and 4).

    `answers` are of the teacher and of the three students by their names here.
    """
    learned, gaps = {}, {}
    for name in (BROAD, TASK):
        named = {"teacher": "teacher", NONE: "base", name: "student"}
        mine = [
            replace(a, contestant=named[a.contestant]) for a in answers if a.contestant in named
        ]
        if benchmark.content is not None:
            found = style_facts(benchmark.label, mine, benchmark.metrics[0], benchmark.content)
            if found:
                learned[name] = found
        gaps[name] = _gap(comparison, name)
    return Contrast(comparison, learned, gaps, _sentence(comparison, learned, gaps))


def _gap(comparison: Comparison, name: str) -> float | None:
    way = comparison.difference("teacher", NONE)
    gone = comparison.difference(name, NONE)
    metric = comparison.headline
    if way is None or gone is None or metric not in way.metrics or metric not in gone.metrics:
        return None
    if way.metrics[metric].low <= 0:
        return None
    return gone.metrics[metric].value / way.metrics[metric].value


def _sentence(
    comparison: Comparison, learned: Mapping[str, StyleFacts], gaps: Mapping[str, float | None]
) -> str:
    told = []
    for name in (BROAD, TASK):
        pair = comparison.difference(name, NONE)
        if pair is None or comparison.headline not in pair.metrics:
            continue
        change = pair.metrics[comparison.headline]
        text = (
            f"{name}: {points(change.value)} points {metric_name(comparison.headline)} "
            f"({points(change.low)} to {points(change.high)}, n = {pair.n})"
        )
        if gaps.get(name) is not None:
            text += f", {points(gaps[name] or 0.0)} % of the gap closed"
        if name in learned:
            text += f", {learned[name].outcome}"
        told.append(text)
    return f"Against the untuned base: {'; '.join(told)}." if told else "Nothing can be compared."


def render_html(study: Study) -> str:
    """One self-contained page without a script."""
    plots = [(line, scaling_plot(line)) for line in study.scaling]
    return render("study.html.j2", autoescape=True, study=study, scalings=plots)


def render_markdown(study: Study) -> str:
    """The same as Markdown."""
    text = render("study.md.j2", autoescape=False, study=study)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
