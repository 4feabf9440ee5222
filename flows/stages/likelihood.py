"""Give scorers the likelihoods of the student's base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from warehouse.records import Message


@dataclass
class BaseLikelihood:
    """How likely the student's base finds a text: `quality.scoring.scorer.Likelihood`."""

    base: str

    @property
    def name(self) -> str:
        """The base and the fingerprint of its weights."""
        from train.model.base_model import base_fingerprint

        return f"{Path(self.base).name} {base_fingerprint(self.base)[:16]}"

    def __call__(self, rows: Sequence[tuple[list[Message], str]]) -> list[tuple[float, int]]:
        """(sum of log-probabilities, tokens) of each completion after its messages."""
        return list(self._reader.likelihood(rows))

    @cached_property
    def _reader(self) -> Any:
        from train.model.inference import Generator

        return Generator(self.base)
