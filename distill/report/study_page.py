"""Render the pages of the scaling study and the imitation study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from datagen.recipe import Recipe
from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.comparison import Comparison, Ratio
from distill.evaluation.evaluate import BenchmarkAnswers, Rules, evaluate_answers
from distill.evaluation.findings import Evaluation
from distill.evaluation.scaling import Scaling
from distill.evaluation.style_facts import StyleFacts
from distill.evaluation.verdict import evidence_of, metric_name, points
from distill.plan.plan import Plan
from distill.report.plots import scaling_plot
from distill.report.report import render
from warehouse.catalog import build
from warehouse.errors import PlanError
from warehouse.inputs import assets
from warehouse.records import Sample, make_id
from warehouse.wording import format_count

NONE, BROAD, TASK = "no imitation", "broad imitation", "task imitation"
"""The students of an imitation study: the untuned base, and two that were trained."""


@dataclass(frozen=True)
class Contrast:
    """What each student learned, on one benchmark."""

    comparison: Comparison
    learned: dict[str, StyleFacts]
    """Student -> its style and facts against the base."""
    gap_closed: dict[str, Ratio]
    """Student -> share of the gap from base to teacher, or why there is none."""
    sentence: str


@dataclass(frozen=True)
class Study:
    """The content of a study's page."""

    kind: str
    """scaling | imitation."""
    run_id: str
    plan_name: str
    plan_hash: str
    rows: dict[str, int]
    """Student -> rows that it was trained on."""
    scaling: list[Scaling] = field(default_factory=list)
    contrasts: list[Contrast] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)


def read_shares(shares: Sequence[str]) -> list[float]:
    """Shares as typed: "25,50,100" in percent, or "0.25"; sorted.

    Raises:
        PlanError: fewer than three, from which no curve can be told, or one that is no share.
    """
    values = set()
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
        values.add(value)
    if len(values) < 3:
        raise PlanError("--shares takes at least three, for example --shares 25,50,100")
    return sorted(values)


def broad_recipe(plan: Plan, source: str, rows: int | None = None) -> Recipe:
    """Build the recipe that sends other questions to the teacher, unchanged.

    Raises:
        DataError, PlanError: the questions could not be downloaded, or are those of the plan.
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
    """A share of the selection, chosen by hash, so that smaller shares are parts of larger ones."""
    ordered = sorted(kept, key=lambda sample: make_id("share", sample.sample_id))
    return ordered[: max(1, round(share * len(kept)))]


def contrasts_of(boards: Sequence[BenchmarkAnswers]) -> list[Contrast]:
    """Compare what broad and task-specific imitation taught (Gudibande et al., 2023, sections 3 and 4).

    The answers are of the teacher and of the three students by their names here. Each student is
    read as a run's student is, so that a share of the gap and what was learned are told under the
    same conditions; p-values are adjusted for the number of benchmarks of one role.
    """
    comparisons = adjust_p_values(
        [
            compare(
                board.benchmark.label,
                board.answers,
                board.texts,
                board.benchmark.metrics[0],
                contestants=["teacher", NONE, BROAD, TASK],
                pairs=[(BROAD, NONE), (TASK, NONE), (TASK, BROAD), ("teacher", NONE)],
                role=board.role,
                higher_is_better=board.benchmark.higher_is_better,
            )
            for board in boards
        ]
    )
    evaluations = {name: _as_student(boards, name) for name in (BROAD, TASK)}
    contrasts = []
    for index, comparison in enumerate(comparisons):
        learned = {
            name: line
            for name, evaluation in evaluations.items()
            for line in evaluation.style
            if line.benchmark == comparison.benchmark
        }
        gaps = {name: e.comparisons[index].gap_closed for name, e in evaluations.items()}
        sentence = _sentence(comparison, learned, gaps)
        contrasts.append(Contrast(comparison, learned, gaps, sentence))
    return contrasts


def _as_student(boards: Sequence[BenchmarkAnswers], name: str) -> Evaluation:
    """One of the students against the base and the teacher."""
    roles = {"teacher": "teacher", NONE: "base", name: "student"}
    return evaluate_answers(
        [
            replace(
                board,
                answers=[
                    replace(answer, contestant=roles[answer.contestant])
                    for answer in board.answers
                    if answer.contestant in roles
                ],
            )
            for board in boards
        ],
        Rules(list(roles.values())),
    )


def _sentence(
    comparison: Comparison, learned: Mapping[str, StyleFacts], gaps: Mapping[str, Ratio]
) -> str:
    sentences = []
    for name in (BROAD, TASK):
        pair = comparison.difference(name, NONE)
        if pair is None or comparison.headline not in pair.metrics:
            continue
        standing = comparison.standing(name)
        if standing and not standing.answered_most:
            failed = f"failed on {standing.failed} of {format_count(standing.n, 'item')}"
            sentences.append(f"{name}: {failed}, too many to say what it learned")
            continue
        change = pair.metrics[comparison.headline]
        text = (
            f"{name}: {points(change.value)} points {metric_name(comparison.headline)} "
            f"({evidence_of(pair, change)})"
        )
        if share := gaps[name].interval:
            text += f", {points(share.value)} % of the gap closed"
        if name in learned:
            text += f", {learned[name].outcome}"
        sentences.append(text)
    return (
        f"Against the untuned base: {'; '.join(sentences)}."
        if sentences
        else "Nothing can be compared."
    )


def render_html(study: Study) -> str:
    """One self-contained page without a script."""
    plots = [(line, scaling_plot(line)) for line in study.scaling]
    return render("study.html.j2", study=study, scalings=plots)


def render_markdown(study: Study) -> str:
    """The same as Markdown."""
    return render("study.md.j2", study=study)
