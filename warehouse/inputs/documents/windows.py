"""Split documents into windows of words that overlap, in which answers are searched."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from warehouse.errors import DataError
from warehouse.inputs.documents.document import UnreadableFile
from warehouse.inputs.documents.extract import BOOK_KINDS, extract
from warehouse.inputs.documents.find_files import shown
from warehouse.inputs.documents.passage import Passage
from warehouse.inputs.files import KINDS as ROW_KINDS
from warehouse.inputs.files import TEXT_CELLS, decode_text, kind_of, read_records
from warehouse.records import make_id
from warehouse.text.words import count_unspaced, spans
from warehouse.wording import format_count

log = logging.getLogger(__name__)

NAMED = 5
"""Skipped files that a message names; more are counted."""
TEXT_KINDS = (".txt", ".md")
FOUND_KINDS = (*TEXT_KINDS, ".jsonl", ".csv", ".parquet")
"""What is read of a folder or of a glob that names no kind. Others have to be named, so that scores
and answers stay those of the same passages; and a .json is rarely a document."""
KINDS = (*TEXT_KINDS, *ROW_KINDS, *BOOK_KINDS)


def read_passages(
    patterns: Sequence[str] | str, folder: Path, words: int = 120, overlap: int = 30
) -> list[Passage]:
    """Passages of at most `words` words, `overlap` of them also in the next one, in fixed order.

    A pattern is a file, a folder (all files of a known kind under it) or a glob (`docs/**/*.md`),
    relative to `folder`. A file of text is one document, and so is each row of a file of rows, in
    its `text`. HTML, PDF, DOCX and EPUB files are read where a pattern names their kind
    (`docs/**/*.pdf`). The last passage of a document is as long as the others where the
    document is, so that none is a scrap. Files of a folder or a glob that are of another kind or
    cannot be read, and documents without words, are skipped; a warning names and counts them.

    The passages and their ids never change, since stored scores and answers depend on them;
    recipes start from those of `read_documents`.

    Raises:
        DataError: a pattern finds no file, or a file is malformed; the line is named.
        MissingExtraError: the library for a kind is not installed.
        ValueError: not 0 <= overlap < words.
    """
    check_window(words, overlap)
    passages: list[Passage] = []
    empty: list[str] = []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    by_name = {folder / os.path.expanduser(pattern) for pattern in patterns}
    paths, unknown = _files(patterns, folder)
    for path in paths:
        try:
            documents = list(_documents(path, shown(path, folder)))
        except UnreadableFile as error:
            if path in by_name:
                raise DataError(f"{shown(path, folder)} {error}") from None
            _warn_once(f"{shown(path, folder)} skipped: it {error}")
            continue
        for where, text in documents:
            found = list(_passages(text, where, words, overlap))
            passages += found
            if not found:
                empty.append(where)
    books = {path.suffix.lower() for path in unknown} & set(BOOK_KINDS)
    named = f"; name others, such as 'docs/**/*{min(books)}'" if books else ""
    _tell_skipped(
        [shown(path, folder) for path in unknown], f"only {', '.join(FOUND_KINDS)} are read{named}"
    )
    _tell_skipped(empty, "there are no words in them")
    if not passages:
        raise DataError("the documents hold no words; give at least one with text in it")
    return passages


def check_window(words: int, overlap: int) -> None:
    """Raises ValueError unless 0 <= overlap < words."""
    if not 0 <= overlap < words:
        raise ValueError("overlap is at least 0 and below words")


def _files(patterns: Sequence[str], folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of the patterns, and those in their folders that are of no known kind."""
    paths: dict[Path, None] = {}
    unknown: dict[Path, None] = {}
    for pattern in (os.path.expanduser(pattern) for pattern in patterns):
        path = folder / pattern
        if path.is_file():
            found = [path]
        elif path.is_dir():
            found = [file for file in path.rglob("*") if file.is_file()]
        else:
            hits = (folder / hit for hit in glob.glob(pattern, root_dir=folder, recursive=True))
            found = [file for file in hits if file.is_file()]
        known = {file for file in found if _is_known(file, pattern) or file == path}
        if not known:
            raise DataError(
                f"no document '{pattern}' in {folder}; give a file, or a folder or a glob of "
                f"{', '.join(FOUND_KINDS)}"
            )
        paths.update(dict.fromkeys(sorted(known)))
        others = (file for file in found if file not in known and not file.name.startswith("."))
        unknown.update(dict.fromkeys(sorted(others)))
    return list(paths), list(unknown)


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _tell_skipped(names: Sequence[str], why: str) -> None:
    if not names:
        return
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    shown = ", ".join(names[:NAMED])
    _warn_once(f"{format_count(len(names), 'document')} skipped ({why}): {shown}{more}")


def _is_known(file: Path, pattern: str) -> bool:
    kind = file.suffix.lower()
    is_named = kind in BOOK_KINDS and pattern.lower().endswith(kind)
    return file.is_file() and (kind in FOUND_KINDS or is_named)


def _documents(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """(where it stands, text) of each document in a file."""
    if path.suffix.lower() in TEXT_KINDS:
        yield name, decode_text(path.read_bytes(), name, None)
    elif kind_of(path) in ROW_KINDS:
        is_table = kind_of(path) in (*TEXT_CELLS, ".parquet")
        for where, row in read_records(path, None, name, header=0):
            if is_table and "text" not in row:
                raise DataError(f"{name} has no column 'text' (it has: {', '.join(row)})")
            text = row.get("text") if isinstance(row, dict) else None
            if not isinstance(text, str) and not (is_table and text is None):
                raise DataError(f"{where} is not an object with a text 'text'")
            yield where, text or ""
    elif path.suffix.lower() in BOOK_KINDS:
        for document in extract(path, name).documents:
            yield name, document.text
    else:
        raise DataError(f"{name}: unknown kind of document; allowed: {', '.join(KINDS)}")


def _passages(text: str, where: str, words: int, overlap: int) -> Iterator[Passage]:
    unspaced = 2 * count_unspaced(text) > len("".join(text.split()))  # a name in it changes nothing
    places = spans(text) if unspaced else [match.span() for match in re.finditer(r"\S+", text)]
    if not places:
        return
    last = max(len(places) - words, 0)
    for first in [*range(0, last, words - overlap), last]:
        end = min(first + words, len(places))
        part = text[places[first][0] : places[end - 1][1]]
        source = f"{where}, words {first + 1}-{end}"
        yield Passage(make_id("passage", part, source), part, source)
