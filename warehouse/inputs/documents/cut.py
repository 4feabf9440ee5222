"""Cut a document into passages at the ends of sentences, under its headings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from warehouse.inputs.documents.document import Block, Document, Kind
from warehouse.inputs.documents.sentences import sentence_spans

MOST_WHOLE = 4
"""A table or a code block of so many lengths stays whole; a longer one is cut between its lines."""
_SHORT = 0.25
"""Of the length: a passage below it goes on into the next section."""
_CHARS_PER_WORD = 50
"""More are no word, such as a picture written in letters: such a stretch counts by its characters."""
_SEAMS = (r"\n", r"[,;:，；：、]\s*", r"\s+")


@dataclass(frozen=True)
class Stretch:
    """Where a passage stands in its document."""

    start: int
    end: int
    heading: str


@dataclass(frozen=True)
class _Unit:
    """What is never cut: a sentence, a heading, a table or a code block."""

    kind: Kind
    start: int
    end: int
    size: int
    level: int
    """Of the heading over it, 0 without one."""
    heading: str


@dataclass
class Cutter:
    """Cuts documents into passages.

    Attributes:
        length: The most words or tokens of a passage, beside a table or code block that is longer;
            None: a document is one passage.
        count: Words or tokens of a text.
        language: Whose abbreviations end no sentence.
        cut_blocks: Tables and code blocks that were too long to stay whole, so far.
    """

    length: int | None
    count: Callable[[str], int]
    language: str = "en"
    cut_blocks: int = 0

    @property
    def _length(self) -> int:
        assert self.length is not None
        return self.length

    def cut(self, document: Document) -> list[Stretch]:
        """The passages of a document in order; together they hold all of its blocks.

        A heading begins a passage, unless the one before is still short: then it goes on, but
        never from a section into one that is above it. Passages within a section fill up to the
        length, the last two evenly.
        """
        if self.length is None:
            ends = document.blocks[:1], document.blocks[-1:]
            return [Stretch(first.start, last.end, "") for first, last in zip(*ends, strict=True)]
        passages: list[list[_Unit]] = []
        current: list[_Unit] = []
        is_cut = False  # the passage before was full, in the middle of a section
        for unit in self._units(document):
            has_text = any(each.kind != "heading" for each in current)
            size = sum(each.size for each in current)
            if has_text and unit.kind == "heading" and self._ends(current, size, unit):
                self._finish(passages, current, is_cut)
                current, is_cut = [], False
            elif has_text and size + unit.size > self._length:
                waiting = _trailing_headings(current)
                if waiting:
                    self._finish(passages, current[: -len(waiting)], is_cut)
                else:
                    passages.append(current)
                current, is_cut = waiting, not waiting
            current.append(unit)
        if current:
            self._finish(passages, current, is_cut)
        return [_stretch(units) for units in passages]

    def _ends(self, current: Sequence[_Unit], size: int, heading: _Unit) -> bool:
        """Whether a heading ends the passage before it."""
        return size >= _SHORT * self._length or heading.level < current[0].level

    def _finish(self, passages: list[list[_Unit]], current: list[_Unit], is_cut: bool) -> None:
        """Append the last passage of a section; a scrap shares evenly with the one before."""
        size = sum(unit.size for unit in current)
        if is_cut and size < _SHORT * self._length and len(passages[-1]) > 1:
            units = [*passages.pop(), *current]
            whole = sum(unit.size for unit in units)
            splits = [n for n in range(1, len(units)) if units[n - 1].kind != "heading"]
            best, least = 0, whole
            for n in splits:
                left = sum(unit.size for unit in units[:n])
                longer = max(left, whole - left)
                if longer < least:
                    best, least = n, longer
            if whole <= self._length or not best:
                passages.append(units)
            else:
                passages += [units[:best], units[best:]]
        else:
            passages.append(current)

    def _units(self, document: Document) -> Iterator[_Unit]:
        above: list[tuple[int, str]] = []
        for block in document.blocks:
            if block.kind == "heading":
                title = block.title or document.text[block.start : block.end]
                title = " ".join(title.split())
                above = [each for each in above if each[0] < block.level] + [(block.level, title)]
            level = above[-1][0] if above else 0
            path = " > ".join(title for _, title in above)
            for start, end in self._spans(document.text, block):
                size = self._size(document.text[start:end])
                yield _Unit(block.kind, start, end, size, level, path)

    def _size(self, text: str) -> int:
        return max(self.count(text), len(text) // _CHARS_PER_WORD)

    def _spans(self, text: str, block: Block) -> Iterator[tuple[int, int]]:
        whole = block.start, block.end
        if block.kind == "heading":
            yield whole
        elif block.kind == "text":
            for start, end in sentence_spans(text[block.start : block.end], self.language):
                yield from self._split(text, block.start + start, block.start + end)
        elif self._size(text[block.start : block.end]) <= MOST_WHOLE * self._length:
            yield whole
        else:
            self.cut_blocks += 1
            yield from self._split(text, *whole)

    def _split(
        self, text: str, start: int, end: int, seams: Sequence[str] = _SEAMS
    ) -> Iterator[tuple[int, int]]:
        """A stretch that is too long, cut at its lines, clauses, words, and at last anywhere."""
        if self._size(text[start:end]) <= self._length:
            yield start, end
            return
        if not seams:
            for first in range(start, end, self._length):
                yield first, min(first + self._length, end)
            return
        seam = re.compile(seams[0])
        ends = [match.end() for match in seam.finditer(text, start, end)]
        first, size = start, 0
        for left, right in zip([start, *ends], [*ends, end], strict=True):
            part = self._size(text[left:right])
            if first < left and size + part > self._length:
                yield from self._split(text, first, _stripped_end(text, first, left), seams[1:])
                first, size = left, 0
            size += part
        if first < end:
            yield from self._split(text, first, end, seams[1:])


def _trailing_headings(units: Sequence[_Unit]) -> list[_Unit]:
    """The headings at the end, whose text comes in the next passage."""
    last = len(units)
    while last and units[last - 1].kind == "heading":
        last -= 1
    return list(units[last:])


def _stretch(units: Sequence[_Unit]) -> Stretch:
    heading = next((unit.heading for unit in units if unit.kind != "heading"), units[-1].heading)
    return Stretch(units[0].start, units[-1].end, heading)


def _stripped_end(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())
