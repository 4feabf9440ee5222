"""Split a completion into claims: sentences, and one claim per item of a list.

Checking claim by claim is the idea of FActScore (Min et al., 2023); its atomic facts are
written by a language model, these are cut by rule (sentencex), which costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from warehouse.text import words

_SURROGATE = re.compile("[\ud800-\udfff]")
_ITEM = re.compile(
    r"\s*(?:(?:[-*+•‣◦▪–—]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+|\d{1,3}[、．]|[（(]\d{1,3}[）)])(?=\S)"
)
_HEADING = re.compile(r"\s{0,3}#{1,6}\s")
_WORD = re.compile(r"[^\W_]")
_LEAD_WORDS = 8


def whole_characters(text: str) -> str:
    """The text with a stand-in of the same length for each lone surrogate: libraries take none."""
    return _SURROGATE.sub("\ufffd", text)


def sentences(text: str) -> list[str]:
    """The sentences of a text that have a letter or digit; a line break alone ends none."""
    import sentencex  # type: ignore[import-untyped]

    segments = sentencex.segment("en", " ".join(whole_characters(text).split()))
    cut = (part for segment in segments for part in words.cut_sentences(segment))
    return [sentence.strip() for sentence in cut if _WORD.search(sentence)]


def claims(text: str) -> list[str]:
    """What a text claims, in order: its sentences, and each item of a list as one claim.

    A short answer is one claim. Short headings, and short lines that only announce a list
    ("The causes are:"), claim nothing, unless there is nothing else; one with a figure always
    claims something. Takes time in proportion to the text.
    """
    text = whole_characters(text)
    claimed: list[str] = []
    announced = ""
    for kind, block in _blocks(text):
        if announced and kind == "text":
            claimed.append(announced)
        parts = sentences(block) if kind == "text" else [" ".join(block.split())]
        announced = ""
        if kind == "text" and parts and parts[-1].endswith((":", "：")) and _only_names(parts[-1]):
            announced = parts.pop()
        if kind == "heading" and _only_names(block):
            continue
        claimed += [part for part in parts if _WORD.search(part)]
    if announced:
        claimed.append(announced)
    if not claimed and _WORD.search(text):
        claimed = [" ".join(_HEADING.sub("", text).split())]
    return claimed


def _only_names(line: str) -> bool:
    """Whether a heading or a lead-in says what follows, rather than something of its own."""
    return words.count_words(line) <= _LEAD_WORDS and not re.search(r"\d", line)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """("text" | "item" | "heading", block) of paragraphs, list items and headings, in order."""
    lines: list[str] = []
    kind = "text"
    for line in [*text.splitlines(), ""]:
        item, heading = _ITEM.match(line), _HEADING.match(line)
        if lines and (item or heading or not line.strip()):
            yield kind, "\n".join(lines)
            lines = []
        if heading:
            yield "heading", line[heading.end() :]
        elif line.strip():
            if not lines:
                kind = "item" if item else "text"
            lines.append(line[item.end() :] if item else line)
