"""List the prompts of a plan that are known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.generate import requests_for
from datagen.recipe import PromptRecipe, Recipe
from datagen.teacher import Request
from distill.plan.asked_items import AskedItems
from distill.plan.plan import Plan
from warehouse.catalog import name_of
from warehouse.errors import NothingToDoError
from warehouse.records import Prompt


def prompts_of(plan: Plan) -> Iterator[tuple[PromptRecipe, Prompt]]:
    """Every prompt of the plan's recipes that is known before anything is asked, with its recipe.

    Raises:
        NothingToDoError: the recipes give no prompt at all.
    """
    seen: set[bytes] = set()  # half the memory of texts: there may be millions
    recipes = plan.datagen.recipe
    state = _state_of(plan)
    asked = None if state in _known else AskedItems(plan)
    for recipe in recipes:
        if not isinstance(recipe, PromptRecipe):
            continue
        for prompt in recipe.ask_all(plan.folder):
            if asked is not None:
                asked.see(prompt)
            key = bytes.fromhex(prompt.prompt_id)
            if key not in seen:
                seen.add(key)
                yield recipe, prompt
    if not seen and all(isinstance(recipe, PromptRecipe) for recipe in recipes):
        names = ", ".join(name_of(recipe) for recipe in recipes)
        raise NothingToDoError(
            f"the recipes ({names}) give no prompts; check 'prompts' and 'limit'"
        )
    if asked is not None:
        _known[state] = Known(len(seen), asked)


@dataclass(frozen=True)
class Known:
    """What one pass over a plan's prompts told."""

    prompts: int
    asked: AskedItems


_known: dict[tuple[Any, ...], Known] = {}


def _survey(plan: Plan) -> Known:
    """A pass over the prompts, once while the files stay as they are: a million take a minute."""
    state = _state_of(plan)
    if state not in _known:
        for _ in prompts_of(plan):
            pass
    return _known[state]


def count_prompts(plan: Plan) -> int:
    """How many prompts `prompts_of` gives.

    Raises:
        NothingToDoError: none.
    """
    return _survey(plan).prompts


def refuse_prompts_as_benchmark(plan: Plan) -> None:
    """Check that no benchmark file has the questions that the recipes ask.

    Raises:
        PlanError: half of its items or more are prompts, so the gate would drop these.
        NothingToDoError: there are no prompts.
    """
    _survey(plan).asked.refuse()


def _state_of(plan: Plan) -> tuple[Any, ...]:
    """What decides the prompts of a plan and the items held out: the parts, and the files they read."""
    recipes, benchmarks = plan.datagen.recipe, plan.evaluate.every_benchmark
    parts = [*recipes, *benchmarks]
    sources = [source.source for part in parts for source in part.row_sources()]
    paths = [folder / Path(s).expanduser() for s in sources for folder in (plan.folder, Path())]
    paths += [path for recipe in recipes for path in recipe.input_files(plan.folder)]
    files = [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.is_file()]
    return (plan.folder, *map(repr, parts), *sources, *files)


def is_counted_ahead(recipe: Recipe) -> bool:
    """Whether a recipe's requests are known before anything is asked: one for each prompt."""
    return isinstance(recipe, PromptRecipe) and recipe.calls_expected == (1, 1)


def request_of(plan: Plan, prompt: Prompt) -> Request:
    """What the teacher is asked for a prompt."""
    return requests_for([prompt], plan.teacher.identity, plan.datagen.sampling)[0]
