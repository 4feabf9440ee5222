"""Supervised fine-tuning of an adapter with TRL, on audited rows only."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from train.audit import inspect_rows
from train.dataset import Row
from train.student import load, quiet
from train.tuner import Tuner
from warehouse.errors import StageError

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets")
"""Packages whose version a student's record names."""


class SftConfig(BaseModel):
    """How a student is trained."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    epochs: int = Field(default=2, ge=1)
    """Passes over the rows."""
    batch_size: int = Field(default=8, ge=1)
    """Rows per forward pass."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes per step; batch 1 x 8 gives what batch 8 gives, in less memory."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; left out, the tuner's own."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=1024, ge=2)
    """Longest row in tokens, prompt and completion; more than 5 % longer ones are refused."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory, at a third more time."""
    seed: int = Field(default=0, ge=0)
    """Of the adapter's start, of dropout and of the order of rows."""


@dataclass(frozen=True)
class Fitted:
    """A fitted student. `losses` has one {"step", "loss", "learning_rate"} per step."""

    path: Path
    losses: list[dict[str, float]]
    audit: dict[str, Any]
    seconds: float
    versions: dict[str, str]
    trainable_parameters: int


def steps_of(rows: int, config: SftConfig) -> int:
    """Optimiser steps that training on so many rows takes."""
    batches = math.ceil(rows / config.batch_size)
    return config.epochs * math.ceil(batches / config.gradient_accumulation)


def fit(
    base: str,
    tuner: Tuner,
    rows: Sequence[Row],
    config: SftConfig,
    out: Path,
    advance: Callable[[int], None] = lambda n: None,
) -> Fitted:
    """Fit an adapter on the completions of rows, and leave it in the folder `out`.

    `out` appears whole, when training is done, or not at all.

    Raises:
        AssetError: the base can not be had.
        StageError: the audit refuses the rows, the loss is not finite, or `out` exists.
    """
    started = time.perf_counter()
    if out.exists():
        raise StageError(f"{out} exists already; remove it or fit into another folder")
    model, tokenizer = load(base)
    audited = inspect_rows(rows, tokenizer, config.max_length, model.generation_config.eos_token_id)
    from transformers import set_seed

    set_seed(config.seed)
    model = tuner.attach(model)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    figures = {**audited.figures, "trainable_parameters": trainable}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{out.name}.part", dir=out.parent))
    try:
        trainer = _trainer(model, tokenizer, tuner, audited.rows, config, part / "trainer", advance)
        _same_tokens(trainer, figures)
        trainer.train()
        losses = _losses(trainer.state.log_history)
        _save(trainer.model, base, part / "student")
        os.replace(part / "student", out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Fitted(
        path=out,
        losses=losses,
        audit=figures,
        seconds=time.perf_counter() - started,
        versions={name: version(name) for name in LIBRARIES},
        trainable_parameters=trainable,
    )


def _trainer(
    model: Any,
    tokenizer: Any,
    tuner: Tuner,
    rows: list[Row],
    config: SftConfig,
    folder: Path,
    advance: Callable[[int], None],
) -> Any:
    quiet()
    logging.getLogger("trl").setLevel(logging.ERROR)
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
        """On a CPU, TRL's loss projects every position through the output layer, prompts too;
        half of the time of a small model with a large vocabulary goes there. The same loss
        needs only the positions from the first supervised one on."""

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
            return (
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().flatten(0, 1), wanted.flatten(), reduction="sum"
                )
                / count
            )

    class Advance(TrainerCallback):
        """One `advance` per optimiser step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            advance(1)

    gpu = torch.cuda.is_available()
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.learning_rate or tuner.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": math.ceil(config.warmup_ratio * steps_of(len(rows), config)),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length,
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
        "completion_only_loss": True,
        "packing": False,
        "train_sampling_strategy": "group_by_length",
        "bf16": gpu and torch.cuda.is_bf16_supported(),
        "dataloader_pin_memory": gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = CompletionTrainer(
        model=model,
        args=SFTConfig(**{**settings, **tuner.trainer_settings()}),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=tokenizer,
        callbacks=[Advance()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _same_tokens(trainer: Any, figures: dict[str, Any]) -> None:
    """Hold the trainer's own data set against the audit."""
    labels = [row["labels"] for row in trainer.train_dataset]
    supervised = sum(label != -100 for row in labels for label in row)
    if (len(labels), supervised) != (figures["rows_kept"], figures["supervised_tokens"]):
        raise StageError(
            f"the trainer sees {len(labels)} rows with {supervised} supervised tokens, the audit "
            f"{figures['rows_kept']} with {figures['supervised_tokens']}; install the pinned trl"
        )


def _losses(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    losses = [
        {name: float(entry[name]) for name in ("step", "loss", "learning_rate")}
        for entry in history
        if "loss" in entry
    ]
    for entry in losses:
        if not math.isfinite(entry["loss"]):
            raise StageError(
                f"training diverged: the loss is {entry['loss']} at step {entry['step']:.0f}; "
                "lower train.learning_rate"
            )
    return losses


def _save(model: Any, base: str, folder: Path) -> None:
    """Save the adapter as safetensors, naming the base as the plan does, not where it lay."""
    model.save_pretrained(folder, safe_serialization=True)
    described = folder / "adapter_config.json"
    if described.is_file():
        config = json.loads(described.read_text())
        config["base_model_name_or_path"] = base
        described.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
