"""Extract what a schema asks for from passages; each value is located in its passage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from datagen.ask import MOST_FAULTS, Ask, Unparsed
from datagen.copies import is_copy
from datagen.extraction import texts_in
from datagen.extraction_schemas import (
    fixed_texts,
    path_name,
    schema_fault,
    schema_of,
    schema_paths,
)
from datagen.passage_recipe import PassageRecipe
from datagen.recipe import Example, Seed
from warehouse.errors import DataError
from warehouse.part_sources import helper_class, is_file, path_in
from warehouse.records import Message
from warehouse.text.words import locate
from warehouse.wording import did_you_mean

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
            if (fault := schema_fault(self.schema)) is not None:
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
        schema = self._schema(folder) if model is None else schema_of(model)
        paths = sorted(set(schema_paths(schema, schema)))
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
        fixed = set(fixed_texts(schema))

        lost: dict[str, str] = {}
        """Path -> value that has to stand in the passage and does not, of the reply before."""

        def fault_in(value: Any) -> str | None:
            lost.clear()
            for path, text in self._to_verify(value, fixed):
                if locate(passage, text) is None:
                    lost[".".join(path)] = text
            faults = [
                f"{path}: {json.dumps(text, ensure_ascii=False)} {_LOST}"
                for path, text in islice(lost.items(), MOST_FAULTS)
            ]
            return "; ".join(faults) or None

        def invalid(raw: str, status: str, reason: str, **facts: Any) -> Example:
            return Example([], raw, status=status, reason=reason, passage=passage, facts=facts)

        request = wording.messages("ask", passage=passage, schema=schema_text)
        try:
            value, plain = await self._ask(ask, schema, request, fault_in)
        except Unparsed as fault:
            if not str(fault).endswith(_LOST):  # or is it the fault of a later reply
                yield invalid(fault.raw, fault.status, str(fault))
                return
            reason = f"not in the passage: {_names_of(path.split('.') for path in lost)}"
            yield invalid(fault.raw, fault.status, reason, not_in_passage=lost)
            return
        completion = json.dumps(plain, ensure_ascii=False)
        verified = self._to_verify(value, fixed)
        copied = [path for path, text in verified if is_copy(text, passage)]
        if copied:  # it stands in the passage, and extracts nothing
            yield invalid(completion, "invalid", f"the whole passage again: {_names_of(copied)}")
            return
        texts = {".".join(path): text for path, text in texts_in(value) if text not in fixed}
        places = {path: locate(passage, text) for path, text in texts.items()}
        shown = wording.messages(
            "student", passage=passage, schema=schema_text if self.show_schema else ""
        )
        yield Example(
            shown,
            completion,
            passage=passage,
            facts={
                "spans": {path: list(place) for path, place in places.items() if place},
                "not_in_passage": {path: text for path, text in texts.items() if not places[path]},
            },
        )

    async def _ask(
        self,
        ask: Ask,
        schema: dict[str, Any],
        request: Sequence[Message],
        fault_in: Callable[[Any], str | None],
    ) -> tuple[Any, Any]:
        """What the teacher extracted, and the same as JSON-able values.

        Raises:
            Unparsed: no reply fits the schema, or all have a fault.
        """
        model = self._model(ask.folder)
        if model is None:
            value = await ask.into_json(schema, request, name="extraction", check=fault_in)
            return value, value
        # dates, enums and the like are no texts of the passage
        read = await ask.into(model, request, check=lambda found: fault_in(found.model_dump()))
        return read.model_dump(), read.model_dump(mode="json")

    def _to_verify(self, value: Any, fixed: set[str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """(path, text) of each text that has to stand in the passage."""
        for path, text in texts_in(value):
            name = path_name(path)
            is_listed = any(f"{name}.".startswith(f"{wanted}.") for wanted in self.listed or ())
            if (text not in fixed) if self.verify == "all" else is_listed:
                yield path, text

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
        if (fault := schema_fault(schema)) is not None:
            raise DataError(f"schema {self.schema}: {fault}")
        found: dict[str, Any] = schema
        return found


def _names_of(paths: Iterable[Sequence[str]]) -> str:
    """Paths without numbers and values, each once, so that the reasons of a run can be counted."""
    return ", ".join(dict.fromkeys(map(path_name, paths)))
