"""List the prompts of a plan that are known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.generate import requests_for
from datagen.recipe import PromptRecipe, Recipe
from datagen.teacher import Request
from distill.plan.plan import Plan
from warehouse.catalog import name_of
from warehouse.errors import NothingToDoError
from warehouse.records import Prompt


def prompts_of(plan: Plan) -> Iterator[tuple[PromptRecipe, Prompt]]:
    """Every prompt of the plan's recipes that is known before anything is asked, with its recipe.

    Raises:
        NothingToDoError: the recipes give no prompt at all.
    """
    seen: set[str] = set()
    recipes = plan.datagen.recipe
    state = _state_of(plan)
    for recipe in recipes:
        if not isinstance(recipe, PromptRecipe):
            continue
        for prompt in recipe.ask_all(plan.folder):
            if prompt.prompt_id not in seen:
                seen.add(prompt.prompt_id)
                yield recipe, prompt
    if not seen and all(isinstance(recipe, PromptRecipe) for recipe in recipes):
        names = ", ".join(name_of(recipe) for recipe in recipes)
        raise NothingToDoError(
            f"the recipes ({names}) give no prompts; check 'prompts' and 'limit'"
        )
    _numbers[state] = len(seen)


def count_prompts(plan: Plan) -> int:
    """How many prompts `prompts_of` gives; counted once while the files stay as they are, since a
    million rows take a minute.

    Raises:
        NothingToDoError: none.
    """
    known = _numbers.get(_state_of(plan))
    return sum(1 for _ in prompts_of(plan)) if known is None else known


_numbers: dict[tuple[Any, ...], int] = {}


def _state_of(plan: Plan) -> tuple[Any, ...]:
    """What decides the prompts of a plan: the options of its recipes, and the files they read."""
    recipes = plan.datagen.recipe
    sources = [source.source for recipe in recipes for source in recipe.row_sources()]
    paths = [folder / Path(s).expanduser() for s in sources for folder in (plan.folder, Path())]
    paths += [path for recipe in recipes for path in recipe.input_files(plan.folder)]
    files = [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.is_file()]
    return (plan.folder, *map(repr, recipes), *sources, *files)


def is_counted_ahead(recipe: Recipe) -> bool:
    """Whether a recipe's requests are known before anything is asked: one for each prompt."""
    return isinstance(recipe, PromptRecipe) and recipe.calls_expected == (1, 1)


def request_of(plan: Plan, prompt: Prompt) -> Request:
    """What the teacher is asked for a prompt."""
    return requests_for([prompt], plan.teacher.identity, plan.datagen.sampling)[0]
