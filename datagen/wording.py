"""Render what a recipe says to the teacher: Jinja templates by language, or the user's own.

A recipe's templates are files `datagen/templates/RECIPE.LANGUAGE.j2` of named blocks, one for each
text. A user's `template = "my.j2"` has the same blocks, or extends a shipped file and changes one:

    {% extends "grounded_qa.en.j2" %}
    {% block ask %}Write {{ pairs }} exam questions about this text: {{ passage }}{% endblock %}
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateNotFound, nodes
from jinja2.loaders import ChoiceLoader, FileSystemLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment

from warehouse.errors import DataError
from warehouse.wording import did_you_mean

FOLDER = Path(__file__).parent / "templates"
MOST_PARENTS = 8
"""Templates that extend each other, at most."""


class Wording:
    """The texts of one recipe.

    Args:
        recipe: Its name, such as "grounded_qa".
        language: "en", "zh", or another one with a template of the user's.
        template: A file of the user's, relative to `folder`.
        folder: Where the plan's relative paths start.

    Raises:
        DataError: there is no template in this language, or the user's is missing or faulty.
    """

    def __init__(
        self, recipe: str, language: str = "en", template: str | None = None, folder: Path = Path()
    ) -> None:
        shipped = f"{recipe}.{language}.j2"
        self._name = shipped if template is None else Path(template).name
        folders = [FOLDER]
        if template is not None:
            folders.insert(0, (folder / template).parent)
        elif not (FOLDER / shipped).is_file():
            languages = sorted(file.name.split(".")[1] for file in FOLDER.glob(f"{recipe}.*.j2"))
            raise DataError(
                f"recipe '{recipe}' has no words in '{language}' ({', '.join(languages)} are there); "
                'give your own, template = "my.j2"'
            )
        self._chain = _load(self._name, tuple(folders))
        self._recipe = recipe
        if template is not None:
            _refuse_unknown_blocks(recipe, self._name, tuple(folders))

    @property
    def missing(self) -> list[str]:
        """Blocks of the recipe that the user's template neither has nor inherits, sorted."""
        present = {name for template in self._chain for name in template.blocks}
        return sorted(_shipped_blocks(self._recipe, FOLDER) - present)

    def text(self, block: str, **variables: Any) -> str:
        """One text, stripped.

        Raises:
            DataError: the template has no such block, or fails with these variables.
        """
        context = self._chain[0].new_context(variables)
        for template in self._chain[1:]:  # what it extends, for blocks that it does not change
            for name, render in template.blocks.items():
                context.blocks.setdefault(name, []).append(render)
        if block not in context.blocks:
            raise DataError(
                f"template {self._name} has no block '{block}'; write it, or extend a shipped template"
            )
        try:
            return "".join(context.blocks[block][0](context)).strip()
        except TemplateError as error:
            names = ", ".join(sorted(variables))
            raise DataError(
                f"template {self._name}, block '{block}': {error}; it may use {names}"
            ) from None

    def messages(
        self, block: str, system: str | None = None, **variables: Any
    ) -> list[dict[str, Any]]:
        """A conversation of one question; `system` is the block of a system message."""
        first = [{"role": "system", "content": self.text(system, **variables)}] if system else []
        return [*first, {"role": "user", "content": self.text(block, **variables)}]


@lru_cache(64)
def _refuse_unknown_blocks(recipe: str, name: str, folders: tuple[Path, ...]) -> None:
    """Check that a user's template has no block that the recipe never renders.

    A block within another one, or one that another renders as `self.name()`, is the user's own. In a
    template that extends none, blocks of other recipes are fine: several recipes may share it.

    Raises:
        DataError: a block is most likely misspelt.
    """
    allowed = _shipped_blocks(recipe, FOLDER)
    if not allowed:
        return  # a recipe of the user's: its blocks are known to its code alone
    chain = _load(name, folders)
    environment, trees = chain[0].environment, []
    for template in chain:
        if Path(template.filename).parent != FOLDER:
            source = Path(template.filename).read_text(encoding="utf-8")
            trees.append(environment.parse(source))
    known = set(allowed)
    if len(trees) == len(chain):
        known.update(*(_shipped_blocks(other, FOLDER) for other in _recipes(FOLDER)))
    for tree in trees:
        for block in tree.find_all(nodes.Block):
            known.update(inner.name for inner in block.find_all(nodes.Block))
        for attribute in tree.find_all(nodes.Getattr):
            if isinstance(attribute.node, nodes.Name) and attribute.node.name == "self":
                known.add(attribute.attr)
    for block in (block for tree in trees for block in tree.find_all(nodes.Block)):
        if block.name not in known:
            raise DataError(
                f"template {name}, line {block.lineno}: recipe '{recipe}' has no block "
                f"'{block.name}'; rename it to one of {', '.join(sorted(allowed))}"
            )


def has_wording(recipe: str) -> bool:
    """Whether a recipe has shipped templates; one of the user's has none."""
    return bool(_shipped_blocks(recipe, FOLDER))


def _recipes(folder: Path) -> set[str]:
    """The recipes that have shipped templates."""
    return {file.name.split(".")[0] for file in folder.glob("*.j2")}


@lru_cache(64)
def _shipped_blocks(recipe: str, folder: Path) -> frozenset[str]:
    """The names of the blocks of a recipe's shipped templates."""
    files = [file.name for file in folder.glob(f"{recipe}.*.j2")]
    return frozenset(
        block for file in files for part in _load(file, (folder,)) for block in part.blocks
    )


@lru_cache(64)
def _load(name: str, folders: tuple[Path, ...]) -> list[Any]:
    """A template and those that it extends, the nearest first."""
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
        undefined=StrictUndefined,
        autoescape=False,  # it writes prompts, not pages
        trim_blocks=True,
        lstrip_blocks=True,
    )
    chain: list[Any] = []
    wanted: str | None = name
    try:
        while wanted is not None and len(chain) < MOST_PARENTS:
            template = environment.get_template(wanted)
            chain.append(template)
            source, _, _ = environment.loader.get_source(environment, wanted)  # type: ignore[union-attr]
            extended = environment.parse(source).find(nodes.Extends)
            parent = extended.template if extended else None
            wanted = parent.value if isinstance(parent, nodes.Const) else None
    except TemplateNotFound as error:
        raise DataError(_not_found(str(error.name or name), name, folders)) from None
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        raise DataError(f"template {name}{at}: {error}") from None
    return chain


def _not_found(missing: str, name: str, folders: tuple[Path, ...]) -> str:
    """A template that is not there, and where it extends one, which there are."""
    if missing == name:
        return f"template {missing} not found in {folders[0]}"
    there = sorted(file.name for folder in folders for file in folder.glob("*.j2"))
    hint = did_you_mean(missing, [file for file in there if file != name])
    return f"template {name} extends {missing}, which is not found in {folders[0]} ({hint})"
