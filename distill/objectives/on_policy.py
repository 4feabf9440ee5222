"""Train on-policy: the teacher corrects answers that the student samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from distill.learning.objective import Objective, TrainingInputs, as_tested, rows_of, train_on_rows
from distill.learning.vocabulary import require_same_vocabulary
from train.config import SftConfig
from train.dataset import render, token_ids
from train.loop.sft import TrainerInputs, TrainingHooks, TrainingResult, assemble_trainer
from train.methods.tuner import Tuner
from train.model.base_model import base_fingerprint
from train.model.student import load
from warehouse.errors import ModelError

if TYPE_CHECKING:
    from train.loop.callbacks import Step


@dataclass(frozen=True)
class OnPolicy(Objective):
    """Learn the local teacher's distribution over answers that the student samples in training.

    Generalised knowledge distillation on the student's own answers alone (Agarwal et al.
    2023, section 3.1, with a share of student data of 1): it is corrected where it will be used.
    The samples give the prompts; the teacher's stored replies are not learned. The teacher sees
    what the student sees.

    Sampling answers takes most of the time. The last batch of an epoch is filled up with the
    first rows, since every step samples a whole one.
    """

    source: ClassVar[str] = "Agarwal et al. 2023, section 3.1"
    packing_fault: ClassVar[str] = (
        "there are no rows to pack, answers are sampled; set packing = false"
    )

    teacher: str
    """A local teacher with the base's vocabulary: an asset, a folder or a hub id."""
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Between 0 (forward KL) and 1 (reverse KL) lies the generalised JSD."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature of the student's answers; it softens both distributions too."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest sampled answer in tokens."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Also the content of the teacher."""
        return {**super().fingerprint, "teacher": base_fingerprint(self.teacher)}

    def ready(self, base: str) -> None:
        """Check that the teacher is available and has the base's vocabulary."""
        require_same_vocabulary(self.teacher, base)

    def faults(self, tuner: Tuner, config: SftConfig) -> list[str]:
        """TRL's loss calls the layers below PEFT, which do not see virtual tokens."""
        if not tuner.prompt_learning:
            return super().faults(tuner, config)
        return [
            "its loss does not see virtual tokens; use a tuner that changes weights, such as lora, "
            "or the objective 'logits'",
            *super().faults(tuner, config),
        ]

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Train on answers sampled for the samples' prompts.

        Raises:
            AssetError: the teacher could not be downloaded.
            ModelError: the vocabularies differ, or a prompt and an answer do not fit the student's
                context.
            NothingToDoError: there are no samples.
            TrainingError: some are refusals.
        """
        self.ready(inputs.base)
        rows = rows_of(inputs.samples, without_tools="on_policy")
        return train_on_rows(
            inputs,
            rows,
            callbacks,
            TrainingHooks(
                build_trainer=self._trainer,
                fingerprint=self.fingerprint,
                teacher_model=self.teacher,
            ),
        )

    def _trainer(self, job: TrainerInputs) -> Any:
        with as_tested("DistillationTrainer"):
            from trl import DistillationConfig, DistillationTrainer  # type: ignore[attr-defined]

            from train.loop.trainer import TunedTrainer

        class OnPolicyTrainer(TunedTrainer, DistillationTrainer):  # type: ignore[misc]
            """TRL's trainer with our callbacks and checkpoints."""

        self._refuse_long(job)
        prompts = [{"prompt": row["prompt"]} for row in job.rows]
        batch = job.config.batch_size * job.config.gradient_accumulation
        row_count = math.ceil(len(prompts) / batch) * batch
        settings = {
            **job.settings,
            "train_sampling_strategy": "random",
            "include_num_input_tokens_seen": "no",  # it counts them itself
            "beta": self.beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
        }
        teacher = _match_outputs(load(self.teacher)[0], job)
        with as_tested("DistillationTrainer"):
            return assemble_trainer(
                job,
                OnPolicyTrainer,
                DistillationConfig(**settings),
                list(islice(cycle(prompts), row_count)),
                [{"prompt": row["prompt"]} for row in job.eval_rows],
                teacher_model=teacher,
            )

    def _refuse_long(self, job: TrainerInputs) -> None:
        context = getattr(job.model.config, "max_position_embeddings", None)
        prompts = [render(job.tokenizer, row["prompt"]) for row in [*job.rows, *job.eval_rows]]
        longest = max(len(token_ids(job.tokenizer, text)) for text in prompts)
        if context is not None and longest + self.max_new_tokens > context:
            raise ModelError(
                f"a prompt has {longest} tokens; with an answer of {self.max_new_tokens} it exceeds "
                f"the student's context of {context}; lower train.objective.max_new_tokens or drop "
                "the long samples"
            )


def _match_outputs(teacher: Any, job: TrainerInputs) -> Any:
    """Give the teacher the student's number of outputs, which a family may pad differently.

    Raises:
        ModelError: it has fewer.
    """
    own = job.model.config.get_text_config().vocab_size
    theirs = teacher.config.get_text_config().vocab_size
    if theirs < own:
        raise ModelError(
            f"the teacher has {theirs} outputs, the student {own}, and TRL compares equal ones "
            "only; take another teacher, or the objective 'logits'"
        )
    if theirs > own:
        teacher.resize_token_embeddings(own)
    return teacher.requires_grad_(False)
