"""Find the sentences of a text, as offsets, in scripts with and without spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from warehouse.text.words import SENTENCE_END

_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*+•▪◦‣]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])[^\S\n])")
_SPACED = ".!?…؟۔"
_WINDOW = 1000
"""Characters that sentencex is given at once: its time grows with the square of a text beyond ASCII."""
_SEAM = re.compile(r"[。｡！？।॥។៕။][\"'”’»」』）]*|(?<=[^\W\d_]{4}[.!?])[\"'”’»)]*\s")
_SPACE = re.compile(r"\s")


def sentence_spans(text: str, language: str = "en") -> Iterator[tuple[int, int]]:
    """(start, end) of each sentence, without the white space around it.

    sentencex cuts, which knows the abbreviations of a language; the full stops of scripts without
    spaces end a sentence wherever they stand. Items of a list are apart, and a line ends nothing.

    Args:
        text: A paragraph or a list.
        language: Its language, as sentencex has it; unknown ones are cut as English.
    """
    import sentencex

    starts = [0, *(match.end() for match in _ITEM.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        item = text[start:end].replace("\n", " ").replace("\r", " ")
        for offset, window in _windows(item):
            for found in sentencex.get_sentence_boundaries(language, window):
                for first, last in _full_stops(window, found["start_index"], found["end_index"]):
                    part = window[first:last]
                    if part.strip():
                        at = start + offset + first
                        yield at + len(part) - len(part.lstrip()), at + len(part.rstrip())


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """(offset, stretch) of the stretches that are cut by themselves: they end with a sentence."""
    if text.isascii():
        yield 0, text
        return
    start = 0
    while len(text) - start > _WINDOW:
        end = start + _WINDOW
        for seam in (_SEAM, _SPACE):
            ends = [match.end() for match in seam.finditer(text, start + _WINDOW // 2, end)]
            if ends:
                end = ends[-1]
                break
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _full_stops(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretch, cut after full stops of scripts that put no space after them."""
    if not text[start:end].isascii():
        for match in SENTENCE_END.finditer(text, start, end):
            if match[0][0] not in _SPACED and match.end() < end:
                yield start, match.end()
                start = match.end()
    yield start, end
