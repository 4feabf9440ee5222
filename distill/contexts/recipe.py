"""Show contestants the context that the teacher had when it made the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datagen.recipe import PromptRecipe
from distill.contestants.context import Context, Sources
from quality.tasks.benchmark import Item
from warehouse.catalog import name_of
from warehouse.errors import PlanError
from warehouse.records import Message


@dataclass(frozen=True)
class RecipeContext(Context):
    """The instruction and worked examples of the plan's first recipe: the teacher that taught.

    The student has learned to do without them (context distillation: Askell et al., 2021; Snell
    et al., 2022). A benchmark that brings worked examples of its own is asked with those alone.
    """

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The recipe's context, then each item's messages."""
        return [
            item.messages
            if any(message["role"] == "assistant" for message in item.messages)
            else [*_row_recipe(sources).context(item.row, sources.folder), *item.messages]
            for item in items
        ]

    def ready(self, sources: Sources) -> None:
        """See that the plan's first recipe asks prompts that are known beforehand.

        Raises:
            PlanError: it does not, so it cannot be shown a held-out question.
        """
        _row_recipe(sources)

    def description(self) -> str:
        """The recipe's context."""
        return "the instruction and worked examples of the plan's recipe, then the question"


def _row_recipe(sources: Sources) -> PromptRecipe:
    recipe = sources.recipe
    if not isinstance(recipe, PromptRecipe):
        raise PlanError(
            f"context 'recipe': recipe '{name_of(recipe)}' does not ask given questions, so it has "
            "no words for a held-out one; ask the teacher as 'teacher+plain' or 'teacher+fewshot'"
        )
    return recipe
