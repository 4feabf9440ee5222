"""Read Word files (DOCX): headings, lists, tables and code by their styles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from warehouse.errors import first_line
from warehouse.inputs.documents.document import DocumentBuilder, FileText, UnreadableFile
from warehouse.inputs.documents.limits import open_package, read_part, refuse_entities, refuse_large
from warehouse.inputs.documents.markup import read_markup
from warehouse.inputs.documents.optional import import_optional, quiet

SUFFIXES = (".docx",)
_CODE_STYLES = ("Code", "Source Code", "HTML Preformatted", "Preformatted Text", "Macro Text")
_STYLE_MAP = "\n".join(
    [
        *(f"p[style-name='{style}'] => pre:separator('\\n')" for style in _CODE_STYLES),
        "p[style-name='Title'] => h1:fresh",
        "p[style-name='Subtitle'] => p:fresh",
    ]
)
_FURNITURE = {"header": "page headers", "footer": "page footers", "comments": "parts of comments"}
_TEXT = re.compile(rb"<w:t[ >][^<]*?[^<\s>]")


def read(path: Path, name: str) -> FileText:
    """The text of a file; its page headers and footers, comments and images are left out.

    Raises:
        UnreadableFile: it is too large, broken or protected.
        MissingExtraError: mammoth is not installed.
    """
    mammoth = import_optional("mammoth", name)
    refuse_large(path)
    found = FileText()
    images: list[Any] = []

    def leave_out(image: Any) -> list[Any]:
        images.append(image)
        return []

    with path.open("rb") as stream:
        package = open_package(stream)
        for part in package.namelist():
            if not part.startswith("word/") or not part.endswith(".xml"):
                continue
            raw = read_part(package, part)
            refuse_entities(raw)
            kind = re.fullmatch(r"word/(header|footer|comments)\d*\.xml", part)
            if kind and _TEXT.search(raw):
                found.dropped[_FURNITURE[kind[1]]] += 1
        stream.seek(0)
        try:
            with quiet("mammoth"):
                markup = mammoth.convert_to_html(
                    stream, style_map=_STYLE_MAP, convert_image=leave_out
                ).value
        except RecursionError:
            raise UnreadableFile("nests its elements too deeply") from None
        except (ExpatError, OSError, KeyError, ValueError, AttributeError, IndexError, TypeError) as error:  # fmt: skip
            raise UnreadableFile(f"is broken ({first_line(error)})") from None
    builder = DocumentBuilder()
    found.dropped += read_markup(markup, builder, name).dropped
    if images:
        found.dropped["images"] += len(images)
    found.documents.append(builder.build())
    return found
