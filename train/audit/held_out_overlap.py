"""Find training rows that contain a held-out item.

The texts of the rows themselves are read, whatever was decided about the samples they were
made of. After the n-gram overlap of Brown et al. (2020, appendix C), but exact: the whole
question or passage, word for word, in the form of `warehouse.text.question_form`. The gate has
looked for edited ones before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from train.dataset import TrainingRow
from warehouse.text.question_form import comparison_form, is_quotable, stands_at
from warehouse.tool_calls import text_of

SHOWN = 3
"""Held-out texts that are named."""

_RUN = 5  # words by which a text is looked up

_Words = Sequence[str]


class HeldOutTexts:
    """What must not be trained on; looking a row up costs as much as the row is long."""

    def __init__(self, items: Iterable[tuple[str, str | None]]) -> None:
        """Take up items, each a question and the passage it is asked about, if there is one.

        A blank question tells nothing: only the passage is looked for.
        """
        self.items = 0
        self._questions: dict[str, str] = {}
        self._quotable: dict[str, str] = {}
        for question, passage in items:
            self.items += 1
            self._questions.setdefault(comparison_form(question), question)
            for text in (question, passage or ""):
                if is_quotable((plain := comparison_form(text)).split()):
                    self._quotable.setdefault(plain, text)
        self._questions.pop("", None)
        self._anchors = _anchors([plain.split() for plain in self._quotable])

    def found_in(self, row: TrainingRow) -> str | None:
        """The held-out question that a row asks, or the text that it quotes, if it does."""
        question = self._questions.get(comparison_form(text_of(row["prompt"][-1])))
        if question is not None:
            return question
        texts = (text_of(message) for message in (*row["prompt"], *row["completion"]))
        return next(filter(None, map(self._quoted_in, texts)), None)

    def _quoted_in(self, text: str) -> str | None:
        words = comparison_form(text).split()
        for place, run in enumerate(_runs(words)):
            for quoted, start in self._anchors.get(run, ()):
                if stands_at(quoted, words, place - start):
                    return self._quotable[" ".join(quoted)]
        return None

    def figures(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """`items` held out, `rows` that give one away, and how some of those items begin."""
        matches = [match for row in rows if (match := self.found_in(row))]
        openings = [" ".join(text.split())[:80] for text in dict.fromkeys(matches)]
        return {"items": self.items, "rows": len(matches), "shown": openings[:SHOWN]}


def _anchors(texts: Sequence[_Words]) -> dict[tuple[str, ...], list[tuple[_Words, int]]]:
    """Each text with the place of its rarest run, by that run: templates share their common ones."""
    counts = Counter(run for text in texts for run in set(_runs(text)))
    anchors: defaultdict[tuple[str, ...], list[tuple[_Words, int]]] = defaultdict(list)
    for text in texts:
        runs = _runs(text)
        start = min(range(len(runs)), key=lambda place: counts[runs[place]])
        anchors[runs[start]].append((text, start))
    return anchors


def _runs(words: _Words) -> list[tuple[str, ...]]:
    return list(zip(*(words[n:] for n in range(_RUN)), strict=False))
