"""Measure the completion's length and style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scoring.scorer import Scorer, Verdict
from quality.text.style import MEASURES, measures
from warehouse.records import Sample


@dataclass
class Style(Scorer):
    """Word count of the completion, with other measures of style (Gudibande et al., 2023, section 5).

    The False Promise of Imitating Proprietary LLMs: a student takes over how its teacher writes
    sooner than what it knows. No end of these values is the good one; a gate may bound each of
    the labels. `overlap` is with the nearest reference answer, else with the passage; where
    there is neither it is not given. Counts and overlap are for any language; the markers of
    `hedges` and `authority` are English, and are left out of other texts.
    """

    version: ClassVar[str] = "3"
    scale: ClassVar[tuple[float, float] | None] = (0.0, math.inf)
    languages: ClassVar[tuple[str, ...]] = ("en",)
    higher_is_better: ClassVar[bool | None] = None
    labels: ClassVar[tuple[str, ...]] = MEASURES

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """The number of words of each completion; abstains where there is none."""
        for sample in samples:
            english = self.foreign_language(sample) is None
            values = measures(sample.completion, markers=english)
            if not values["words"]:
                yield Verdict(None, "no completion")
                continue
            others = sample.reference or ([sample.passage] if sample.passage else [])
            if others:
                values["overlap"] = max(
                    measures(sample.completion, other)["overlap"] for other in others
                )
            why = None if english else "no hedges and authority: the text is not English"
            yield Verdict(values["words"], why, {"labels": values})
