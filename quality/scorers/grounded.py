"""Is the completion found in the passage?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scorer import Scorer
from quality.text import contains, normalise_answer
from warehouse.records import Sample, Score


@dataclass
class Grounded(Scorer):
    """Support by the passage: 1.0 if the completion stands in it, else the share of its words.

    Lexical groundedness, the cheapest of the checks in the FActScore family (Min et al.,
    2023): it accepts no paraphrase, so it is precise and misses some good answers.
    """

    version: ClassVar[str] = "1"

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """One score in 0..1 per sample; abstains where there is no passage or no completion."""
        for sample in samples:
            words = normalise_answer(sample.completion).split()
            if not sample.passage:
                yield self.scored(sample, None, "no passage")
            elif not words:
                yield self.scored(sample, None, "no completion")
            elif contains(sample.passage, sample.completion):
                yield self.scored(sample, 1.0)
            else:
                known = set(normalise_answer(sample.passage).split())
                share = sum(word in known for word in words) / (len(words) + 1)
                yield self.scored(sample, share, "not a span of the passage")
