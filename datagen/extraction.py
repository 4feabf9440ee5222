"""Extract facts from a passage and locate values in it: shorter context for other recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from datagen.ask import Ask, Unparsed
from warehouse.records import Message
from warehouse.text.words import locate, spans

MOST_FACTS = 20
PIECE_WORDS = 300
"""Words of a piece of a long document, from which facts are extracted at once."""


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
    pieces_left_out: int = 0
    """Pieces of a document without a usable fact."""


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


async def extract_from_document(
    ask: Ask, request: Callable[[str], Sequence[Message]], document: str
) -> Extraction:
    """The same for a document of any length, piece by piece.

    Args:
        ask: The seed's way to the teacher.
        request: Makes the request for the facts of one piece.
        document: Is cut into pieces of `PIECE_WORDS` words.

    Raises:
        Unparsed: no piece gave a usable fact.
        Unanswered: a piece has no reply.
    """
    texts, left_out, pieces_left_out = [], 0, 0
    last: Unparsed | None = None
    for piece in cut_into_pieces(document):
        try:
            found = await extract_facts(ask, request(piece), piece)
        except Unparsed as fault:
            last = fault
            pieces_left_out += 1
        else:
            texts.append(found.text)
            left_out += found.left_out
    if not texts:
        raise last or Unparsed("the document is empty", "")
    return Extraction("\n".join(texts), left_out, pieces_left_out)


def cut_into_pieces(document: str) -> Iterator[str]:
    """Stretches of at most `PIECE_WORDS` words, in order; nothing is left out."""
    places = spans(document)
    for first in range(0, len(places), PIECE_WORDS):
        last = places[min(first + PIECE_WORDS, len(places)) - 1]
        yield document[places[first][0] : last[1]]


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
