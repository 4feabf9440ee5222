"""What a scorer is: samples -> scores, one each; None where it abstains, with the reason."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from warehouse.catalog import name_of, options_of
from warehouse.records import Sample, Score


class Scorer(ABC):
    """One file in quality/scorers; dataclass fields are its options."""

    version: ClassVar[str]

    @property
    def model(self) -> str:
        """What really scores: a model's name, or "rule". Part of every score's identity."""
        return "rule"

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """One score per sample, in order."""

    def score_id(self, sample: Sample) -> str:
        """The id this scorer's score of a sample has; known before scoring."""
        return Score.id_of(
            sample.sample_id, name_of(self), self.version, self.model, options_of(self)
        )

    def scored(self, sample: Sample, value: float | None, why: str | None = None) -> Score:
        """A score of this scorer for a sample."""
        return Score(
            score_id=self.score_id(sample),
            sample_id=sample.sample_id,
            scorer=name_of(self),
            version=self.version,
            model=self.model,
            options=options_of(self),
            value=value,
            why=why,
        )
