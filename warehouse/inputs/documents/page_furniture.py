"""Find the headers, footers and page numbers that repeat on the pages of a document."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_EDGE_LINES = 3
"""Lines at the top and at the bottom of a page that may be furniture."""
_MIN_PAGES = 3
_MIN_SHARE = 0.3
"""Of the pages with text: headers of left and right pages, or of chapters, stand on some only."""
_PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|seite|página|p\.?|s\.?|第)\s*)?\d+(?:\s*(?:/|of|von|de|sur|\|)\s*\d+)?\s*(?:页|頁|ページ|쪽)?[\W_]*",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"\b(?:page|seite|página|p\.)\s*\d+|\d+\s*(?:/|of|von|de|sur)\s*\d+|第\s*\d+\s*[页頁]",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+")
_MANY_PAGES = 5
"""A line with another number on each page, such as "Section 3", is furniture on so many only."""


def strip_furniture(pages: Sequence[Sequence[str]]) -> tuple[list[list[str]], Counter[str]]:
    """Remove lines at the edges of pages that repeat, from the edge inwards.

    A line is furniture if it stands at the same edge of three pages and of three in ten or more.
    One with a number that counts the pages is too: a page number alone on two pages, "page 3"
    among other words as above, any other words on five pages and on half of them.

    Args:
        pages: The lines of each page.

    Returns:
        The lines that stay, and what was removed: line -> on how many pages.
    """
    with_text = [n for n, lines in enumerate(pages) if any(line.strip() for line in lines)]
    same: defaultdict[tuple[bool, str], set[int]] = defaultdict(set)
    counting: defaultdict[tuple[bool, str, int], set[int]] = defaultdict(set)
    for number in with_text:
        for top in (True, False):
            for line in _edge(pages[number], top):
                same[top, _form(line)].add(number)
                for key in _counting_keys(line, number):
                    counting[(top, *key)].add(number)
    enough = max(_MIN_PAGES, _MIN_SHARE * len(with_text))

    def is_furniture(line: str, number: int, top: bool) -> bool:
        if len(same[top, _form(line)]) >= enough:
            return True
        if _PAGE_NUMBER.fullmatch(line.strip()):
            least = 2.0
        else:
            numbered = _NUMBERED.search(line) is not None
            least = enough if numbered else max(_MANY_PAGES, 0.5 * len(with_text))
        return any(len(counting[(top, *key)]) >= least for key in _counting_keys(line, number))

    removed: Counter[str] = Counter()
    kept: list[list[str]] = []
    for number, lines in enumerate(pages):
        rest = list(lines)
        for top in (True, False):
            for _ in range(_EDGE_LINES):
                while rest and not rest[0 if top else -1].strip():
                    rest.pop(0 if top else -1)
                if not rest or not is_furniture(rest[0 if top else -1], number, top):
                    break
                removed[_NUMBER.sub("#", _form(rest.pop(0 if top else -1)))] += 1
        kept.append(rest)
    return kept, removed


def _edge(lines: Sequence[str], top: bool) -> list[str]:
    filled = [line for line in lines if line.strip()]
    return filled[:_EDGE_LINES] if top else filled[-_EDGE_LINES:]


def _form(line: str) -> str:
    return " ".join(line.split())


def _counting_keys(line: str, page: int) -> list[tuple[str, int]]:
    """(the line with a blank for one of its numbers, by how much that is ahead of the page)."""
    form = _form(line)
    return [
        (f"{form[: match.start()]}\x00{form[match.end() :]}", int(match[0]) - page)
        for match in _NUMBER.finditer(form)
        if len(match[0]) < 6
    ]
