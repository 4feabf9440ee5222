"""Turn HTML into the blocks of a document, in one pass without a tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from warehouse.inputs.documents.document import DocumentBuilder, Kind, UnreadableFile
from warehouse.inputs.documents.limits import MAX_DEPTH
from warehouse.inputs.documents.optional import import_optional

_SKIPPED = {"script", "style", "template", "head", "svg", "math", "noscript", "iframe", "object"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "main",
    "nav", "ol", "p", "section", "summary", "ul",
}  # fmt: skip
_MENUS = {"nav", "footer", "aside"}
"""Elements of a page that are beside its text."""
_HEADING = re.compile(r"h[1-6]")
_CHUNK = 1 << 16
_SPACE = re.compile(r"[ \t\r\n\f]+")


@dataclass(frozen=True)
class MarkupOrigin:
    """Where in a page the text of a block comes from, as shares of its characters."""

    in_links: float
    in_menus: float
    """In elements that are beside the text, such as `nav` and `footer`."""


class MarkupReader:
    """Collects the blocks of HTML: headings, paragraphs, lists, tables and preformatted text.

    A target of lxml's parser, which calls `start`, `end` and `data` as it reads.

    A table becomes lines of cells between `|`, a preformatted text keeps its lines. Scripts,
    styles and what is not shown are left out; images are counted in `dropped`.
    """

    def __init__(self, builder: DocumentBuilder) -> None:
        self.dropped: Counter[str] = Counter()
        self.origins: list[MarkupOrigin] = []
        """Of each block that was added to the builder."""
        self._builder = builder
        self._links = 0
        self._menus = 0
        self._characters = 0
        self._in_links = 0
        self._in_menus = 0
        self._text: list[str] = []
        self._items: list[str] = []
        self._list_numbers: list[int] = []
        self.elements = 0
        self._skipped = 0
        self._depth = 0
        self._level = 0
        self._preformatted = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._has_header = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        self.elements += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableFile(f"nests more than {MAX_DEPTH} elements within each other")
        if self._skipped or tag in _SKIPPED:
            self._skipped += 1
        elif tag == "img":
            self.dropped["images"] += 1
        elif tag == "br":
            self._text.append("\n" if self._preformatted else "\x00")
        elif tag == "table":
            if not self._tables:
                self._flush()
                self._rows, self._has_header = [], False
            self._tables += 1
        elif self._tables:
            if self._tables == 1:
                self._begin_cell(tag)
            elif tag in _BLOCKS or tag in ("tr", "td", "th", "li"):
                self._text.append(" ")
        elif _HEADING.fullmatch(tag):
            self._flush()
            self._level = int(tag[1])
        elif tag in ("pre", "listing"):
            if not self._preformatted:
                self._flush()
            self._preformatted += 1
        elif tag in ("ul", "ol"):
            self._end_item()
            if not self._list_numbers:
                self._flush()
            self._list_numbers.append(0 if tag == "ol" else -1)
        elif tag == "li":
            self._end_item()
            self._text.append(self._marker())
        elif tag in _BLOCKS:
            self._end_paragraph()
        self._menus += tag in _MENUS and not self._skipped
        self._links += tag == "a" and not self._skipped

    def end(self, tag: str) -> None:
        """End an element."""
        self._depth -= 1
        is_skipped = bool(self._skipped)
        if is_skipped:
            self._skipped -= 1
        elif tag == "table" and self._tables:
            self._tables -= 1
            if not self._tables:
                self._end_table()
        elif self._tables:
            if tag in _BLOCKS or tag in ("td", "th", "tr", "li") or _HEADING.fullmatch(tag):
                self._text.append(" ")
        elif tag in ("pre", "listing") and self._preformatted:
            self._preformatted -= 1
            if not self._preformatted:
                self._add("code", "".join(self._text))
                self._text = []
        elif _HEADING.fullmatch(tag):
            self._flush()
        elif tag in ("ul", "ol") and self._list_numbers:
            self._end_item()
            self._list_numbers.pop()
            if not self._list_numbers:
                self._flush()
        elif tag == "li":
            self._end_item()
        elif tag in _BLOCKS:
            self._end_paragraph()
        self._menus -= tag in _MENUS and not is_skipped
        self._links -= tag == "a" and not is_skipped

    def data(self, data: str) -> None:
        """Text; white space counts in preformatted text only."""
        if not self._skipped:
            data = data.replace("\x00", "\ufffd")
            self._text.append(data if self._preformatted else _SPACE.sub(" ", data))
            characters = len("".join(data.split()))
            self._characters += characters
            self._in_links += characters if self._links else 0
            self._in_menus += characters if self._menus else 0

    def close(self) -> None:
        """End what is still open."""
        if self._tables:
            self._end_table()
        if self._preformatted:
            self._add("code", "".join(self._text))
            self._text = []
        self._list_numbers = []
        self._flush()

    def _marker(self) -> str:
        if not self._list_numbers or self._list_numbers[-1] < 0:
            marker = "-"
        else:
            self._list_numbers[-1] += 1
            marker = f"{self._list_numbers[-1]}."
        return "  " * (len(self._list_numbers) - 1) + marker + " "

    def _line(self) -> str:
        """The text collected so far, with a line for each <br>."""
        lines = "".join(self._text).split("\x00")
        self._text = []
        indent = len(lines[0]) - len(lines[0].lstrip()) if self._list_numbers else 0
        return " " * indent + "\n".join(
            shown for line in lines if (shown := _SPACE.sub(" ", line).strip())
        )

    def _end_item(self) -> None:
        line = self._line()
        if line.strip().strip("-"):
            self._items.append(line)

    def _end_paragraph(self) -> None:
        """In a list a paragraph is a line of it; elsewhere it is a block."""
        if not self._list_numbers:
            self._flush()
        elif re.search(r"\S", "".join(self._text).strip().removeprefix("-")):
            self._end_item()

    def _flush(self) -> None:
        self._end_item()
        text = "\n".join(self._items)
        self._items = []
        self._add("heading" if self._level else "text", text, self._level)
        self._level = 0

    def _add(self, kind: Kind, text: str, level: int = 0) -> None:
        if not self._builder.add(kind, text, level):
            return
        whole = max(self._characters, 1)
        self.origins.append(MarkupOrigin(self._in_links / whole, self._in_menus / whole))
        self._characters = self._in_links = self._in_menus = 0

    def _begin_cell(self, tag: str) -> None:
        if tag == "tr":
            self._end_cell()
            self._rows.append([])
        elif tag in ("td", "th"):
            self._end_cell()
            self._has_header |= tag == "th" and len(self._rows) <= 1
            if not self._rows:
                self._rows.append([])
            self._rows[-1].append("")
        elif tag in _BLOCKS or tag == "li":
            self._text.append(" ")

    def _end_cell(self) -> None:
        text = " ".join("".join(self._text).replace("\x00", " ").split())
        self._text = []
        if not text:
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] = f"{self._rows[-1][-1]} {text}".strip()
        else:  # a caption
            self._add("text", text)

    def _end_table(self) -> None:
        self._end_cell()
        self._tables = 0
        rows = [row for row in self._rows if any(row)]
        self._rows = []
        if max(map(len, rows), default=0) < 2:  # a frame around a text, not a table
            for row in rows:
                self._add("text", " ".join(row))
            return
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        if self._has_header:
            lines.insert(1, "|" + " --- |" * len(rows[0]))
        self._add("table", "\n".join(lines))


@dataclass(frozen=True)
class ReadMarkup:
    """What a reading of HTML says beside the blocks."""

    elements: int
    dropped: Counter[str]
    origins: list[MarkupOrigin]
    """Of each block, in order."""


def read_markup(markup: str, builder: DocumentBuilder, name: str) -> ReadMarkup:
    """Append the blocks of HTML to a document.

    Args:
        markup: The HTML; faults in it are mended as browsers do.
        builder: Where the blocks go.
        name: The file, for a message.

    Raises:
        UnreadableFile: its elements are nested too deeply.
        MissingExtraError: lxml is not installed.
    """
    etree = import_optional("lxml.etree", name)
    reader = MarkupReader(builder)
    parser = etree.HTMLParser(target=reader, encoding="utf-8", huge_tree=True, remove_comments=True)
    raw = markup.encode()
    for start in range(0, len(raw), _CHUNK):
        parser.feed(raw[start : start + _CHUNK])
    if raw.strip():
        parser.close()
    return ReadMarkup(reader.elements, reader.dropped, reader.origins)
