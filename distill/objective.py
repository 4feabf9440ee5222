"""What an objective is: a way to make a student resemble a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from train.config import SftConfig
from train.dataset import Row
from train.sft import Fitted
from train.tuner import Tuner
from warehouse.errors import StageError
from warehouse.records import Sample

if TYPE_CHECKING:
    from train.trainer import Step


@dataclass(frozen=True)
class Material:
    """What a student is made of. `logprobs` are the teacher's, as its calls keep them, by
    sample id; only an objective that `needs_logprobs` is given any."""

    base: str
    tuner: Tuner
    samples: Sequence[Sample]
    config: SftConfig
    out: Path
    logprobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Objective(ABC):
    """One file in distill/objectives; dataclass fields are its options."""

    source: ClassVar[str]  # where it was published, section and all
    needs_logprobs: ClassVar[bool] = False

    @abstractmethod
    def fit(self, material: Material, watch: Callable[[Step], None] = lambda step: None) -> Fitted:
        """Fit a student and leave it in `material.out`, whole or not at all."""

    def faults(self, tuner: Tuner, config: SftConfig) -> list[str]:
        """Why this objective can not be trained with these options, one line each."""
        return []


def rows_of(samples: Sequence[Sample]) -> list[Row]:
    """Training rows: student-side messages as prompt, the teacher's text as completion.

    A reply that was cut off is trained on where the gate kept it (`on_length = "keep"`).

    Raises:
        StageError: some samples are refusals or did not parse.
    """
    unfit = [sample for sample in samples if sample.status not in ("ok", "truncated")]
    if unfit:
        raise StageError(
            f"{len(unfit)} of {len(samples)} samples can not be trained on (the first is "
            f"'{unfit[0].status}'); train on what the gate keeps"
        )
    return [
        {
            "prompt": sample.messages,
            "completion": [{"role": "assistant", "content": sample.completion}],
        }
        for sample in samples
    ]
