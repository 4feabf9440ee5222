"""Find the blocks of a web page that are its main text, each under its headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from warehouse.inputs.documents.document import Block, Document, DocumentBuilder
from warehouse.inputs.documents.markup import MarkupOrigin
from warehouse.text.words import SENTENCE_END, count_words

_HALF = 0.5
_RUN = 6
"""Words in a row by which a block of the page is found again in the main text."""
_LEAST_COVERED = 0.8
"""Of the main text's words: where fewer are found again in the page, its blocks are not known."""
_LABEL = 10
"""So few words without a full stop are no text, such as a copyright notice."""
_FEWEST = 3
"""Fewer words may stand in the main text by chance."""
_MARKER = re.compile(r"\s*(?:-|\d+\.)\s")


def has_prose(page: Document, origins: Sequence[MarkupOrigin]) -> bool:
    """Whether a page has more than menus and links; one without any link has."""
    blocks = [
        (block, origin)
        for block, origin in zip(page.blocks, origins, strict=True)
        if block.kind != "heading"
    ]
    if not any(_is_beside(origin) for _, origin in blocks):
        return True
    texts = [page.text[block.start : block.end] for block, origin in blocks if not _is_beside(origin)]  # fmt: skip
    return any(count_words(text) >= _LABEL or SENTENCE_END.search(text) for text in texts)


def with_headings(
    page: Document, origins: Sequence[MarkupOrigin], main: Document
) -> tuple[Document, int]:
    """The main text with all headings of the page that stand over a part of it, without menus.

    Args:
        page: The whole page.
        origins: Where its blocks come from.
        main: Its main text, which may have lost headings.

    Returns:
        The main text as it was, if it has lost none and has no menu; else the blocks of the page
        that it holds, under their headings. And how many lost headings could not be put back.
    """
    runs = _runs(main.text)
    kept = _kept(page, origins, runs)
    titles = Counter(_text(page, block) for block in kept if block.kind == "heading")
    lost = titles - Counter(_text(main, block) for block in main.blocks if block.kind == "heading")
    if not kept or not (lost or _has_menu(page, origins, runs)):
        return main, 0
    builder = DocumentBuilder()
    for block in kept:
        builder.add(block.kind, page.text[block.start : block.end], block.level)
    again = sum(count_words(text) for text in _texts(page) if _is_in(text, runs))
    if again < _LEAST_COVERED * count_words(main.text):
        return main, lost.total()
    return builder.build(), 0


def _has_menu(page: Document, origins: Sequence[MarkupOrigin], runs: set[str]) -> bool:
    """Whether a menu of the page is in the main text."""
    texts = zip(_texts(page), origins, strict=True)
    menus = (text for text, origin in texts if origin.in_menus >= _HALF)
    return any(count_words(text) >= _FEWEST and _is_in(text, runs) for text in menus)


def _kept(page: Document, origins: Sequence[MarkupOrigin], runs: set[str]) -> list[Block]:
    """The blocks of the page that are in the main text, and the headings over them."""
    kept: list[Block] = []
    waiting: list[Block] = []
    has_begun = False
    for block, origin in zip(page.blocks, origins, strict=True):
        if block.kind == "heading":
            if origin.in_menus < _HALF:
                waiting = [each for each in waiting if each.level < block.level] + [block]
        elif _is_in(page.text[block.start : block.end], runs) and (
            has_begun or not _is_beside(origin)
        ):
            if origin.in_menus >= _HALF:
                continue
            has_begun = True
            kept += [*waiting, block]
            waiting = []
    return kept


def _is_in(text: str, runs: set[str]) -> bool:
    """Whether at least half of a block stands in the main text."""
    words = _words(text)
    if len(words) < _FEWEST:
        return f"\n{' '.join(words)}\n" in runs
    last = max(len(words) - _RUN, 0)
    pieces = [" ".join(words[start : start + _RUN]) for start in [*range(0, last, _RUN), last]]
    return sum(piece in runs for piece in pieces) >= _HALF * len(pieces)


def _runs(text: str) -> set[str]:
    """All runs of three to six words, and all lines."""
    words = _words(text)
    runs = {
        " ".join(words[start : start + length])
        for length in range(_FEWEST, _RUN + 1)
        for start in range(len(words) - length + 1)
    }
    return runs | {f"\n{' '.join(_words(line))}\n" for line in text.split("\n")}


def _words(text: str) -> list[str]:
    """The words of a text without the markers of lists."""
    lines = (_MARKER.sub("", line, count=1) for line in text.casefold().split("\n"))
    return [word for line in lines for word in re.findall(r"\w+", line)]


def _texts(document: Document) -> list[str]:
    return [document.text[block.start : block.end] for block in document.blocks]


def _text(document: Document, block: Block) -> str:
    return " ".join(document.text[block.start : block.end].split())


def _is_beside(origin: MarkupOrigin) -> bool:
    return origin.in_links >= _HALF or origin.in_menus >= _HALF
