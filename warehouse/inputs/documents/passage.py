"""Define a passage: a stretch of a document, with its place in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A stretch of a document. `source` says where it stands, for people."""

    passage_id: str
    text: str
    source: str
    file: str = ""
    """Path of the file, from the plan's folder."""
    page: int | None = None
    """The page on which it begins, from 1, where the format has pages."""
    last_page: int | None = None
    heading: str = ""
    """The headings over its beginning, outermost first: `Install > Linux`."""
    start: int = 0
    """Offset of its first character in the document's extracted text."""
    end: int = 0
    """Offset after its last one: its text is `document.text[start:end]`."""
