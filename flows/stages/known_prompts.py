"""List the prompts of a plan that are known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator

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


def is_counted_ahead(recipe: Recipe) -> bool:
    """Whether a recipe's requests are known before anything is asked: one for each prompt."""
    return isinstance(recipe, PromptRecipe) and recipe.calls_expected == (1, 1)


def request_of(plan: Plan, prompt: Prompt) -> Request:
    """What the teacher is asked for a prompt."""
    return requests_for([prompt], plan.teacher.identity, plan.datagen.sampling)[0]
