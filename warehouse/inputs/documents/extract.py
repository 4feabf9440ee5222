"""Extract the text of one file by the reader of its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from warehouse.errors import first_line
from warehouse.inputs.documents import docx, epub, html, markdown, pdf, plain_text, row_fields
from warehouse.inputs.documents.document import FileText, UnreadableFile
from warehouse.inputs.files import kind_of

_READERS: dict[str, Callable[[Path, str], FileText]] = {
    suffix: reader.read
    for reader in (plain_text, markdown, html, pdf, docx, epub)
    for suffix in reader.SUFFIXES
}
BOOK_KINDS = (*html.SUFFIXES, *pdf.SUFFIXES, *docx.SUFFIXES, *epub.SUFFIXES)
"""Kinds whose text has to be extracted."""
KINDS = (*_READERS, *row_fields.SUFFIXES)
"""All kinds of documents; those of rows also with .gz after it."""
_RARE = (".json", ".tsv", ".xlsx")

READ_KINDS = (
    f"{', '.join(kind for kind in KINDS if kind not in _RARE)}; where the pattern names them also "
    f"{', '.join(_RARE)}"
)
"""What is read of folders and globs, for messages."""


def is_document(name: str, pattern: str) -> bool:
    """Whether a file of a folder or a glob is read.

    JSON, TSV and Excel files among documents are rarely documents: a pattern has to name them.
    """
    kind = document_kind(Path(name))
    return kind in KINDS and (kind not in _RARE or kind in pattern.lower())


def document_kind(path: Path) -> str:
    """The kind of a file by its name; .gz counts for rows only."""
    kind = kind_of(path)
    return kind if kind in row_fields.SUFFIXES else path.suffix.lower()


def extract(path: Path, name: str, column: str = "text") -> FileText:
    """The documents in a file.

    Args:
        path: The file.
        name: What it is called in messages.
        column: The field of rows that holds their text.

    Raises:
        UnreadableFile: it cannot be read; the message says why.
        MissingExtraError: the library for its format is not installed.
    """
    kind = document_kind(path)
    try:
        if kind in row_fields.SUFFIXES:
            return row_fields.read(path, name, column)
        if kind in _READERS:
            return _READERS[kind](path, name)
    except OSError as error:
        raise UnreadableFile(f"cannot be opened ({error.strerror or first_line(error)})") from None
    raise UnreadableFile(f"is of an unknown kind; allowed: {', '.join(KINDS)}")
