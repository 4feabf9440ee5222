"""Extract what a schema asks for from passages; each value is located in its passage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from datagen.ask import MOST_FAULTS, Ask, Unparsed
from datagen.copies import is_copy
from datagen.extraction import texts_in
from datagen.json_replies import strict_schema
from datagen.passage_recipe import PassageRecipe
from datagen.recipe import Example, Seed
from warehouse.errors import DataError
from warehouse.part_sources import helper_class, is_file, path_in
from warehouse.text.words import locate
from warehouse.wording import did_you_mean

_DEPTH = 8
_LOST = "does not stand in the passage"


@dataclass(frozen=True, kw_only=True)
class Extract(PassageRecipe):
    """Entities, attributes and relations of a passage as JSON, in the form that your schema gives.

    The student learns passage -> JSON. Every text in the JSON is located in the passage, so a value
    that the teacher made up is found. Entity and relation extraction also as a shorter form of a long
    context (Fei et al., 2022): `context = "extract"` of other recipes.
    """

    version: ClassVar[str] = "1"
    calls_per_seed: ClassVar[tuple[int, int]] = (1, 3)

    schema: dict[str, Any] | str
    """A JSON schema as a table, a JSON file with one, or a pydantic model, "./models.py:Invoice".
    The plan runs the code of a file that it names so."""
    verify: Literal["all", "listed", "none"] = "all"
    """Which texts have to stand in the passage: "all" but those that the schema lists (enum), those
    under the paths in `listed`, or "none"."""
    listed: list[str] | None = None
    """Paths of the schema, without numbers of lists, such as ["buyer.name", "items.name"]."""
    show_schema: bool = False
    """Whether the student's question holds the schema too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.schema, dict):
            if (fault := _schema_fault(self.schema)) is not None:
                raise ValueError(f"schema: {fault}")
        elif not is_file(self.schema) and not self.schema.endswith(".json"):
            raise ValueError(
                'schema is a table, a file "schema.json", or a pydantic model "./models.py:Class"'
            )
        if (self.verify == "listed") != bool(self.listed):
            raise ValueError('verify = "listed" and the paths in listed go together')

    def input_files(self, folder: Path) -> list[Path]:
        """The template, and the file of the schema."""
        files = super().input_files(folder)
        if isinstance(self.schema, str):
            is_code = is_file(self.schema)
            files.append(path_in(self.schema, folder) if is_code else folder / self.schema)
        return files

    async def prepare(self, folder: Path, ask: Ask) -> dict[str, Any]:
        """Read the schema.

        Raises:
            DataError, PlanError: the file is missing or malformed, or `listed` has a path that the
                schema does not have.
        """
        model = self._model(folder)
        schema = self._schema(folder) if model is None else _schema_of(model)
        paths = sorted(set(_paths(schema, schema)))
        for path in self.listed or ():
            if path not in paths:
                raise DataError(
                    f"listed: the schema has no path '{path}' ({did_you_mean(path, paths)})"
                )
        return {"schema": schema}

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """A seed for each passage."""
        for order, (text, source, _) in enumerate(self.read_passages(folder)):
            yield Seed(text, source, order)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Ask for the JSON; a reply with a value that is not in the passage is answered with it."""
        wording = self.wording(ask.folder)
        passage, schema = seed.value, ask.prepared["schema"]
        schema_text = json.dumps(schema, ensure_ascii=False)
        fixed = set(_fixed_texts(schema))

        lost: dict[str, str] = {}
        """Path -> value that has to stand in the passage and does not, of the reply before."""

        def fault_in(value: Any) -> str | None:
            lost.clear()
            for path, text in texts_in(value):
                if self._must_stand(path, text, fixed) and locate(passage, text) is None:
                    lost[".".join(path)] = text
            faults = [
                f"{path}: {json.dumps(text, ensure_ascii=False)} {_LOST}"
                for path, text in islice(lost.items(), MOST_FAULTS)
            ]
            return "; ".join(faults) or None

        request = wording.messages("ask", passage=passage, schema=schema_text)
        model = self._model(ask.folder)
        try:
            if model is None:
                plain = value = await ask.into_json(
                    schema, request, name="extraction", check=fault_in
                )
            else:  # dates, enums and the like are no texts of the passage
                read = await ask.into(
                    model, request, check=lambda found: fault_in(found.model_dump())
                )
                value, plain = read.model_dump(), read.model_dump(mode="json")
        except Unparsed as fault:
            reason = str(fault)
            is_lost = reason.endswith(_LOST)  # and not the fault of a later reply
            if is_lost:  # without numbers and values, so that the reasons of a run can be counted
                names = dict.fromkeys(_name_of(path.split(".")) for path in lost)
                reason = f"not in the passage: {', '.join(names)}"
            facts = {"not_in_passage": lost} if is_lost else {}
            yield Example(
                [], fault.raw, status=fault.status, reason=reason, passage=passage, facts=facts
            )
            return
        copied = [
            _name_of(path)
            for path, text in texts_in(value)
            if self._must_stand(path, text, fixed) and is_copy(text, passage)
        ]
        if copied:  # it stands in the passage, and extracts nothing
            raw = json.dumps(plain, ensure_ascii=False)
            reason = f"the whole passage again: {', '.join(dict.fromkeys(copied))}"
            yield Example([], raw, status="invalid", reason=reason, passage=passage)
            return
        texts = {".".join(path): text for path, text in texts_in(value) if text not in fixed}
        places = {path: locate(passage, text) for path, text in texts.items()}
        shown = wording.messages(
            "student", passage=passage, schema=schema_text if self.show_schema else ""
        )
        yield Example(
            shown,
            json.dumps(plain, ensure_ascii=False),
            passage=passage,
            facts={
                "spans": {path: list(place) for path, place in places.items() if place},
                "not_in_passage": {path: text for path, text in texts.items() if not places[path]},
            },
        )

    def _must_stand(self, path: tuple[str, ...], text: str, fixed: set[str]) -> bool:
        if self.verify == "all":
            return text not in fixed
        name = _name_of(path)
        return any(f"{name}.".startswith(f"{wanted}.") for wanted in self.listed or ())

    def _model(self, folder: Path) -> type[BaseModel] | None:
        if isinstance(self.schema, str) and is_file(self.schema):
            return helper_class("pydantic model", self.schema, folder, BaseModel)
        return None

    def _schema(self, folder: Path) -> dict[str, Any]:
        if isinstance(self.schema, dict):
            return self.schema
        try:
            schema = json.loads((folder / self.schema).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"schema {self.schema} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"schema {self.schema} is not JSON ({error})") from None
        if (fault := _schema_fault(schema)) is not None:
            raise DataError(f"schema {self.schema}: {fault}")
        found: dict[str, Any] = schema
        return found


def _name_of(path: Sequence[str]) -> str:
    """A path without numbers of lists, as `listed` has it."""
    return ".".join(step for step in path if not step.isdecimal())


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema: dict[str, Any] = strict_schema(model)["json_schema"]["schema"]
    return schema


def _schema_fault(schema: Any) -> str | None:
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
    if not set(_paths(schema, schema)):
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


def _fixed_texts(schema: dict[str, Any]) -> Iterator[str]:
    """Texts that the schema itself lists, as values of an enum: they need no place in a passage."""
    for values in _values_of(schema, "enum"):
        yield from (value for value in values if isinstance(value, str))
    yield from (value for value in _values_of(schema, "const") if isinstance(value, str))


def _paths(schema: Any, root: dict[str, Any], path: str = "", depth: int = 0) -> Iterator[str]:
    """The paths of a schema's properties, without numbers of lists; a $ref is followed."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    if isinstance(target := schema.get("$ref"), str):
        node: Any = root
        for step in target.removeprefix("#").strip("/").split("/"):
            node = node.get(step, {}) if isinstance(node, dict) and step else node
        yield from _paths(node, root, path, depth + 1)
    properties = schema.get("properties")
    for name, inner in (properties if isinstance(properties, dict) else {}).items():
        place = f"{path}.{name}" if path else name
        yield place
        yield from _paths(inner, root, place, depth + 1)
    for key in ("items", "additionalProperties"):
        yield from _paths(schema.get(key), root, path, depth + 1)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key) or ():
            yield from _paths(inner, root, path, depth + 1)
