"""Define an extracted document: its text, the blocks in it, and what was left out of it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["heading", "text", "table", "code"]
_JOINT = "\n\n"


@dataclass(frozen=True)
class Block:
    """A stretch of a document's text that is cut by the rules of its kind."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    """Of a heading: 1 is the outermost."""
    title: str = ""
    """Of a heading: its words, where its text has the signs of a format."""


@dataclass(frozen=True)
class Document:
    """The text of a file, or of one row of a file, and the blocks in it, in order."""

    text: str
    blocks: Sequence[Block]
    page_starts: Sequence[int] = ()
    """Offset at which each page begins; none where the format has no pages."""
    row: str = ""
    """Of a row: where it stands in its file, such as `line 3`."""

    def page_at(self, offset: int) -> int | None:
        """The page of a character, from 1."""
        return bisect_right(self.page_starts, offset) or None


@dataclass
class FileText:
    """The documents of one file, and what its reader left out or wants to be known."""

    documents: list[Document] = field(default_factory=list)
    pages: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """What was left out, in the plural -> how often."""
    notes: list[str] = field(default_factory=list)


class UnreadableFile(Exception):
    """A file cannot be read. The message is the reason, in one line; the other files go on."""


class DocumentBuilder:
    """Puts a document together from the texts of its blocks, one blank line between two."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._page_starts: list[int] = []
        self._size = 0

    def add(self, kind: Kind, text: str, level: int = 0, pages: Sequence[int] = ()) -> bool:
        """Append a block; a blank one is left out. Returns whether it was appended.

        Args:
            kind: What it is.
            text: Its text.
            level: Of a heading.
            pages: Offsets in `text` at which pages begin.
        """
        kept = text.rstrip() if kind in ("table", "code") else text.strip()
        kept = kept.lstrip("\n")
        start = self._size + (len(_JOINT) if self._parts and kept else 0)
        lead = text.find(kept)
        self._page_starts += [start + min(max(offset - lead, 0), len(kept)) for offset in pages]
        if kept:
            self._blocks.append(Block(kind, start, start + len(kept), level))
            self._parts.append(kept)
            self._size = start + len(kept)
        return bool(kept)

    def build(self) -> Document:
        """The document."""
        return Document(_JOINT.join(self._parts), self._blocks, self._page_starts)
