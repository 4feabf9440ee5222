"""What an objective is: a way to make a student resemble a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from train.sft import Fitted, SftConfig
from train.tuner import Tuner
from warehouse.records import Sample


class Objective(ABC):
    """One file in distill/objectives; dataclass fields are its options."""

    @abstractmethod
    def fit(
        self,
        base: str,
        tuner: Tuner,
        samples: Sequence[Sample],
        config: SftConfig,
        out: Path,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Fitted:
        """Fit a student on samples and leave it in the folder `out`; one `advance` per step."""
