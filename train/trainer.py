"""What every trainer here has beside TRL's own: watching, checkpoints by weight, a cheaper loss.

Importing this loads torch and TRL; the rest of the room imports it late.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer  # type: ignore[attr-defined]

from train.tuner import Tuner
from train.weights import load_trained, save_trained


@dataclass(frozen=True)
class Step:
    """How training stands after an optimiser step. `memory` is the most used so far, in bytes."""

    done: int
    total: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    memory: int


Watch = Callable[[Step], None]


def memory_used() -> int:
    """The most memory this process has held, in bytes: of the GPU where one is used."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Watching(TrainerCallback):
    """Tells `watch` of each step, and the tuner, which may act on the gradients."""

    def __init__(self, tuner: Tuner, watch: Watch) -> None:
        self._tuner, self._watch = tuner, watch
        self._since = time.perf_counter()
        self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._since = time.perf_counter()
        self._tokens = state.num_input_tokens_seen  # of the part before a resume

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tuner.after_step(kwargs["model"], state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        if "loss" not in logs or not state.is_world_process_zero:
            return
        spent = max(time.perf_counter() - self._since, 1e-9)
        self._watch(
            Step(
                done=state.global_step,
                total=state.max_steps,
                loss=float(logs["loss"]),
                learning_rate=float(logs.get("learning_rate", 0.0)),
                tokens_per_s=(state.num_input_tokens_seen - self._tokens) / spent,
                memory=memory_used(),
            )
        )


class ByLength(LengthGroupedSampler):  # type: ignore[misc]
    """Rows of like length together, in an order that seed and epoch alone decide, so that a
    resumed epoch goes on where it was and several processes share what one would take."""

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader as each epoch starts."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self._seed * 100_003 + self._epoch)
        return iter(super().__iter__())


class TunedTrainer:
    """Before a TRL trainer in the bases: a tuner's penalty, and checkpoints of trained weights by name.

    PEFT's own form of a prompt-learning adapter drops the encoder that training needs,
    and a model with our own modules would be written whole.
    """

    tuner: Tuner

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:  # type: ignore[attr-defined]
            folder = Path(output_dir or self.args.output_dir)  # type: ignore[attr-defined]
            save_trained(self.unwrapped, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained(self.unwrapped, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_trained(self.unwrapped, Path(self.state.best_model_checkpoint))  # type: ignore[attr-defined]

    @property
    def unwrapped(self) -> Any:
        """The model without what several processes wrap it in."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[attr-defined]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss and the tuner's penalty."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if not model.training:
            return loss
        share = getattr(self, "current_gradient_accumulation_steps", 1)
        return loss + self.tuner.penalty(self.unwrapped) / share


class CompletionTrainer(TunedTrainer, SFTTrainer):  # type: ignore[misc]
    """On a CPU, TRL's loss recomputes the output layer in tiles and also counts entropy and
    accuracy; a small model with a large vocabulary spends half of its time there. The same
    loss needs one product from the first supervised position on."""

    def __init__(self, *, tuner: Tuner, **kwargs: Any) -> None:
        self.tuner = tuner
        super().__init__(**kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        dataset = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in dataset["input_ids"]]
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return ByLength(lengths, rows * self.accelerator.num_processes, self.args.seed)

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        labels = inputs["labels"]
        supervised = (labels != -100).any(dim=0).nonzero()
        if labels.device.type != "cpu" or return_outputs or not len(supervised):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        keep = labels.shape[1] - max(int(supervised[0]), 1) + 1
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**asked, use_cache=False, logits_to_keep=keep).logits
        wanted = labels[:, 1 - keep :]
        count = (wanted != -100).sum() if num_items_in_batch is None else num_items_in_batch
        total = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), wanted.flatten(), reduction="sum"
        )
        loss = total / count
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        share = self.current_gradient_accumulation_steps if model.training else 1
        return loss + self.tuner.penalty(self.unwrapped) / share
