"""Read the text in one field of each row of a JSON, CSV, Parquet or Excel file."""

from __future__ import annotations

import zlib
from pathlib import Path

from warehouse.errors import DataError, first_line
from warehouse.inputs.documents.document import Document, FileText, UnreadableFile
from warehouse.inputs.documents.limits import MEBIBYTE, refuse_large, refuse_large_unpacked
from warehouse.inputs.documents.plain_text import paragraphs
from warehouse.inputs.files import KINDS, read_records

SUFFIXES = KINDS
_MAX_BYTES = 2048 * MEBIBYTE


def read(path: Path, name: str, column: str) -> FileText:
    """A document for each row that has a text in the column; the others are counted.

    Raises:
        UnreadableFile: it is too large or malformed, or no row has such a column.
    """
    refuse_large(path, _MAX_BYTES)
    try:
        refuse_large_unpacked(path, _MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"cannot be read: {first_line(error)}") from None
    found = FileText()
    columns: dict[str, None] = {}
    try:
        for where, row in read_records(path, found.notes, name):
            columns |= dict.fromkeys(row if isinstance(row, dict) else ())
            text = row.get(column) if isinstance(row, dict) else None
            if isinstance(text, str) and text.strip():
                text = text.replace("\r\n", "\n")
                place = where.removeprefix(name).strip()
                found.documents.append(Document(text, paragraphs(text), row=place))
            else:
                found.dropped[f"rows without a text '{column}'"] += 1
    except DataError as error:
        raise UnreadableFile(str(error).removeprefix(name).strip()) from None
    if column in columns and not found.documents:
        raise UnreadableFile(f"has no text in its field '{column}': no value is a text with words")
    if found.dropped and not found.documents:
        has = f" (it has: {', '.join(map(str, columns))})" if columns else ""
        raise UnreadableFile(f"has no text in a field '{column}'{has}")
    return found
