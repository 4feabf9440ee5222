"""Train on-policy: the teacher corrects answers that the student draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from distill.learning.objective import Objective, TrainingInputs, as_tested, rows_of, train_on_rows
from distill.learning.vocabulary import same_vocabulary
from train.config import SftConfig
from train.dataset import render, token_ids
from train.loop.sft import TrainerInputs, TrainingHooks, TrainingResult
from train.methods.tuner import Tuner
from train.model.base_model import base_fingerprint
from train.model.student import load
from warehouse.errors import ModelError

if TYPE_CHECKING:
    from train.loop.callbacks import Step


@dataclass(frozen=True)
class OnPolicy(Objective):
    """Learn the local teacher's distribution over answers that the student draws in training.

    Generalised knowledge distillation on the student's own answers alone (Agarwal et al.
    2023, section 3.1, with a share of student data of 1): what it is corrected in is what
    it will meet when it answers. The samples give the prompts; what the teacher's calls
    said is not learned. The teacher sees what the student sees.

    Drawing answers takes most of the time. The last batch of an epoch is filled up with
    the first rows, since every step draws a whole one.
    """

    source: ClassVar[str] = "Agarwal et al. 2023, section 3.1"

    teacher: str
    """A local teacher with the base's vocabulary: an asset, a folder or a hub id."""
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Between 0 (forward KL) and 1 (reverse KL) lies the generalised JSD."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """At which the student's answers are drawn; it softens both distributions too."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest answer that is drawn, in tokens."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Also the content of the teacher."""
        return {**super().fingerprint, "teacher": base_fingerprint(self.teacher)}

    def ready(self, base: str) -> None:
        """See that the teacher can be had and has the base's vocabulary."""
        same_vocabulary(self.teacher, base)

    def faults(self, tuner: Tuner, config: SftConfig) -> list[str]:
        """TRL's loss calls the layers below PEFT, where virtual tokens and rows in a pack are not."""
        found = []
        if tuner.prompt_learning:
            found.append(
                "its loss does not see virtual tokens; take a tuner that changes weights, such as "
                "lora, or the objective 'logits'"
            )
        if config.packing:
            found.append("there are no rows to pack, answers are drawn; set packing = false")
        return found

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Train on answers drawn to the samples' prompts.

        Raises:
            AssetError: the teacher could not be downloaded.
            ModelError: the vocabularies differ, or a prompt and an answer do not fit the student's
                context.
            NothingToDoError: there are no samples.
            TrainingError: some are refusals.
        """
        self.ready(inputs.base)
        rows = rows_of(inputs.samples)
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
        from datasets import Dataset

        with as_tested("DistillationTrainer"):
            from trl import DistillationConfig, DistillationTrainer  # type: ignore[attr-defined]

            from train.loop.trainer import TunedTrainer

        class OnPolicyTrainer(TunedTrainer, DistillationTrainer):  # type: ignore[misc]
            """TRL's, watched and saved like all others."""

        self._refuse_long(job)
        prompts = [{"prompt": row["prompt"]} for row in job.rows]
        batch = job.config.batch_size * job.config.gradient_accumulation
        whole = math.ceil(len(prompts) / batch) * batch
        held = [{"prompt": row["prompt"]} for row in job.held]
        settings = {
            **job.settings,
            "train_sampling_strategy": "random",
            "include_num_input_tokens_seen": "no",  # it counts them itself
            "beta": self.beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
        }
        teacher = _fitted_to(load(self.teacher)[0], job)
        with as_tested("DistillationTrainer"):
            return OnPolicyTrainer(
                tuner=job.tuner,
                model=job.model,
                teacher_model=teacher,
                args=DistillationConfig(**settings),
                train_dataset=Dataset.from_list(list(islice(cycle(prompts), whole))),
                eval_dataset=Dataset.from_list(held) if held else None,
                processing_class=job.tokenizer,
                callbacks=job.callbacks,
            )

    def _refuse_long(self, job: TrainerInputs) -> None:
        context = getattr(job.model.config, "max_position_embeddings", None)
        asked = [render(job.tokenizer, row["prompt"]) for row in [*job.rows, *job.held]]
        longest = max(len(token_ids(job.tokenizer, text)) for text in asked)
        if context is not None and longest + self.max_new_tokens > context:
            raise ModelError(
                f"a prompt has {longest} tokens; with an answer of {self.max_new_tokens} it exceeds "
                f"the student's context of {context}; lower train.objective.max_new_tokens or drop "
                "the long samples"
            )


def _fitted_to(teacher: Any, job: TrainerInputs) -> Any:
    """The teacher with the student's number of outputs: one family pads them differently.

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
