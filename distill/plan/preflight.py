"""Check a plan before any request is paid: files of rows, the evaluation, conditions."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from datagen.recipe import Recipe
from datagen.wording import Wording, has_wording
from distill.contestants.contestant import find_student_by_id
from distill.contestants.context import Sources
from distill.contestants.controls import has_classes
from distill.evaluation.ship_conditions import Planned, refuse_unmeasurable
from distill.evaluation.ship_items import assumed_line, find_items_needed
from distill.plan.plan import Plan
from quality.tasks.benchmark import Benchmark
from warehouse.catalog import name_of
from warehouse.db.store import Store
from warehouse.errors import PlanError
from warehouse.inputs.documents import DocumentSummary, read_documents
from warehouse.inputs.rows import Row, RowSource, SourceSummary, summarize_rows
from warehouse.wording import format_count

_LOOKED_AT = 1000
"""Prompts among which a passage or a reference is looked for."""
_MOST_SEEDS = 100_000
"""Seeds that are looked at: those of a recipe with a `target` may have no end."""
POINT_ESTIMATE = (
    "ship.certain = false: the measured value alone decides, which a student no better than the base "
    "often meets by chance; remove it to ask the bound of the interval"
)
_REASONING = re.compile(r"o\d\b|gpt-5(?!.*chat)")


def summarize_sources(
    plan: Plan, is_long: Callable[[Row], bool] = lambda row: False
) -> list[SourceSummary]:
    """Read every file of rows that the plan names, each once, and count what is in it.

    Raises:
        DataError: one is missing or malformed; the line is named.
    """
    parts = [*plan.datagen.recipe, *plan.evaluate.every_benchmark]
    sources: list[RowSource] = []
    for source in (source for part in parts for source in part.row_sources()):
        if source not in sources:
            sources.append(source)
    return [summarize_rows(source, plan.folder, is_long) for source in sources]


def summarize_documents(plan: Plan) -> list[DocumentSummary]:
    """Read the documents that the plan's recipes start from, and count what is in them.

    Raises:
        AssetError, DataError: there is no such document, or none has a passage.
        MissingExtraError: the library for a format is not installed.
    """
    sources = [source for recipe in plan.datagen.recipe for source in recipe.document_sources()]
    return [read_documents(source, plan.folder).summary for source in dict.fromkeys(sources)]


def check_sampling(plan: Plan) -> list[str]:
    """Check the sampling against what the teacher's API is known to take, one line for each doubt.

    Raises:
        PlanError: the API refuses it.
    """
    teacher, sampling = plan.teacher, plan.datagen.sampling
    host = urlsplit(getattr(teacher, "base_url", "")).hostname or ""
    if "temperature" in getattr(teacher, "omit", ()):
        return []
    known = {"api.anthropic.com": 1, "api.openai.com": 2}
    if sampling.temperature > known.get(host, 2):
        value = f"datagen.sampling.temperature = {sampling.temperature:g}"
        if host in known:
            raise PlanError(f"{value}: the API at {host} takes 0 to {known[host]}")
        return [f"{value}: many servers take 0 to 2"]
    reasons = _REASONING.match(getattr(teacher, "model", ""))
    if host == "api.openai.com" and reasons and sampling.temperature != 1:
        return [
            f"OpenAI's reasoning models such as {teacher.model} may refuse temperature = "
            f'{sampling.temperature:g}; set 1, or omit = ["temperature", "top_p"] in [teacher]'
        ]
    return []


def check_evaluation(plan: Plan, store: Store) -> dict[str, int]:
    """Read every benchmark and the contexts' sources, and check the `[ship]` conditions.

    Returns:
        Items of each benchmark, by its label.

    Raises:
        AssetError, DataError: items or documents could not be downloaded.
        PlanError: a condition of `[ship]` cannot be measured.
        NotFoundError: an earlier student among the contestants is not in the warehouse.
    """
    settings = plan.evaluate
    counts = {b.label: sum(1 for _ in b.items(plan.folder)) for b in settings.every_benchmark}
    sources = Sources(plan.shown_recipe, plan.folder)
    for part in settings.parts():
        if part.student:
            find_student_by_id(store, part.student)
    for name in {part.context for part in settings.parts() if part.context}:
        settings.context(name).ready(sources)
    refuse_unmeasurable_conditions(plan)
    return counts


def refuse_bounds_without_data(plan: Plan) -> None:
    """Check that the scorers that the gate bounds have the passages or references they need.

    Raises:
        PlanError: no prompt of a recipe has one, so that none of its samples could be kept.
    """
    gate = plan.quality.gate
    needs = {
        name_of(scorer): scorer.needs
        for scorer in plan.quality.scorers
        if scorer.needs and not gate.keeps_abstained(name_of(scorer))
    }
    for recipe in plan.prompt_recipes:
        bounds = gate.bounds(name_of(recipe))
        bounded = {key.rpartition("_")[0].partition(".")[0]: key for key in bounds}
        for scorer, needed in needs.items():
            if scorer not in bounded:
                continue
            prompts = itertools.islice(recipe.ask_all(plan.folder), _LOOKED_AT)
            number = 0
            for number, prompt in enumerate(prompts, start=1):
                if getattr(prompt, needed):
                    number = 0
                    break
            if number:
                raise PlanError(
                    f"gate bound '{bounded[scorer]}': none of the first "
                    f"{format_count(number, 'prompt')} of recipe '{name_of(recipe)}' has a "
                    f"{needed}, without which '{scorer}' scores nothing and the gate keeps nothing; "
                    f"add a column '{needed}' to the data, or remove the bound"
                )


def refuse_recipes_without_samples(plan: Plan) -> None:
    """Check that each recipe can make samples, as far as its options and data tell.

    Raises:
        DataError: its template has a block that the recipe does not know.
        PlanError: none of its seeds can be asked, or `max_calls` is less than one of them takes.
    """
    for recipe in plan.datagen.recipe:
        _wording_of(recipe, plan)
        name, least = name_of(recipe), recipe.calls_expected[0]
        most = getattr(recipe, "max_calls", None)
        if most is not None and most < least:
            raise PlanError(
                f"recipe '{name}': max_calls = {most:,} is less than one seed takes "
                f"({format_count(least, 'call')}); raise it"
            )
        if (why_empty := recipe.why_empty(plan.folder)) is not None:
            raise PlanError(f"recipe '{name}': {why_empty}")
        reasons: Counter[str] = Counter()
        for why in _whys_not_asked(recipe, plan):
            if why is None:
                break
            reasons[why] += 1
        else:
            if reasons:
                raise PlanError(
                    f"recipe '{name}': none of its {format_count(reasons.total(), 'seed')} can be "
                    f"asked: {_commonest(reasons)}; correct its data, `columns` or options"
                )


def note_seeds_not_asked(plan: Plan) -> list[str]:
    """What `distill check` notes: seeds that cannot be asked, and blocks that a template lacks."""
    notes = []
    for recipe in plan.datagen.recipe:
        name, whys = name_of(recipe), list(_whys_not_asked(recipe, plan))
        reasons = Counter(why for why in whys if why is not None)
        if reasons:
            number = format_count(len(whys), "seed")
            notes.append(
                f"recipe '{name}': {reasons.total():,} of {number} cannot be asked: "
                f"{_commonest(reasons)}"
            )
        wording = _wording_of(recipe, plan)
        if wording is not None and wording.missing:
            notes.append(
                f"recipe '{name}': its template lacks the blocks {', '.join(wording.missing)}; where "
                "one is needed, the run stops. Write them, or extend a shipped template"
            )
    return notes


def _whys_not_asked(recipe: Recipe, plan: Plan) -> Iterator[str | None]:
    """For each seed why it cannot be asked; nothing where the recipe asks about all of them."""
    if type(recipe).why_not_asked is not Recipe.why_not_asked:
        for seed in itertools.islice(recipe.seeds(plan.folder, {}), _MOST_SEEDS):
            yield recipe.why_not_asked(seed)


def _commonest(reasons: Counter[str]) -> str:
    return ", ".join(f"{number:,} x {why}" for why, number in reasons.most_common(3))


def _wording_of(recipe: Recipe, plan: Plan) -> Wording | None:
    """The user's own wording of a shipped recipe; None where it has none."""
    template = getattr(recipe, "template", None)
    if not template or not has_wording(name_of(recipe)):
        return None
    language = getattr(recipe, "language", "en")
    return Wording(name_of(recipe), language, template, plan.folder)


def refuse_unmeasurable_conditions(plan: Plan) -> None:
    """Check that every condition of `[ship]` can be measured with this plan; reads no data.

    Raises:
        PlanError: one cannot.
    """
    if plan.ship is not None:
        contestants = plan.evaluate.every_contestant
        refuse_unmeasurable(plan.ship.conditions, _planned_benchmarks(plan), contestants)


def ship_lines(plan: Plan, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """What `distill check` says of `[ship]`: "ship" or "warning", and a line.

    Args:
        plan: The plan.
        counts: Benchmark -> its items.
    """
    if plan.ship is None:
        return []
    seeds = plan.train.seeds if plan.train else 1
    needs = find_items_needed(plan.ship.conditions, _planned_benchmarks(plan), counts, seeds)
    if not plan.ship.certain:
        limited = [
            ("warning", f"'{need.condition}' on {need.benchmark} can be met only if {need.only_if}")
            for need in needs
            if need.only_if
        ]
        return [("warning", POINT_ESTIMATE), *limited]
    lines = [("ship" if need.is_enough else "warning", need.line) for need in needs]
    return [*lines, ("ship", assumed_line(seeds))] if needs else lines


def _planned_benchmarks(plan: Plan) -> list[Planned]:
    return [
        *(_planned_benchmark(benchmark, "task") for benchmark in plan.evaluate.benchmarks),
        *(_planned_benchmark(benchmark, "off_task") for benchmark in plan.evaluate.off_task),
    ]


def _planned_benchmark(benchmark: Benchmark, role: str) -> Planned:
    left_out = ("control:copy",) if has_classes(benchmark) else ()
    return Planned(benchmark.label, benchmark.metrics, role, benchmark.higher_is_better, left_out)
