"""Extract facts from a passage and locate values in it: shorter context for other recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from datagen.ask import Ask, Unparsed
from warehouse.records import Message
from warehouse.text.words import locate

MOST_FACTS = 20


class Fact(BaseModel):
    """An attribute of something, or how it relates to something else."""

    subject: str
    relation: str
    object: str


class Facts(BaseModel):
    """What the teacher finds in one passage."""

    facts: list[Fact] = Field(max_length=MOST_FACTS)


@dataclass(frozen=True)
class Extraction:
    """The facts of a passage whose subject and object stand in it."""

    text: str
    """One fact a line: subject | relation | object."""
    left_out: int
    """Facts that named something which is not in the passage."""


async def extract_facts(ask: Ask, messages: Sequence[Message], passage: str) -> Extraction:
    """Let the teacher extract the facts of a passage, to be shown in its place.

    Entity and relation extraction as lossy compression of a context (Fei et al., 2022).

    Args:
        ask: The seed's way to the teacher.
        messages: The request for the facts; it holds the passage.
        passage: In which the facts have to stand.

    Raises:
        Unparsed: there is no usable fact.
        Unanswered: there is no reply.
    """
    found = await ask.into(Facts, messages)
    sound = [
        fact
        for fact in found.facts
        if locate(passage, fact.subject) and locate(passage, fact.object)
    ]
    if not sound:
        raise Unparsed(
            f"none of the {len(found.facts)} extracted facts stands in the passage",
            found.model_dump_json(),
        )
    lines = dict.fromkeys(
        " | ".join(" ".join(part.split()) for part in (fact.subject, fact.relation, fact.object))
        for fact in sound
    )
    return Extraction("\n".join(lines), len(found.facts) - len(sound))


def texts_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, text) of each text with something in it, in a JSON value."""
    if isinstance(value, str):
        if value.strip():
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_in(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts_in(inner, (*path, str(number)))
