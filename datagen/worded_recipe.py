"""Base class for recipes that take their wording from templates: the options that all of them have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datagen.recipe import Recipe
from datagen.wording import Wording
from warehouse.catalog import name_of


@dataclass(frozen=True, kw_only=True)
class WordedRecipe(Recipe):
    """A recipe with templates in `datagen/templates`, or with the user's own."""

    target: int | None = None
    """Stop once so many examples are ok; left out, everything is asked."""
    max_calls: int | None = None
    """Stop after so many calls, those that were paid for before included."""
    language: str = "en"
    """The language of the wording: "en", "zh", or another one with a `template`. Unset: the plan's."""
    template: str | None = None
    """A file with your own wording, in place of the shipped one: Jinja, with this recipe's blocks."""

    def wording(self, folder: Path) -> Wording:
        """The recipe's texts, in its language or from the user's template.

        A recipe of the user's that derives from a shipped one has the words of that one.

        Raises:
            DataError: there are none in this language, or the user's template is missing or faulty.
        """
        modules = (cls.__module__ for cls in type(self).__mro__)
        shipped = (name for name in modules if name.startswith("datagen.recipes."))
        name = next((name.rpartition(".")[2] for name in shipped), name_of(self))
        return Wording(name, self.language, self.template, folder)
