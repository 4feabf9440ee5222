"""Read e-books (EPUB): their parts in reading order."""

from __future__ import annotations

import posixpath
import zipfile
from collections import Counter
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from warehouse.inputs.documents.document import DocumentBuilder, FileText, UnreadableFile
from warehouse.inputs.documents.limits import open_package, read_part, refuse_entities, refuse_large
from warehouse.inputs.documents.markup import read_markup
from warehouse.inputs.documents.plain_text import decode

SUFFIXES = (".epub",)
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def read(path: Path, name: str) -> FileText:
    """The text of a book; its table of contents and images are left out.

    An e-book has no menus, so that its parts are read whole and not searched for a main text.

    Raises:
        UnreadableFile: it is too large, broken or protected.
        MissingExtraError: lxml is not installed.
    """
    refuse_large(path)
    found = FileText()
    builder = DocumentBuilder()
    with path.open("rb") as stream:
        package = open_package(stream)
        protected = _protected(package)
        parts = Counter(_spine(package, found))
        for part in parts:
            if parts[part] > 1:  # so that a small book cannot become a huge one
                found.dropped["parts listed again"] += parts[part] - 1
            if part in protected:
                raise UnreadableFile("is protected (DRM); only books without protection are read")
            try:
                raw = read_part(package, part)
            except KeyError:
                found.dropped["parts listed and missing"] += 1
                continue
            refuse_entities(raw)
            found.dropped += read_markup(decode(raw, part, found.notes), builder, name).dropped
    found.documents.append(builder.build())
    return found


def _spine(package: zipfile.ZipFile, found: FileText) -> list[str]:
    """The parts of the book in reading order, without its table of contents."""
    container = _xml(package, _CONTAINER)
    root = next(
        (node.get("full-path") for node in container.iter() if _tag(node) == "rootfile"), ""
    )
    if not root:
        raise UnreadableFile("is broken (its container names no book)")
    book = _xml(package, root)
    folder = posixpath.dirname(root)
    manifest = {node.get("id"): node for node in book.iter() if _tag(node) == "item"}
    parts = []
    for node in book.iter():
        item = manifest.get(node.get("idref")) if _tag(node) == "itemref" else None
        if item is None:
            continue
        if "nav" in (item.get("properties") or "").split():
            found.dropped["tables of contents"] += 1
        elif "html" in (item.get("media-type") or ""):
            href = unquote(item.get("href") or "").partition("#")[0]
            parts.append(posixpath.normpath(posixpath.join(folder, href)))
        else:
            found.dropped["parts that are no text"] += 1
    return parts


def _protected(package: zipfile.ZipFile) -> set[str]:
    """Parts that are encrypted; fonts often are, in books that are not protected."""
    if _ENCRYPTION not in package.namelist():
        return set()
    nodes = _xml(package, _ENCRYPTION).iter()
    return {unquote(node.get("URI") or "") for node in nodes if _tag(node) == "CipherReference"}


def _xml(package: zipfile.ZipFile, part: str) -> ElementTree.Element:
    try:
        raw = read_part(package, part)
    except KeyError:
        raise UnreadableFile(f"is broken (it has no {part})") from None
    refuse_entities(raw)
    try:
        return ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise UnreadableFile(f"is broken in its part {part} ({error})") from None


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
