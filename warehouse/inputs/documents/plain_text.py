"""Read text files: paragraphs stand between blank lines."""

from __future__ import annotations

import re
from pathlib import Path

from warehouse.errors import DataError
from warehouse.inputs.documents.document import Block, Document, FileText, UnreadableFile
from warehouse.inputs.documents.limits import refuse_large
from warehouse.inputs.files import decode_text

SUFFIXES = (".txt", ".text")
_PARAGRAPH = re.compile(r"\S.*(?:\n(?![^\S\n]*(?:\n|\Z)).*)*")


def read(path: Path, name: str) -> FileText:
    """The text of a file as it is, in UTF-8, UTF-16 or Windows-1252.

    Raises:
        UnreadableFile: it is too large, or no text.
    """
    found = FileText()
    text = read_text(path, name, found.notes)
    found.documents.append(Document(text, paragraphs(text)))
    return found


def read_text(path: Path, name: str, notes: list[str]) -> str:
    """The decoded file; what was guessed of its encoding is appended to `notes`.

    Raises:
        UnreadableFile: it is too large, or no text.
    """
    refuse_large(path)
    return decode(path.read_bytes(), name, notes)


def decode(raw: bytes, name: str, notes: list[str]) -> str:
    """The decoded bytes, with `\\n` at the end of each line.

    Raises:
        UnreadableFile: they are no text.
    """
    try:
        text = decode_text(raw, name, notes)
    except DataError as error:
        raise UnreadableFile(str(error).removeprefix(name).strip()) from None
    if "\x00" in text:
        raise UnreadableFile("is not a text: it has zero bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def paragraphs(text: str) -> list[Block]:
    """The stretches between blank lines."""
    return [
        Block("text", match.start(), match.start() + len(match[0].rstrip()))
        for match in _PARAGRAPH.finditer(text)
    ]
