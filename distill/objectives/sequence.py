"""Sequence-level distillation: learn to say what the teacher said."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

from distill.objective import Objective
from train.dataset import Row
from train.sft import Fitted, SftConfig, fit
from train.tuner import Tuner
from warehouse.errors import StageError
from warehouse.records import Sample


@dataclass(frozen=True)
class Sequence(Objective):
    """Cross-entropy on the teacher's text (Kim and Rush 2016, section 3.2).

    The sum over all sequences is replaced by the one the teacher gave, so its text is
    all that is needed: any teacher will do, with any vocabulary.
    """

    def fit(
        self,
        base: str,
        tuner: Tuner,
        samples: Many[Sample],
        config: SftConfig,
        out: Path,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Fitted:
        """Fine-tune on student-side messages as prompt and the teacher's text as completion.

        A reply that was cut off is trained on where the gate kept it (`on_length = "keep"`).

        Raises:
            StageError: there are no samples, or some are refusals or did not parse.
        """
        unfit = [sample for sample in samples if sample.status not in ("ok", "truncated")]
        if unfit:
            raise StageError(
                f"{len(unfit)} of {len(samples)} samples can not be trained on (the first is "
                f"'{unfit[0].status}'); train on what the gate keeps"
            )
        return fit(base, tuner, [row_of(sample) for sample in samples], config, out, advance)


def row_of(sample: Sample) -> Row:
    """The training row of a sample: what the student sees, and what it should say."""
    return {
        "prompt": sample.messages,
        "completion": [{"role": "assistant", "content": sample.completion}],
    }
