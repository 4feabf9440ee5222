"""Name -> part. A folder of parts is a plug-in point: one module per part, found by file name.

The file stem is the part's name in a plan, and its class is the stem in CamelCase:
`quality/scorers/grounded.py` holds `Grounded`. Dataclass fields are the options.
Modules are imported on first use, so listing names costs nothing.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from warehouse.errors import PlanError

_DOCSTRINGS = ConfigDict(use_attribute_docstrings=True)

KINDS = {
    "teacher": "datagen.teachers",
    "recipe": "datagen.recipes",
    "scorer": "quality.scorers",
    "benchmark": "quality.benchmarks",
    "tuner": "train.tuners",
    "objective": "distill.objectives",
    "context": "distill.contexts",
}


def names(kind: str) -> list[str]:
    """The names of all parts of a kind, sorted; nothing is imported but the folder itself."""
    package = importlib.import_module(KINDS[kind])
    found = pkgutil.iter_modules(package.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def did_you_mean(word: str, allowed: Sequence[str]) -> str:
    """A hint for an unknown word: the nearest allowed one, else the list of them all."""
    near = get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"


@cache
def part_class(kind: str, name: str) -> type[Any]:
    """The class behind a name.

    Raises:
        PlanError: there is no such part; the message names the nearest one.
    """
    if name not in names(kind):
        raise PlanError(f"unknown {kind} '{name}' ({did_you_mean(name, names(kind))})")
    module = importlib.import_module(f"{KINDS[kind]}.{name}")
    wanted = "".join(word.capitalize() for word in name.split("_"))
    found: type[Any] = getattr(module, wanted)
    return found


def option_names(kind: str, name: str) -> list[str]:
    """The options a part takes."""
    return [field.name for field in dataclasses.fields(part_class(kind, name)) if field.init]


def options(kind: str, name: str) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each option; the meaning is the docstring below its field."""
    cls = part_class(kind, name)
    meanings: dict[str, str] = {}
    for owner in reversed([one for one in cls.__mro__ if dataclasses.is_dataclass(one)]):
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


def build(kind: str, table: dict[str, Any] | str) -> Any:
    """Make a part from its plan table `{use = "name", option = ...}`, types checked strictly.

    A text stands for a table: "name" alone, or "name:value" with the option that must be given.

    Raises:
        PlanError: with one fault per wrong option in `.faults`.
    """
    if isinstance(table, str):
        table = _table(kind, table)
    if not isinstance(table, dict) or not isinstance(table.get("use"), str):
        raise PlanError(f"a {kind} is a table with a key 'use' ({', '.join(names(kind))})")
    options = {key: value for key, value in table.items() if key != "use"}
    cls = part_class(kind, table["use"])
    allowed = option_names(kind, table["use"])
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
        for fault in error.errors():
            where = ".".join(str(step) for step in fault["loc"]) or table["use"]
            faults.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}")
    if faults:
        raise PlanError(f"{kind} '{table['use']}' cannot be used", tuple(faults))
    return part


def _table(kind: str, text: str) -> dict[str, Any]:
    name, colon, value = text.partition(":")
    if not colon:
        return {"use": name}
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(part_class(kind, name))
    needed = [one.name for one in fields if (one.default, one.default_factory) == missing]
    if len(needed) != 1:
        raise PlanError(
            f"'{text}': after a colon stands the one option that must be given, and {kind} '{name}' "
            f"has {len(needed)}; write {{use = '{name}', ...}}"
        )
    return {"use": name, needed[0]: value}


def name_of(part: Any) -> str:
    """The name a part goes by in a plan: the stem of its file."""
    return type(part).__module__.rpartition(".")[2]


def options_of(part: Any) -> dict[str, Any]:
    """The options of a part as JSON-able values, defaults included."""
    fields = [field for field in dataclasses.fields(part) if field.init]
    values = {field.name: getattr(part, field.name) for field in fields}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_plain))
    return plain


def table_of(part: Any) -> dict[str, Any]:
    """The plan table of a part: `use` and all its options."""
    return {"use": name_of(part), **options_of(part)}


def summary(kind: str, name: str) -> str:
    """The first line of a part's docstring, for `distill list`."""
    return (inspect.getdoc(part_class(kind, name)) or "").partition("\n")[0]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
