"""Make diverse prompts from topics, personas and attributes, and let the teacher answer them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from datagen.ask import Ask
from datagen.balanced_design import balanced_design
from datagen.phrases import find_phrase, phrases_in
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.worded_recipe import WordedRecipe
from warehouse.errors import DataError
from warehouse.inputs.files import KINDS, decode_text, kind_of, read_records
from warehouse.inputs.rows import find_file
from warehouse.records import make_id

Values = list[str] | dict[str, float] | str
"""Of a sampler: a list, a table of values and weights, or a file."""

TOPIC, PERSONA = "topic", "persona"


@dataclass(frozen=True)
class Persona(WordedRecipe):
    """Topic x persona x attributes -> a prompt in the persona's words -> the teacher's answer.

    Persona-driven generation (Ge et al. 2024, Scaling Synthetic Data Creation with 1,000,000,000
    Personas). Which values are combined is no matter of chance: the design is made before anything
    is asked, uses each value as evenly as its weight says, and combines them evenly too.
    """

    version: ClassVar[str] = "1"
    calls_per_seed: ClassVar[tuple[int, int]] = (1, 2)

    topics: Values | None = None
    """What prompts are about: a list, {value = weight}, or a file (a line or a row for each)."""
    personas: Values | None = None
    """Who writes them, such as "a nurse on night shift": as `topics`."""
    attributes: dict[str, Values] | None = None
    """Further properties of a prompt: {difficulty = ["easy", "hard"], length = {short = 2, long = 1}}."""
    number: int | None = None
    """Prompts to write; this, `target` or `max_calls` must be given."""

    def __post_init__(self) -> None:
        if self.number is None and self.target is None and self.max_calls is None:
            raise ValueError(
                "combinations have no end; give number (of prompts), target or max_calls"
            )
        if self.number is not None and self.number < 1:
            raise ValueError("number is 1 or more")
        samplers = self._samplers()
        if not samplers:
            raise ValueError("give topics, personas or attributes to combine")
        for reserved in {TOPIC, PERSONA} & (self.attributes or {}).keys():
            raise ValueError(f"attributes: '{reserved}' has an option of its own, {reserved}s")
        for name, values in samplers.items():
            if not values:
                raise ValueError(f"{name}: give one value or more")
            if isinstance(values, list):
                _check_values(name, dict.fromkeys(values, 1.0), len(values))
            elif isinstance(values, dict):
                _check_values(name, values, len(values))

    def _samplers(self) -> dict[str, Values]:
        """Factor -> what the plan gives for it, in the order of the design."""
        given = {TOPIC: self.topics, PERSONA: self.personas, **(self.attributes or {})}
        return {name: values for name, values in given.items() if values is not None}

    def input_files(self, folder: Path) -> list[Path]:
        """Files of values: their content decides what is combined."""
        files = [folder / values for values in self._samplers().values() if isinstance(values, str)]
        return [*super().input_files(folder), *files]

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """The combinations of the design; one that comes again has a number of its own.

        Raises:
            DataError: a file of values is missing or malformed.
        """
        factors = {name: _levels(name, values, folder) for name, values in self._samplers().items()}
        seen: Counter[str] = Counter()
        numbers = count() if self.number is None else range(self.number)
        for order, combination in zip(numbers, balanced_design(factors), strict=False):
            attributes = {k: v for k, v in combination.items() if k not in (TOPIC, PERSONA)}
            value = {
                TOPIC: combination.get(TOPIC, ""),
                PERSONA: combination.get(PERSONA, ""),
                "attributes": attributes,
            }
            key = make_id(value)
            yield Seed({**value, "repetition": seen[key]}, order=order)
            seen[key] += 1

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """One example: the prompt that the persona wrote, and the teacher's answer to it."""
        wording = self.wording(ask.folder)
        facts = dict(seed.value)
        repetition = facts.pop("repetition")
        written = await ask(wording.messages("ask", **facts), draw=repetition)
        prompt = written.text.strip()
        shown = [{"role": "user", "content": prompt}]
        status, reason = status_of(written)
        if status == "ok" and (phrase := find_phrase(prompt, phrases_in(wording, "leaks"))):
            status, reason = "invalid", f"it repeats words of the request ('{phrase}')"
        if status != "ok":
            why = f"the prompt: {reason}"
            yield Example(shown, "", status=status, reason=why, facts=facts)
            return
        reply = await ask(shown)
        status, reason = status_of(reply)
        yield Example(shown, reply.text.strip(), status=status, reason=reason, facts=facts)


def _check_values(name: str, values: Mapping[str, float], number: int) -> None:
    if not all(value.strip() for value in values):
        raise ValueError(f"{name}: no value is blank")
    if len({value.strip() for value in values}) < number:
        raise ValueError(f"{name}: each value comes once; give weights as {{value = 2.0}}")
    if not all(0 < weight < float("inf") for weight in values.values()):
        raise ValueError(f"{name}: a weight is a number above 0")


def _levels(name: str, values: Values, folder: Path) -> dict[str, float]:
    """Value -> weight."""
    if isinstance(values, list):
        return dict.fromkeys((value.strip() for value in values), 1.0)
    if isinstance(values, dict):
        return {value.strip(): float(weight) for value, weight in values.items()}
    path = find_file(values, folder)
    levels: dict[str, float] = {}
    for where, value, weight in _values_of_file(path, name):
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise DataError(f"{where}: 'weight' is a number above 0")
        levels[value] = levels.get(value, 0.0) + float(weight)
    if not levels:
        raise DataError(f"{name}: {path.name} has no value; write one on each line")
    return levels


def _values_of_file(path: Path, name: str) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, value, weight): a line each, or rows with `value` or the factor's name."""
    if kind_of(path) not in KINDS:
        for number, line in enumerate(decode_text(path.read_bytes(), path.name, None).splitlines()):
            if line.strip():
                yield f"{path.name} line {number + 1}", line.strip(), 1.0
        return
    for where, record in read_records(path, None):
        row = record if isinstance(record, dict) else {"value": record}
        value = row.get("value", row.get(name))
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where} needs a text 'value' or '{name}', and may have a 'weight'")
        weight = row.get("weight")
        if isinstance(weight, str) and weight.strip():
            try:
                weight = float(weight)
            except ValueError:
                raise DataError(f"{where}: 'weight' is a number above 0") from None
        yield where, value.strip(), 1.0 if weight in (None, "") else weight
