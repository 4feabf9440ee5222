"""Train on the teacher's replies: sequence-level distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distill.learning.objective import Objective, TrainingInputs, rows_of, train_on_rows
from train.loop.sft import TrainingResult

if TYPE_CHECKING:
    from train.loop.callbacks import Step


@dataclass(frozen=True)
class Sequence(Objective):
    """Cross-entropy on the teacher's text (Kim and Rush 2016, section 3.2).

    The sum over all sequences is replaced by the one the teacher gave, so its text is
    all that is needed: any teacher will do, with any vocabulary.
    """

    source: ClassVar[str] = "Kim and Rush 2016, section 3.2"

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Fine-tune on the samples' completions.

        Raises:
            NothingToDoError: there are no samples.
            TrainingError: some are refusals or did not parse.
        """
        return train_on_rows(inputs, rows_of(inputs.samples), callbacks)
