"""Define the objective interface: a way to make a student resemble a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from train.config import SftConfig
from train.dataset import TrainingRow
from train.loop.sft import PLAIN_SFT, TrainingHooks, TrainingResult, train_student
from train.methods.tuner import Tuner
from warehouse.catalog import table_of
from warehouse.errors import MissingExtraError, TrainingError, first_line
from warehouse.records import Message, Sample
from warehouse.tool_calls import call_message, read_calls
from warehouse.wording import format_count

if TYPE_CHECKING:
    from train.loop.callbacks import Step

TESTED = "1.16.0"
"""The release of TRL that the objectives were tested with."""


@dataclass(frozen=True)
class TrainingInputs:
    """Inputs of a training. `logprobs` are the teacher's, as stored with its calls, by sample id;
    only an objective that `needs_logprobs` gets them. `held_out` are question and passage of the
    benchmark items, which no training row may contain."""

    base: str
    tuner: Tuner
    samples: Sequence[Sample]
    config: SftConfig
    out: Path
    logprobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    held_out: Sequence[tuple[str, str | None]] = ()


class Objective(ABC):
    """One file in distill/objectives; dataclass fields are its options."""

    source: ClassVar[str]
    """The paper and section that it was published in."""
    packing_fault: ClassVar[str] = ""
    """Why rows cannot be packed; empty where they can."""

    @property
    def needs_logprobs(self) -> bool:
        """Whether it learns from the teacher's stored log-probabilities."""
        return False

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the student depends on: the table in the plan."""
        return table_of(self)

    def ready(self, base: str) -> None:  # noqa: B027
        """Check that what it needs besides the base is available and fits, before anything is spent.

        Raises:
            StillhouseError: it is not.
        """

    @abstractmethod
    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Train a student into `inputs.out`, which appears only when complete.

        `callbacks` and `inputs.held_out` go to `train.loop.sft.train_student` unchanged.
        """

    def faults(self, tuner: Tuner, config: SftConfig) -> list[str]:
        """Why this objective cannot be trained with these options, one line each."""
        return [self.packing_fault] if config.packing and self.packing_fault else []


def train_on_rows(
    inputs: TrainingInputs,
    rows: Sequence[TrainingRow],
    callbacks: Callable[[Step], None],
    hooks: TrainingHooks = PLAIN_SFT,
) -> TrainingResult:
    """`train.loop.sft.train_student` on these rows with the rest of the inputs."""
    return train_student(
        inputs.base,
        inputs.tuner,
        rows,
        inputs.config,
        inputs.out,
        callbacks,
        held_out=inputs.held_out,
        hooks=hooks,
    )


@contextmanager
def as_tested(name: str) -> Iterator[None]:
    """Turn a changed interface of TRL into a one-line error.

    Raises:
        MissingExtraError: the installed TRL lacks the trainer, or it differs from the tested one.
    """
    try:
        yield
    except (ImportError, TypeError) as error:
        raise MissingExtraError(
            f"TRL's {name} differs from that of trl {TESTED} ({first_line(error)}; installed: "
            f"{version('trl')}); pip install 'trl=={TESTED}'"
        ) from error


def rows_of(samples: Sequence[Sample], without_tools: str = "") -> list[TrainingRow]:
    """Training rows: student-side messages as prompt, the teacher's text as completion.

    A reply that was cut off is trained on where the gate kept it (`on_length = "keep"`).

    Args:
        samples: The samples.
        without_tools: Name of an objective that cannot train on tool calls.

    Raises:
        TrainingError: some samples are refusals or did not parse, or have tools.
    """
    tools = sum("tools" in (sample.facts or {}) for sample in samples) if without_tools else 0
    if tools:
        raise TrainingError(
            f"{tools} of {format_count(len(samples), 'sample')} have tools, and the objective "
            f"'{without_tools}' asks the student without them; use the objective 'sequence'"
        )
    unfit = [sample for sample in samples if sample.status not in ("ok", "truncated")]
    if unfit:
        raise TrainingError(
            f"{len(unfit)} of {format_count(len(samples), 'sample')} cannot be trained on (the first is "
            f"'{unfit[0].status}'); train on what the gate keeps"
        )
    return [row_of(sample) for sample in samples]


def row_of(sample: Sample) -> TrainingRow:
    """The training row of one sample; calls of tools are the completion as such, not as text.

    Raises:
        TrainingError: its completion should be tool calls and is not, such as after an edit.
    """
    facts = sample.facts or {}
    completion: Message = {"role": "assistant", "content": sample.completion}
    if "tools" not in facts:
        return {"prompt": sample.messages, "completion": [completion]}
    if "tool_calls" in facts:  # the text is what a person may have edited, so it is what counts
        try:
            completion = call_message(read_calls(sample.completion), sample.messages)
        except ValueError as error:
            raise TrainingError(
                f"sample {sample.sample_id[:12]} should call tools, and {error}; correct it in "
                "`distill review`, or reject it"
            ) from None
    return {"prompt": sample.messages, "completion": [completion], "tools": facts["tools"]}
