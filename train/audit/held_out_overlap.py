"""Find training rows that contain a held-out item.

The texts of the rows themselves are read, whatever was decided about the samples they were
made of. After the n-gram overlap of Brown et al. (2020, appendix C), but exact: the whole
question or passage, word for word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from train.dataset import TrainingRow
from warehouse.inputs.refusal_phrases import normalise

QUOTED = 5
"""Words: a shorter text may stand in another by chance; a question then has to be all of it."""

UNSPACED = 20
"""The same in characters, where words have no spaces."""

SHOWN = 3
"""Held-out texts that are named."""


class HeldOutTexts:
    """What must not be trained on; looking a row up costs as much as the row is long."""

    def __init__(self, items: Iterable[tuple[str, str | None]]) -> None:
        """Take up items, each a question and the passage it is asked about, if there is one."""
        self.items = 0
        self._questions: dict[str, str] = {}
        self._openings: defaultdict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        self._long: dict[str, str] = {}
        self._unspaced: list[str] = []
        for question, passage in items:
            self.items += 1
            self._questions.setdefault(normalise(question), question)
            for text in (question, passage or ""):
                self._add(normalise(text), text)
        self._questions.pop("", None)  # a question of symbols only is like any other one

    def _add(self, plain: str, text: str) -> None:
        words = tuple(plain.split())
        if plain in self._long:
            return
        if len(words) >= QUOTED:
            self._openings[words[:QUOTED]].append(words)
        elif len(words) == 1 and len(plain) >= UNSPACED:
            self._unspaced.append(plain)
        else:
            return
        self._long[plain] = text

    def found_in(self, row: TrainingRow) -> str | None:
        """The held-out question that a row asks, or the text that it quotes, if it does."""
        question = self._questions.get(normalise(row["prompt"][-1]["content"]))
        if question is not None:
            return question
        texts = (str(message["content"]) for message in (*row["prompt"], *row["completion"]))
        return next(filter(None, map(self._quoted_in, texts)), None)

    def _quoted_in(self, text: str) -> str | None:
        plain = normalise(text)
        words = tuple(plain.split())
        for start in range(len(words) - QUOTED + 1):
            for quoted in self._openings.get(words[start : start + QUOTED], ()):
                if words[start : start + len(quoted)] == quoted:
                    return self._long[" ".join(quoted)]
        return next(
            (self._long[unspaced] for unspaced in self._unspaced if unspaced in plain), None
        )

    def figures(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """`items` held out, `rows` that give one away, and how some of those items begin."""
        matches = [match for row in rows if (match := self.found_in(row))]
        openings = [" ".join(text.split())[:80] for text in dict.fromkeys(matches)]
        return {"items": self.items, "rows": len(matches), "shown": openings[:SHOWN]}
