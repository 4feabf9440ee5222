"""Read the JSON schemas by which passages are extracted: their paths, fixed texts and faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from datagen.json_replies import strict_schema

_DEPTH = 8


def path_name(path: Sequence[str]) -> str:
    """A path without numbers of lists, as `listed` has it."""
    return ".".join(step for step in path if not step.isdecimal())


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a pydantic model."""
    schema: dict[str, Any] = strict_schema(model)["json_schema"]["schema"]
    return schema


def schema_fault(schema: Any) -> str | None:
    """Why something is no schema to extract by; None where it is one."""
    from jsonschema import Draft202012Validator, SchemaError

    if not isinstance(schema, dict) or schema.get("type") != "object":
        return 'it describes an object; give type = "object" and properties'
    if any(not str(target).startswith("#") for target in _values_of(schema, "$ref")):
        return "a $ref points into the schema itself, such as #/$defs/Item"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        return f"{place or 'schema'}: {error.message}"
    if not set(schema_paths(schema, schema)):
        return "it has no properties, so nothing would be extracted"
    return None


def _values_of(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, inner in node.items():
            if name == key and not isinstance(inner, dict):
                yield inner
            yield from _values_of(inner, key)
    elif isinstance(node, list):
        for inner in node:
            yield from _values_of(inner, key)


def fixed_texts(schema: dict[str, Any]) -> Iterator[str]:
    """Texts that the schema itself lists, as values of an enum: they need no place in a passage."""
    for values in _values_of(schema, "enum"):
        yield from (value for value in values if isinstance(value, str))
    yield from (value for value in _values_of(schema, "const") if isinstance(value, str))


def schema_paths(
    schema: Any, root: dict[str, Any], path: str = "", depth: int = 0
) -> Iterator[str]:
    """The paths of a schema's properties, without numbers of lists; a $ref is followed."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    if isinstance(target := schema.get("$ref"), str):
        node: Any = root
        for step in target.removeprefix("#").strip("/").split("/"):
            node = node.get(step, {}) if isinstance(node, dict) and step else node
        yield from schema_paths(node, root, path, depth + 1)
    properties = schema.get("properties")
    for name, inner in (properties if isinstance(properties, dict) else {}).items():
        place = f"{path}.{name}" if path else name
        yield place
        yield from schema_paths(inner, root, place, depth + 1)
    for key in ("items", "additionalProperties"):
        yield from schema_paths(schema.get(key), root, path, depth + 1)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key) or ():
            yield from schema_paths(inner, root, path, depth + 1)
