"""Find and build parts by what a plan calls them: a name, `./file.py` or `package/name`.

A folder of parts is a plug-in point: one module per part, found by file name. The file stem is
the part's name in a plan, and its class is the stem in CamelCase: `quality/scorers/grounded.py`
holds `Grounded`, and `distill/contexts/recipe.py` `RecipeContext`, with the kind after it, since
`Recipe` is another class. Dataclass fields are the options. Modules are imported on first use, so listing
names costs nothing. `warehouse.part_sources` loads the parts that are not of this package.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from warehouse.errors import PlanError
from warehouse.part_origins import copy_into, fault_in, origin_of
from warehouse.part_sources import (
    class_from_file,
    class_from_package,
    file_part_name,
    installed,
    is_file,
    nearest,
)
from warehouse.union_faults import merge_union_faults
from warehouse.wording import did_you_mean


class Kind(NamedTuple):
    """A kind of part: the folder of those of this package, and what a part derives from."""

    folder: str
    interface: str


ADDED_LATER = {"added_later": True}
"""Metadata of an option that came later: at its default it is in no record and no id."""

_DOCSTRINGS = ConfigDict(use_attribute_docstrings=True)

KINDS = {
    "teacher": Kind("datagen.teachers", "datagen.teacher:Teacher"),
    "recipe": Kind("datagen.recipes", "datagen.recipe:Recipe"),
    "scorer": Kind("quality.scorers", "quality.scoring.scorer:Scorer"),
    "benchmark": Kind("quality.benchmarks", "quality.tasks.benchmark:Benchmark"),
    "tuner": Kind("train.tuners", "train.methods.tuner:Tuner"),
    "objective": Kind("distill.objectives", "distill.learning.objective:Objective"),
    "context": Kind("distill.contexts", "distill.contestants.context:Context"),
}

HERE = Path(".")

__all__ = [
    "ADDED_LATER",
    "KINDS",
    "Kind",
    "PlanScope",
    "build",
    "did_you_mean",
    "name_of",
    "names",
    "table_of",
]


@dataclass
class PlanScope:
    """Where a plan's parts are looked up: its folder, and the classes that it has named so far."""

    folder: Path
    classes: dict[str, dict[str, type[Any]]] = dataclasses.field(default_factory=dict)
    language: str | None = None
    """What parts that have an option `language` take for it where they do not give it."""

    def build(self, kind: str, table: dict[str, Any] | str) -> Any:
        """`build` in the plan's folder; its bounds may name the part from now on."""
        classes = self.classes.setdefault(kind, {})
        try:
            part = build(kind, self._with_language(kind, table), self.folder)
        except PlanError:
            use = table.get("use") if isinstance(table, dict) else table
            if isinstance(use, str) and is_file(use):
                classes[file_part_name(use)] = object  # its bounds are no second fault
            raise
        classes[name_of(part)] = type(part)
        return part

    def _with_language(self, kind: str, table: dict[str, Any] | str) -> dict[str, Any] | str:
        if self.language is None:
            return table
        if isinstance(table, str):
            table = _table(kind, table, self.folder)
        use = table.get("use") if isinstance(table, dict) else None
        if not isinstance(use, str) or "language" not in option_names(kind, use, self.folder):
            return table
        return {"language": self.language, **table}


def names(kind: str) -> list[str]:
    """The names of the parts of this package, sorted; nothing is imported but their folder."""
    package = importlib.import_module(KINDS[kind].folder)
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def known_names(kind: str, scope: PlanScope | None = None) -> list[str]:
    """Every name that a plan's bounds and contestants may have: also of what is not of this package."""
    named = scope.classes.get(kind, {}) if scope else {}
    return list(dict.fromkeys([*names(kind), *installed(kind), *named]))


def class_named(kind: str, name: str, scope: PlanScope | None = None) -> type[Any]:
    """The class behind one of `known_names`."""
    named = scope.classes.get(kind, {}) if scope else {}
    return named.get(name) or part_class(kind, name)


def reserved_names(kind: str) -> list[str]:
    """Names that a part in a file cannot have: `human` is the scorer that people are."""
    return [*names(kind), "human"]


def part_class(kind: str, use: str, folder: Path = HERE) -> type[Any]:
    """The class behind a plan's `use`; a file's path is relative to `folder`.

    Raises:
        PlanError: there is no such part, and the message names the nearest one; or it cannot be
            loaded, and the message says why and in which line.
    """
    if is_file(use):
        return class_from_file(kind, use, folder, _interface(kind), reserved_names(kind))
    cls = class_from_package(kind, use, _interface(kind)) if "/" in use else _built_in(kind, use)
    if cls is None:
        hint = nearest(use, [*names(kind), *installed(kind)], folder)
        raise PlanError(f"unknown {kind} '{use}' ({hint})")
    return cls


@cache
def _built_in(kind: str, name: str) -> type[Any] | None:
    if name not in names(kind):
        return None
    module = importlib.import_module(f"{KINDS[kind].folder}.{name}")
    camel = "".join(word.capitalize() for word in name.split("_"))
    part_class: type[Any] = getattr(module, camel, None) or getattr(
        module, camel + kind.capitalize()
    )
    return part_class


@cache
def _interface(kind: str) -> type[Any]:
    module, _, name = KINDS[kind].interface.partition(":")
    interface: type[Any] = getattr(importlib.import_module(module), name)
    return interface


def option_names(kind: str, name: str, folder: Path = HERE) -> list[str]:
    """The options a part takes."""
    fields = dataclasses.fields(part_class(kind, name, folder))
    return [field.name for field in fields if field.init]


def options(kind: str, name: str, folder: Path = HERE) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each option; the meaning is the line below its field."""
    cls = part_class(kind, name, folder)
    meanings: dict[str, str] = {}
    for owner in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        # pydantic reads the docstrings of a class's own fields only, so each base is asked for its
        owner.__pydantic_config__ = _DOCSTRINGS  # type: ignore[attr-defined]
        properties = TypeAdapter(owner).json_schema().get("properties", {})
        meanings |= {
            key: " ".join(schema["description"].split())
            for key, schema in properties.items()
            if "description" in schema
        }
    return [
        (field.name, _default(field), meanings.get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(field.default, default=_plain)
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory(), default=_plain)
    return "(must be given)"


def build(kind: str, table: dict[str, Any] | str, folder: Path = HERE) -> Any:
    """Make a part from its plan table `{use = "name", option = ...}`, types checked strictly.

    A text stands for a table: "name" alone, or "name:value" with the option that must be given.
    The path of a part's file is relative to `folder`.

    Raises:
        PlanError: with one fault per wrong option in `.faults`.
    """
    if isinstance(table, str):
        table = _table(kind, table, folder)
    if not isinstance(table, dict) or not isinstance(table.get("use"), str):
        raise PlanError(f"a {kind} is a table with a key 'use' ({', '.join(names(kind))})")
    options = {key: value for key, value in table.items() if key != "use"}
    cls = part_class(kind, table["use"], folder)
    allowed = option_names(kind, table["use"], folder)
    faults = [
        f"{key}: unknown option of {kind} '{table['use']}' ({did_you_mean(key, allowed)})"
        for key in options
        if key not in allowed
    ]
    known = {key: value for key, value in options.items() if key in allowed}
    part = None
    try:
        part = TypeAdapter(cls).validate_json(json.dumps(known, default=str), strict=True)
    except ValidationError as error:
        for fault in merge_union_faults(error.errors(), known):
            where = ".".join(str(step) for step in fault["loc"]) or table["use"]
            value = fault.get("input")
            is_shown = fault["type"] == "literal_error" or isinstance(value, (int, float))
            suffix = f", not {value!r}" if is_shown else ""  # another text may be a secret
            faults.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}{suffix}")
    except Exception as error:
        if cls.__module__.startswith(KINDS[kind].folder):
            raise
        faults.append(fault_in(cls, error))  # code of others: foreseen to be wrong
    if faults:
        raise PlanError(f"{kind} '{table['use']}' cannot be used", tuple(faults))
    return part


def _table(kind: str, text: str, folder: Path) -> dict[str, Any]:
    name, colon, value = text.partition(":")
    if not colon or is_file(text):
        return {"use": text}
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(part_class(kind, name, folder))
    needed = [field.name for field in fields if (field.default, field.default_factory) == missing]
    if len(needed) != 1:
        raise PlanError(
            f"'{text}': after a colon stands the one option that must be given, and {kind} '{name}' "
            f"has {len(needed)}; write {{use = '{name}', ...}}"
        )
    return {"use": name, needed[0]: value}


def name_of(part: Any) -> str:
    """The name a part goes by in bounds and reports: the stem of its file, or `package/name`.

    Of a file's class that the plan names after a colon, it is the class in snake_case.
    """
    origin = origin_of(part)
    return origin.name if origin else type(part).__module__.rpartition(".")[2]


def options_of(part: Any) -> dict[str, Any]:
    """The options of a part as JSON-able values, defaults included but those `ADDED_LATER`."""
    fields = [
        field
        for field in dataclasses.fields(part)
        if field.init
        and not ("added_later" in field.metadata and getattr(part, field.name) == field.default)
    ]
    values = {field.name: getattr(part, field.name) for field in fields}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_plain))
    return plain


def table_of(part: Any) -> dict[str, Any]:
    """What a part is, for records and ids: `use`, all its options, and the `origin` of its code.

    Parts of this package have no `origin`: for them it is the table of a plan.
    """
    return {"use": name_of(part), **code_of(part), **options_of(part)}


def code_of(part: Any) -> dict[str, str]:
    """The `origin` of a part's code, for ids; nothing for a part of this package."""
    origin = origin_of(part)
    return {"origin": origin.identity} if origin else {}


def table_in(part: Any, folder: Path) -> dict[str, Any]:
    """A table from which `build(kind, table, folder)` makes the part again, on any day.

    The file of a part that is in one is copied into `folder`, as it was when it was loaded.
    """
    return {"use": copy_into(part, folder) or name_of(part), **options_of(part)}


def summary(kind: str, name: str, folder: Path = HERE) -> str:
    """The first line of a part's docstring, for `distill list`."""
    return (inspect.getdoc(part_class(kind, name, folder)) or "").partition("\n")[0]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
