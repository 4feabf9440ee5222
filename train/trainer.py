"""What every trainer here has beside TRL's own: watching, checkpoints by weight, a cheaper loss.

Importing this loads torch and TRL; the rest of the room imports it late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer  # type: ignore[attr-defined]

from train.matmul import fast_products
from train.memory import memory_used
from train.tuner import Tuner
from train.watch import Step
from train.weights import load_trained, save_tensors, save_trained, trained_of

STATE = "tuner.safetensors"
"""In a checkpoint: what the tuner remembers beside the trained weights."""


class Watching(TrainerCallback):
    """Tells `watch` of each step, and the tuner, which may act on the gradients."""

    def __init__(self, tuner: Tuner, watch: Callable[[Step], None]) -> None:
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
    """Before a TRL trainer in the bases: a tuner's penalty, rows of like length together, and
    checkpoints of trained weights by name.

    PEFT's own form of a prompt-learning adapter drops the encoder that training needs,
    and a model with our own modules would be written whole.
    """

    def __init__(self, *, tuner: Tuner, **kwargs: Any) -> None:
        self.tuner = tuner
        super().__init__(**kwargs)

    def lengths(self, dataset: Any) -> list[int]:
        """Tokens of each row of a prepared data set."""
        return [len(ids) for ids in dataset["input_ids"]]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        args: Any = self.args  # type: ignore[attr-defined]
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        dataset = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        rows = args.train_batch_size * args.gradient_accumulation_steps
        processes = self.accelerator.num_processes  # type: ignore[attr-defined]
        return ByLength(self.lengths(dataset), rows * processes, args.seed)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:  # type: ignore[attr-defined]
            folder = Path(output_dir or self.args.output_dir)  # type: ignore[attr-defined]
            save_trained(self.unwrapped, folder)
            save_tensors(self.tuner.state(self.unwrapped), folder / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_trained(self.unwrapped, folder)
        self.tuner.resume(self.unwrapped, load_file(str(folder / STATE)))

    def _load_best_model(self) -> None:
        load_trained(self.unwrapped, Path(self.state.best_model_checkpoint))  # type: ignore[attr-defined]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; what is trained is float32, also where TRL made it bfloat16 (beside a quantised
        base), in which small updates are lost."""
        for parameter in trained_of(self.unwrapped).values():
            parameter.data = parameter.data.float()
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Forward and backward."""
        with fast_products(self.args.device):  # type: ignore[attr-defined]
            return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """The loss on held-out rows."""
        with fast_products(self.args.device):  # type: ignore[attr-defined]
            return super().prediction_step(*args, **kwargs)  # type: ignore[misc]

    @property
    def unwrapped(self) -> Any:
        """The model without what several processes wrap it in."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[attr-defined]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss and the tuner's penalty."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if not model.training:
            return loss
        divided_later = getattr(self, "loss_is_scaled_for_ga", None) is False
        share = 1 if divided_later else getattr(self, "current_gradient_accumulation_steps", 1)
        return loss + self.tuner.penalty(self.unwrapped) / share


class CompletionTrainer(TunedTrainer, SFTTrainer):  # type: ignore[misc]
    """On a CPU, TRL's loss recomputes the output layer in tiles and also counts entropy and
    accuracy; a small model with a large vocabulary spends half of its time there. The same
    loss needs one product from the first supervised position on."""

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        labels = inputs["labels"]
        if labels.device.type != "cpu" or return_outputs or not (labels != -100).any():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        logits, wanted = self.completion(model, inputs)
        total = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")
        return self.averaged(total, len(wanted), num_items_in_batch, model.training)

    def completion(self, model: Any, inputs: Any) -> tuple[Any, Any]:
        """A model's logits at the supervised positions of a batch, row after row, and their labels.

        Returns:
            Tensors of shape (positions, vocabulary) and (positions,).
        """
        labels = inputs["labels"]
        first = int((labels != -100).any(dim=0).nonzero()[0])
        keep = labels.shape[1] - max(first, 1) + 1
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**asked, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]
        wanted = labels[:, 1 - keep :]
        supervised = wanted != -100
        return logits[supervised], wanted[supervised]

    def averaged(self, total: Any, count: int, num_items_in_batch: Any, training: bool) -> Any:
        """A summed loss as the share of its batch, so that accumulation and processes change
        nothing; with the tuner's penalty."""
        loss = total / (count if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        if not training:
            return loss
        return loss + self.tuner.penalty(self.unwrapped) / self.current_gradient_accumulation_steps
