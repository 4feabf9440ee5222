"""Read HTML files: the main text, without menus and page furniture."""

from __future__ import annotations

import re
from pathlib import Path

from warehouse.inputs.documents.document import DocumentBuilder, FileText, UnreadableFile
from warehouse.inputs.documents.limits import MAX_MARKUP_BYTES, refuse_large
from warehouse.inputs.documents.main_text import has_prose, with_headings
from warehouse.inputs.documents.markup import read_markup
from warehouse.inputs.documents.optional import import_optional, quiet
from warehouse.inputs.documents.plain_text import decode
from warehouse.text.words import count_words

SUFFIXES = (".html", ".htm", ".xhtml")
_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)  # fmt: skip
_HEAD = 4096
_MAX_SEARCHED = 20_000
"""Elements of a page in which a main text is searched: the time grows with their square."""


def read(path: Path, name: str) -> FileText:
    """The main text of a page, found by trafilatura; the whole page where it finds none.

    On pages without an <article> trafilatura loses headings, and at times everything but the
    words. There the page's own blocks are taken that have the words of the main text.

    Raises:
        UnreadableFile: it is too large, nested too deeply, no text, or a menu.
        MissingExtraError: trafilatura is not installed.
    """
    trafilatura = import_optional("trafilatura", name)
    refuse_large(path, MAX_MARKUP_BYTES)
    found = FileText()
    markup = _decode(path.read_bytes(), name, found.notes)
    whole = DocumentBuilder()
    seen = read_markup(markup, whole, name)  # refuses deep nesting before a tree is built
    document = whole.build()
    words = count_words(document.text)
    if words and not has_prose(document, seen.origins):
        raise UnreadableFile("holds menus and links alone, no text")
    main = None
    if seen.elements <= _MAX_SEARCHED:
        with quiet("trafilatura", "htmldate", "courlan"):
            try:
                main = trafilatura.extract(
                    markup, output_format="html", include_comments=False, favor_recall=True
                )
            except RecursionError:
                raise UnreadableFile("nests its elements too deeply") from None
    if main:
        builder = DocumentBuilder()
        read_markup(main, builder, name)
        document, lost = with_headings(document, seen.origins, builder.build())
        if lost:
            found.dropped["headings whose place in the main text is not known"] += lost
    elif words:
        found.notes.append(f"{name}: no main text was found in it, so the whole page was taken")
    found.documents.append(document)
    found.dropped += seen.dropped
    left_out = words - count_words(document.text)
    if left_out > 0:
        found.dropped["words outside the main text"] += left_out
    return found


def _decode(raw: bytes, name: str, notes: list[str]) -> str:
    """The page by what it says its encoding is, else by its bytes."""
    declared = _CHARSET.search(raw[:_HEAD])
    if declared and not raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        encoding = declared[1].decode("ascii", "replace")
        try:
            return raw.decode(encoding)
        except (LookupError, UnicodeError):
            notes.append(f"{name} says it is {encoding} and is not; its bytes were gone by")
    return decode(raw, name, notes)
