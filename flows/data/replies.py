"""Import replies that were paid for elsewhere into a plan's warehouse; makes no calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datagen.generate import requests_for
from datagen.recipes.imported import Imported
from distill.plan.plan import Plan, load_plan
from distill.plan.project import open_store
from flows.runtime.paid_calls import find_paid_ids
from flows.runtime.progress import say
from flows.stages.imports import import_calls
from flows.stages.recipe_run import RecipeRun, replay_engine, run_here
from warehouse import catalog
from warehouse.db.lock import exclusive
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError, UsageError
from warehouse.inputs.conversations import FORMS
from warehouse.records import Prompt
from warehouse.wording import did_you_mean, format_count

MOST_FAULTS = 10
"""Malformed rows that are listed."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import."""

    teacher: str | None = None
    as_plan: bool = False
    form: str = "auto"
    requests: Path | None = None
    all_turns: bool = False
    cost_usd: float | None = None


def import_replies(
    file: Path, plan_path: str, overrides: Sequence[str], options: ImportOptions
) -> dict[str, Any]:
    """Record the replies of a file as calls, and as samples of a teacher of that name.

    Returns:
        What was read and recorded; `used_by_plan` tells whether the plan trains on them as it is,
        and `recipe` is the table that it needs for that. With `as_plan`, `prompts` of the plan and
        how many of them are `answered` now.

    Raises:
        UsageError: options are wrong or do not go together.
        DataError: the file cannot be read.
        NothingToDoError: no row of it can be used.
    """
    if bool(options.teacher) == options.as_plan:
        raise UsageError(
            "name who gave the replies with --teacher NAME, or say with --as-plan that it was the "
            "plan's own teacher with the plan's sampling"
        )
    if options.form not in ("auto", *FORMS):
        hint = did_you_mean(options.form, ["auto", *FORMS])
        raise UsageError(f"unknown --format '{options.form}' ({hint})")
    plan = load_plan(plan_path, overrides)
    recipe = _recipe(plan, file, options)
    store = open_store(plan)
    store.check()
    with exclusive(store.path, say):
        imports = import_calls(plan, store, recipe, options.cost_usd, options.as_plan)
        if not imports.conversations:
            first = imports.faults[0] if imports.faults else "it is empty"
            raise NothingToDoError(f"no row of {file} can be used; first: {first}")
        samples = 0 if options.as_plan else _store_samples(plan, store, recipe)
    result = {**imports.as_json(), "teacher": options.teacher or plan.teacher.identity}
    if options.as_plan:
        prompts, answered = _count_answered(plan, store)
        return {**result, "as_plan": True, "prompts": prompts, "answered": answered}
    used = any(
        isinstance(other, Imported)
        and other.reader(plan.folder).path.samefile(recipe.reader(plan.folder).path)
        and (other.teacher, other.turns) == (recipe.teacher, recipe.turns)
        for other in plan.datagen.recipe
    )
    return {
        **result,
        "as_plan": False,
        "samples": samples,
        "used_by_plan": used,
        "recipe": _table(recipe),
    }


def _recipe(plan: Plan, file: Path, options: ImportOptions) -> Imported:
    """The recipe that reads the file, with paths as the plan would name them."""
    table: dict[str, Any] = {
        "use": "imported",
        "file": _seen_from(plan, file),
        "teacher": options.teacher or "plan",
    }
    if options.form != "auto":
        table["format"] = options.form
    if options.requests is not None:
        table["requests"] = _seen_from(plan, options.requests)
    if options.all_turns:
        table["turns"] = "all"
    recipe: Imported = catalog.build("recipe", table)
    return recipe


def _seen_from(plan: Plan, file: Path) -> str:
    """A file's path from the plan's folder on, where it lies in it; else as it was given."""
    file = file.expanduser()
    if not file.is_file():
        raise UsageError(f"no file {file}; name the file of conversations")
    full, folder = file.resolve(), plan.folder.resolve()
    return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else str(full)


def _store_samples(plan: Plan, store: Store, recipe: Imported) -> int:
    """Store the prompts and samples, as a run of the recipe would; returns the number of samples."""
    engine = replay_engine(plan, store)
    ids: set[str] = set()
    for outcomes in RecipeRun(plan, recipe, store, engine, run_here).shards():
        samples = [sample for outcome in outcomes for sample in outcome.samples]
        store.insert([outcome.prompt for outcome in outcomes])
        store.insert(samples)
        ids.update(sample.sample_id for sample in samples)
    return len(ids)


def _count_answered(plan: Plan, store: Store) -> tuple[int, int]:
    """How many different requests the plan's prompts are, and how many of them have a reply."""
    prompts: Iterator[Prompt] = (
        prompt for recipe in plan.prompt_recipes for prompt in recipe.ask_all(plan.folder)
    )
    requests = requests_for(prompts, plan.teacher.identity, plan.datagen.sampling)
    paid = find_paid_ids(store, plan.teacher, requests)
    return len({request.call_id for request in requests}), len(paid)


def _table(recipe: Imported) -> str:
    """The recipe as a plan has it, options at their defaults left out."""
    plain = replace(recipe, format="auto", requests=None, turns="last")
    options = catalog.options_of(recipe)
    defaults = catalog.options_of(plain)
    shown = {
        name: value
        for name, value in options.items()
        if name in ("file", "teacher") or value != defaults[name]
    }
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in shown.items()]
    return "\n".join(["[[datagen.recipe]]", 'use = "imported"', *lines])


def describe_imports(result: dict[str, Any], plan_path: str) -> Iterator[str]:
    """What a person reads of an import, line by line."""
    forms = ", ".join(result["forms"]) or "none"
    yield f"read           {format_count(result['rows'], 'row')} ({forms}), {result['conversations']:,} usable"
    if result["malformed"]:
        yield f"left out       {format_count(result['malformed'], 'row')}:"
        yield from (f"  {fault}" for fault in result["faults"][:MOST_FAULTS])
        if (more := result["malformed"] - MOST_FAULTS) > 0:
            yield f"  and {more:,} more; --json has them all"
    yield from (f"note           {note}" for note in result["notes"])
    if result["repeated"]:
        number = format_count(result["repeated"], "reply")
        yield f"repeated       {number} that came before in the file; each is imported once"
    before = result["calls"] - result["calls_new"]
    known = f", {before:,} recorded before, which stay as they are" if before else ""
    yield f"calls          {result['calls_new']:,} new{known}"
    if result["models"]:
        models = ", ".join(f"{name} ({number:,})" for name, number in result["models"].items())
        yield f"model          {models}, as the file says"
    if result["as_plan"]:
        prompts = format_count(result["prompts"], "prompt")
        yield (
            f"plan           {result['answered']:,} of its {prompts} answered; "
            f"`distill generate {plan_path}` asks for the others alone"
        )
        return
    yield f"samples        {result['samples']:,} of teacher import:{result['teacher']}"
    if result["used_by_plan"]:
        yield f"next           distill curate {plan_path}"
    else:
        yield f"next           add this to {plan_path}, then run `distill curate {plan_path}`:"
        yield ""
        yield result["recipe"]
