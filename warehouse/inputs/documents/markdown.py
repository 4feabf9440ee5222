"""Read Markdown files: headings, fenced and indented code, and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from warehouse.inputs.documents.document import Block, Document, FileText, Kind
from warehouse.inputs.documents.plain_text import read_text

SUFFIXES = (".md", ".markdown")

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:\s|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})\s*$")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s")
_INLINE = [
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])", ""),
        (r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1"),
        (r"<((?:https?|mailto):[^>\s]*)>", r"\1"),
        (r"</?[A-Za-z][^<>]*>", ""),
        (r"(?<!\\)(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1", r"\2"),
        (r"(?<![\w\\])(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
        (r"\\([!-/:-@\[-`{-~])", r"\1"),
    )
]
"""Inline signs, and what a reader sees in their place."""
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?=#|[\w-]+[ \t]*:)(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")


def read(path: Path, name: str) -> FileText:
    """The text of a file without its front matter and comments.

    Raises:
        UnreadableFile: it is too large, or no text.
    """
    found = FileText()
    text = read_text(path, name, found.notes)
    if front := _FRONT_MATTER.match(text):
        found.dropped["lines of front matter"] += front[0].strip().count("\n") + 1
        text = text[front.end() :]
    text, comments = _without_comments(text)
    if comments:
        found.dropped["comments"] += comments
    found.documents.append(Document(text, list(_blocks(text))))
    return found


def _without_comments(text: str) -> tuple[str, int]:
    """The text without comments that have lines of their own, and how many there were."""
    if "<!--" not in text:
        return text, 0
    kept: list[str] = []
    comment: list[str] = []
    fence = ""
    number = 0
    for line in text.split("\n"):
        opening = _FENCE.match(line)
        if comment or (not fence and re.match(r" {0,3}<!--", line)):
            comment.append(line)
            if "-->" in line:
                if line.rstrip().endswith("-->"):
                    number += 1
                else:  # text follows on the same line
                    kept += comment
                comment = []
            continue
        if fence:
            fence = "" if _closes(line, fence) else fence
        elif opening:
            fence = opening[1]
        kept.append(line)
    return "\n".join([*kept, *comment]), number


def _blocks(text: str) -> Iterator[Block]:
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def block(kind: Kind, first: int, last: int, level: int = 0) -> Block:
        """Of lines first to last, the last one included."""
        end = starts[last] + len(lines[last].rstrip())
        lead = 0
        if kind in ("heading", "text"):
            lead = len(lines[first]) - len(lines[first].lstrip())
        return Block(kind, starts[first] + lead, end, level)

    def heading_block(first: int, last: int, level: int) -> Block:
        """Of one line after signs, or of lines and the one that underlines them."""
        text = lines[n] if first == last else "\n".join(lines[first:last])
        return replace(block("heading", first, last, level), title=_title(text))

    n = 0
    in_list = False
    while n < len(lines):
        line = lines[n]
        if not line.strip():
            n += 1
            continue
        first = n
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence:
            n += 1
            while n < len(lines) and not _closes(lines[n], fence[1]):
                n += 1
            n = min(n, len(lines) - 1)
            yield block("code", first, n)
        elif heading:
            yield heading_block(n, n, len(heading[1]))
            in_list = False
        elif line.lstrip().lower().startswith("<table"):
            while n < len(lines) - 1 and "</table>" not in lines[n].lower():
                n += 1
            yield block("table", first, n)
        elif _is_table(lines, n):
            while n + 1 < len(lines) and "|" in lines[n + 1]:
                n += 1
            yield block("table", first, n)
        elif _is_indented(line) and not in_list:
            ahead = n
            while ahead < len(lines) and (_is_indented(lines[ahead]) or not lines[ahead].strip()):
                n = ahead if lines[ahead].strip() else n
                ahead += 1
            yield block("code", first, n)
        else:
            in_list = bool(_ITEM.match(line)) or (in_list and line[0] in " \t")
            while n + 1 < len(lines) and lines[n + 1].strip() and not _begins(lines, n + 1):
                n += 1
            under = _UNDERLINE.match(lines[n]) if n > first else None
            if under:
                yield heading_block(first, n, 1 if under[1][0] == "=" else 2)
            elif not re.fullmatch(r"\s*([-*_]\s*){3,}", line) or n > first:
                yield block("text", first, n)
        n += 1


def _title(text: str) -> str:
    """A heading's words as a reader sees them, so that they are those of other formats."""
    text = re.sub(r"^\s*#{1,6}(?=\s|$)|\s+#+\s*$", "", text)
    text = re.sub(r"\s*\{[#.:][^{}]*\}\s*$", "", text)
    parts = re.split(r"(`+)(.+?)\1", text)  # text, ticks, code, text, ...
    shown = [_plain(part) if n % 3 == 0 else part for n, part in enumerate(parts) if n % 3 != 1]
    return " ".join("".join(shown).split())


def _plain(text: str) -> str:
    """Inline Markdown without its signs."""
    for pattern, shown in _INLINE:
        text = pattern.sub(shown, text)
    return html.unescape(text)


def _closes(line: str, fence: str) -> bool:
    closing = line.strip()
    return closing.startswith(fence) and not closing.strip(fence[0])


def _begins(lines: list[str], n: int) -> bool:
    """Whether a line begins a block also without a blank line before it."""
    line = lines[n]
    return bool(_FENCE.match(line) or _HEADING.match(line) or _is_table(lines, n))


def _is_table(lines: list[str], n: int) -> bool:
    rule = lines[n + 1] if n + 1 < len(lines) else ""
    return "|" in lines[n] and "|" in rule and _TABLE_RULE.match(rule) is not None


def _is_indented(line: str) -> bool:
    return line.startswith(("    ", "\t"))
