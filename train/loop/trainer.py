"""Extend TRL's trainers with callbacks, checkpoints of own weights and a cheaper loss.

Importing this loads torch and TRL; the rest of the room imports it late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import BatchSampler, DataLoader, Dataset
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer  # type: ignore[attr-defined]

from train.loop.callbacks import Step
from train.loop.checkpoints import saving
from train.methods.own_weights import load_trained, save_tensors, save_trained, trained_of
from train.methods.tuner import Tuner
from train.model.fast_matmul import fast_products
from train.model.memory import memory_used

STATE = "tuner.safetensors"
"""File of a checkpoint: the tuner's state besides the trained weights."""

IDLE = "idle"
"""Key of a row and batch without loss: the other processes have all rows of this step."""


class StepCallback(TrainerCallback):
    """Calls `callbacks` with each step, and the tuner, which may act on the gradients."""

    def __init__(self, tuner: Tuner, callbacks: Callable[[Step], None]) -> None:
        self._tuner, self._callbacks = tuner, callbacks
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
        seconds = max(time.perf_counter() - self._since, 1e-9)
        self._callbacks(
            Step(
                done=state.global_step,
                total=state.max_steps,
                loss=float(logs["loss"]),
                learning_rate=float(logs.get("learning_rate", 0.0)),
                tokens_per_s=(state.num_input_tokens_seen - self._tokens) / seconds,
                memory=memory_used(),
            )
        )


class ByLength(LengthGroupedSampler):  # type: ignore[misc]
    """Groups rows by length, in an order that depends on seed and epoch alone, so that a resumed
    epoch continues exactly and several processes share the batches of one."""

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


class Shares(BatchSampler):  # type: ignore[misc]
    """One process's rows of each shared batch; ~row, of another process's row, where a batch has
    fewer rows than there are processes.

    Accelerate fills up the last batch with the first rows instead, which then count twice.
    """

    def __init__(self, sampler: Any, rows: int, process: int, processes: int) -> None:
        super().__init__(sampler, rows, drop_last=False)
        self._process, self._processes = process, processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield batch[self._process :: self._processes] or [~batch[0]]


class _Rows(Dataset):  # type: ignore[misc]
    """A data set in which row ~n is row n, marked as idle."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row: dict[str, Any] = self._of[number] if number >= 0 else {**self._of[~number], IDLE: True}
        return row


@contextmanager
def output_at(model: Any, positions: Any) -> Iterator[None]:
    """Apply a model's output layer to chosen positions only, row after row.

    The logits then have shape (positions, vocabulary). Virtual tokens come before the positions
    that can be chosen.

    Args:
        model: A causal language model, also inside of PEFT's.
        positions: Of shape (rows, tokens), true where logits are wanted.
    """

    def select(layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *rest = arguments
        return (hidden[:, -positions.shape[1] :][positions.to(hidden.device)], *rest)

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


class TunedTrainer:
    """Mix-in before a TRL trainer: the tuner's penalty, batches by length that processes share,
    and checkpoints of the trained weights by name.

    PEFT's own form of a prompt-learning adapter drops the encoder that training needs, and a
    model with our own modules would be saved whole.
    """

    idle = False
    """Whether the current batch only keeps the processes in step."""

    def __init__(self, *, tuner: Tuner, **kwargs: Any) -> None:
        self.tuner = tuner
        args = kwargs["args"]
        if args.n_gpu > 1:  # of one process: TRL refuses to share a batch among several so
            args._n_gpu = 1
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

    def get_train_dataloader(self) -> Any:
        """Each process takes its share of the batch that a single one would take, the last one
        included, so that together they learn the same."""
        args: Any = self.args  # type: ignore[attr-defined]
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        processes = accelerator.num_processes
        if args.train_sampling_strategy != "group_by_length" or processes == 1:
            return super().get_train_dataloader()  # type: ignore[misc]
        dataset = self._remove_unused_columns(self.train_dataset, "Training")  # type: ignore[attr-defined]
        rows = args.train_batch_size * processes
        batches = Shares(
            self._get_train_sampler(dataset), rows, accelerator.process_index, processes
        )
        collate = self.data_collator  # type: ignore[attr-defined]

        def marked(examples: list[Any]) -> dict[str, Any]:
            batch: dict[str, Any] = collate(examples)
            return {**batch, IDLE: True} if IDLE in examples[0] else batch

        loader = DataLoader(
            _Rows(dataset),
            batch_sampler=batches,
            collate_fn=marked,
            pin_memory=args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        batches = [
            {**batch, "labels": torch.full_like(batch["labels"], -100)}
            if IDLE in batch and "labels" in batch
            else batch
            for batch in batch_samples
        ]
        return super()._get_num_items_in_batch(batches, device)  # type: ignore[misc]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Shift the warm-up by a step: none has a rate of zero, and its last has the full rate."""
        fresh = self.lr_scheduler is None  # type: ignore[has-type]
        scheduler: Any = super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        warm_up = self.args.get_warmup_steps(num_training_steps)  # type: ignore[attr-defined]
        if fresh and warm_up:
            rates = [_shift_warm_up(rate, warm_up) for rate in scheduler.lr_lambdas]
            scheduler = self.lr_scheduler = LambdaLR(scheduler.optimizer, rates)
        return scheduler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:  # type: ignore[attr-defined]
            folder = Path(output_dir or self.args.output_dir)  # type: ignore[attr-defined]
            save_trained(self.unwrapped, folder)
            save_tensors(self.tuner.state(self.unwrapped), folder / STATE)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint that cannot be written is one line."""
        with saving(Path(self.args.output_dir)):  # type: ignore[attr-defined]
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def _save_rng_state(self, output_dir: str) -> None:
        """Keep the random states of all nodes on the first, which resumes the training."""
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        args: Any = self.args  # type: ignore[attr-defined]
        if not args.save_on_each_node:
            return
        file = Path(output_dir) / f"rng_state_{args.process_index}.pth"
        for name, state in gather_object([(file.name, file.read_bytes())]):
            if args.process_index == 0 and not file.with_name(name).exists():
                file.with_name(name).write_bytes(state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_trained(self.unwrapped, folder)
        self.tuner.resume(self.unwrapped, load_file(str(folder / STATE)))

    def _load_best_model(self) -> None:
        load_trained(self.unwrapped, Path(self.state.best_model_checkpoint))  # type: ignore[attr-defined]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train in float32, also where TRL cast the trained weights of a quantised base to
        bfloat16, in which small updates are lost."""
        for parameter in trained_of(self.unwrapped).values():
            parameter.data = parameter.data.float()
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Forward and backward; `inputs` is a list, without idle rows, for on-policy training."""
        self.idle = isinstance(inputs, MutableMapping) and bool(inputs.pop(IDLE, False))
        with fast_products(self.args.device):  # type: ignore[attr-defined]
            return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]

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
        divided_later = getattr(self, "loss_is_scaled_for_ga", None) is False
        share = 1 if divided_later else getattr(self, "current_gradient_accumulation_steps", 1)
        return self._penalised(loss, share) if model.training else loss

    def _penalised(self, loss: Any, share: int) -> Any:
        return (loss * 0 if self.idle else loss) + self.tuner.penalty(self.unwrapped) / share

    def averaged(self, total: Any, count: Any, in_batch: Any, training: bool) -> Any:
        """Divide a summed loss by the size of the whole batch, and add the tuner's penalty.

        Args:
            total: The sum over this process's part.
            count: The number of its terms.
            in_batch: Terms in the batch of all processes and accumulation steps, if known.
            training: Whether to add the penalty.
        """
        args: Any = self.args  # type: ignore[attr-defined]
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        loss = total / (count if in_batch is None else in_batch)
        if args.average_tokens_across_devices and in_batch is not None:
            loss = loss * accelerator.num_processes  # gradients are averaged over them
        if not training:
            return loss
        return self._penalised(loss, self.current_gradient_accumulation_steps)  # type: ignore[attr-defined]


def _shift_warm_up(rate: Callable[[int], float], warm_up: int) -> Callable[[int], float]:
    """The schedule with its warm-up one step earlier.

    The last step of the warm-up has the full rate also where it is the last of all, at which a
    linear schedule is at zero: a training of one step would change nothing.
    """

    def shifted(step: int) -> float:
        if step >= warm_up:
            return rate(step)
        return rate(step + 1) if step + 1 < warm_up else 1.0

    return shifted


class CompletionTrainer(TunedTrainer, SFTTrainer):  # type: ignore[misc]
    """Computes TRL's loss on a CPU with one product at the supervised positions.

    TRL recomputes the output layer in tiles and adds entropy and accuracy, which is half of the
    time of a small model with a large vocabulary."""

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
        logits, targets = self.completion(model, inputs)
        total = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        return self.averaged(total, len(targets), num_items_in_batch, model.training)

    def completion(self, model: Any, inputs: Any) -> tuple[Any, Any]:
        """A model's logits at the supervised positions of a batch, row after row, and their labels.

        Returns:
            Tensors of shape (positions, vocabulary) and (positions,).
        """
        labels = inputs["labels"]
        targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
        supervised = targets != -100
        model_inputs = {name: value for name, value in inputs.items() if name != "labels"}
        with output_at(self.accelerator.unwrap_model(model), supervised):
            logits = model(**model_inputs, use_cache=False).logits
        return logits, targets[supervised]
