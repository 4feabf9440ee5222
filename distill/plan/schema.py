"""Generate the JSON schema of a plan, with which editors complete and check plan files.

The sections come from their pydantic models; the parts of each kind from the catalog. A part may
also come from a file or another package, whose options are not known here.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter

from distill.plan.plan import Plan
from warehouse import catalog

ELSEWHERE = "^.*/.+$"  # ./my_scorer.py, ./file.py:Class or package/name


def plan_schema() -> dict[str, Any]:
    """The schema of a whole plan, in JSON Schema 2020-12."""
    schema = _as_toml(Plan.model_json_schema(mode="validation"))
    definitions: dict[str, Any] = schema["$defs"]
    definitions["GatePolicy"] = _with_bounds(definitions["GatePolicy"])
    for kind in catalog.KINDS:
        definitions[kind] = _part(kind)
        for name in catalog.names(kind):
            definitions[f"{kind}.{name}"] = _options(kind, name, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stillhouse plan",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _part(kind: str) -> dict[str, Any]:
    """A part of a kind: a table with `use`, or a text that stands for one."""
    names = catalog.names(kind)
    alternatives = "|".join(re.escape(name) for name in names)
    texts = [
        {"enum": names},
        {"type": "string", "pattern": f"^({alternatives}):.+$"},
        {"type": "string", "pattern": ELSEWHERE},
    ]
    use = {
        "type": "string",
        "pattern": ELSEWHERE,
        "description": "A file (`./file.py` or `./file.py:Class`), or a part of an installed "
        "package (`package/name`).",
    }
    elsewhere = {"type": "object", "properties": {"use": use}, "required": ["use"]}
    tables = [{"$ref": f"#/$defs/{kind}.{name}"} for name in names]
    return {
        "description": f"A {kind}: a table with `use` and its options, or its name.",
        "anyOf": [*texts, {"type": "object", "required": ["use"], "oneOf": [*tables, elsewhere]}],
    }


def _options(kind: str, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The table of one part; what its options refer to is added to `definitions`."""
    adapter = TypeAdapter(catalog.part_class(kind, name))
    schema = _as_toml(adapter.json_schema(ref_template="#/$defs/{model}"))
    definitions.update(schema.pop("$defs", {}))
    described = schema.get("properties", {})
    properties = {option: described[option] for option in catalog.option_names(kind, name)}
    for option, _, meaning in catalog.options(kind, name):
        rest = {key: value for key, value in properties[option].items() if key != "description"}
        properties[option] = {"description": meaning, **rest}  # in one order, whoever reads first
    use = {"const": name, "description": catalog.summary(kind, name)}
    return {
        "type": "object",
        "description": catalog.summary(kind, name),
        "properties": {"use": use, **properties},
        "required": ["use", *schema.get("required", [])],
        "additionalProperties": False,
    }


def _with_bounds(gate: dict[str, Any]) -> dict[str, Any]:
    """The gate as it stands in a plan: bounds on scorers and on their labels beside its own keys."""
    own = {key: value for key, value in gate["properties"].items() if key != "thresholds"}
    bounds: dict[str, Any] = {}
    for name in catalog.names("scorer"):
        for end, word in (("min", "Least"), ("max", "Largest")):
            bounds[f"{name}_{end}"] = {
                "type": "number",
                "description": f"{word} `{name}` score of a sample that is kept.",
            }
        labels = list(getattr(catalog.part_class("scorer", name), "labels", ()))
        if labels:
            ends = [f"{label}_{end}" for label in labels for end in ("min", "max")]
            bounds[name] = {
                "type": "object",
                "description": f"Bounds on labels of `{name}`.",
                "properties": {end: {"type": "number"} for end in ends},
                "additionalProperties": False,
            }
    # Of a scorer from elsewhere only the form of its bounds is known.
    other = {"^.+_(min|max)$": {"type": "number"}}
    all_bounds = {"properties": bounds, "patternProperties": other, "additionalProperties": False}
    own["recipe"] = {**own["recipe"], "additionalProperties": {"type": "object", **all_bounds}}
    return {**gate, **all_bounds, "properties": {**own, **bounds}}


def _as_toml(value: Any) -> Any:
    """Refer to the schema of a part, and drop null, which TOML does not have."""
    if isinstance(value, list):
        return [_as_toml(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    plain: dict[str, Any] = {}
    for key, inner in value.items():
        if key in ("properties", "$defs"):  # their keys are names, not words of JSON Schema
            plain[key] = {name: _as_toml(schema) for name, schema in inner.items()}
        elif key == "part":
            plain["$ref"] = f"#/$defs/{inner}"
        elif key == "default" and not (inner is None or isinstance(inner, dict)):
            plain[key] = inner
        elif key not in ("title", "default"):
            plain[key] = _as_toml(inner)
    if {"type": "null"} in plain.get("anyOf", []):
        rest = [inner for inner in plain.pop("anyOf") if inner != {"type": "null"}]
        plain |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return plain
