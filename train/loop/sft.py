"""Train a student with TRL on audited rows, with checkpoints; publish it only when complete."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train.audit.audit import audit_rows, refusal
from train.audit.held_out_overlap import HeldOutTexts
from train.config import SftConfig, steps_of
from train.dataset import Encoded, TrainingRow
from train.loop.callbacks import Step, report_audit
from train.loop.checkpoints import (
    CHECKPOINTS,
    Unfinished,
    main_process_first,
    prepare_folder,
    publish,
    saving,
)
from train.loop.tracking import require_tracker, track_run
from train.methods.own_weights import trained_of
from train.methods.tuner import Setting, Tuner
from train.model import memory
from train.model.base_model import quiet
from train.model.device import has_bfloat16
from train.model.student import keeps_rows_apart, load
from warehouse.catalog import table_of
from warehouse.errors import AssetError, MissingExtraError, StillhouseError, TrainingError
from warehouse.records import make_id
from warehouse.wording import be, format_count

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets")
"""Packages whose version a student's record names."""


@dataclass(frozen=True)
class TrainingResult:
    """A trained student. `losses` has one {"step", "loss", "learning_rate"} per step, and
    {"step", "held_out_loss"} per evaluation on held-out rows."""

    path: Path
    losses: list[dict[str, float]]
    audit: dict[str, Any]
    seconds: float
    versions: dict[str, str]
    trainable_parameters: int


@dataclass(frozen=True)
class TrainerInputs:
    """Inputs of a trainer; `settings` are arguments that every TRL trainer takes."""

    model: Any
    tokenizer: Any
    tuner: Tuner
    rows: list[TrainingRow]
    eval_rows: list[TrainingRow]
    config: SftConfig
    settings: dict[str, Any]
    callbacks: list[Any] = field(default_factory=list)


BuildTrainer = Callable[[TrainerInputs], Any]
"""Builds the trainer of an objective, which derives from `train.loop.trainer.TunedTrainer`."""

PrepareRows = Callable[[Any, Any, list[TrainingRow]], list[TrainingRow]]
"""(untuned model, tokenizer, audited rows) -> rows to train on."""

EncodeRow = Callable[[TrainingRow, Any], list[Encoded]]
"""(row, tokenizer) -> the sequences that go through the model."""


@dataclass(frozen=True)
class TrainingHooks:
    """How an objective differs from supervised fine-tuning; the defaults change nothing."""

    build_trainer: BuildTrainer | None = None
    """Builds the trainer; default `sft_trainer`."""
    prepare_rows: PrepareRows | None = None
    """Turns the audited rows into those to train on."""
    encode_row: EncodeRow | None = None
    """Sequences of a row, for the memory estimate; default the row itself."""
    fingerprint: Any = None
    """What else the student depends on; other fingerprints' checkpoints are not resumed."""
    audit_extra: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of the audit, which `prepare_rows` may fill."""
    teacher_model: str | None = None
    """Another model in memory during training, for the memory estimate."""


PLAIN_SFT = TrainingHooks()
"""Supervised fine-tuning with nothing added."""


def train_student(
    base: str,
    tuner: Tuner,
    rows: Sequence[TrainingRow],
    config: SftConfig,
    out: Path,
    callbacks: Callable[[Step], None] = lambda step: None,
    held_out: Sequence[tuple[str, str | None]] = (),
    hooks: TrainingHooks = PLAIN_SFT,
) -> TrainingResult:
    """Train a student on the completions of rows, and leave it in the folder `out`.

    `out` appears only when training is complete. A killed process leaves checkpoints beside it,
    and the same call resumes from the last one. A `TrainingCallbacks` receives the audit before
    training starts, with the reason as `refused` where the audit refuses the rows.

    Args:
        base: The base model: an asset, a folder or a hub id.
        tuner: The method.
        rows: Prompts and completions to learn.
        config: The trainer's options.
        out: The student's folder; curves go to runs/<tracker> beside the folder it lies in.
        callbacks: Called with each step.
        held_out: Question and passage of items that no row may contain.
        hooks: How the objective differs from supervised fine-tuning.

    Raises:
        AssetError: the base could not be downloaded.
        MissingExtraError: packing is on and FlashAttention is not installed.
        TrainingError: the audit refuses the rows, the loss is not finite, or `out` exists.
        Stopped: a callback asked training to end before its last step; a checkpoint is kept.
    """
    started = time.perf_counter()
    require_tracker(config.track)
    quiet()
    import train.loop.trainer  # noqa: F401  (the libraries' memory is not counted as training)

    before = memory.memory_before()
    model, tokenizer = load(base, tuner=tuner, packing=config.packing)
    if config.packing and not keeps_rows_apart(model):
        raise MissingExtraError(
            "packing needs FlashAttention, which keeps the rows of a sequence apart (this base "
            f"attends by '{model.config._attn_implementation}'); set train.packing = false, or "
            "install flash-attn beside a GPU"
        )
    end_ids = model.generation_config.eos_token_id
    audited = audit_rows(rows, tokenizer, config.max_length, end_ids, HeldOutTexts(held_out))
    from transformers import set_seed

    try:
        if reason := refusal(audited.figures, config.allow):
            raise TrainingError(reason)
        kept_rows = audited.rows
        if hooks.prepare_rows is not None:
            kept_rows = hooks.prepare_rows(model, tokenizer, kept_rows)
        rows, eval_rows = _split_eval_rows(kept_rows, config)
        set_seed(config.seed)
        encoded = audited.encoded
        if hooks.encode_row is not None:
            encoded = [part for row in kept_rows for part in hooks.encode_row(row, tokenizer)]
        model = tuner.attach(model, Setting(tokenizer, rows, steps_of(len(rows), config)))
    except StillhouseError as error:
        report_audit(callbacks, {**audited.figures, "refused": str(error)})
        raise
    trainable = sum(p.numel() for p in trained_of(model).values())
    checkpoints = out.with_name(out.name + CHECKPOINTS)
    settings = _settings(config, tuner, checkpoints)
    # On a GPU, TRL's own loss never holds all logits at once.
    whole_logits = hooks.build_trainer is not None or settings["use_cpu"]
    figures = {
        **audited.figures,
        "held_out_rows": len(eval_rows),
        "trainable_parameters": trainable,
        **memory.figures(
            model,
            encoded,
            config,
            settings,
            whole_logits,
            before,
            len(encoded) // len(kept_rows),
            hooks.teacher_model,
        ),
        **hooks.audit_extra,
    }
    report_audit(callbacks, figures)
    if out.exists():
        raise TrainingError(f"{out} already exists; remove it or train into another folder")
    options = config.fingerprint(tuner.learning_rate), config.world_size
    run_id = make_id(base, table_of(tuner), options, rows, hooks.fingerprint)
    with main_process_first():
        prepare_folder(checkpoints, run_id)
    build = hooks.build_trainer or sft_trainer
    try:
        job = TrainerInputs(model, tokenizer, tuner, rows, eval_rows, config, settings)
        losses, best = _run_training(job, build, callbacks, figures, out)
        figures["memory"] = memory.memory_used()
        if os.environ.get("RANK", "0") == "0":
            with saving(checkpoints):
                publish(tuner, best, base, checkpoints, out)
    except (Unfinished, AssetError):  # resumable
        raise
    except StillhouseError:
        shutil.rmtree(checkpoints, ignore_errors=True)  # resuming would fail again
        raise
    return TrainingResult(
        path=out,
        losses=losses,
        audit=figures,
        seconds=time.perf_counter() - started,
        versions={name: version(name) for name in LIBRARIES},
        trainable_parameters=trainable,
    )


def sft_trainer(job: TrainerInputs, trainer_class: Any = None, **options: Any) -> Any:
    """Build TRL's trainer for next-token loss on completions, or a class derived from ours."""
    from trl import SFTConfig  # type: ignore[attr-defined]

    from train.loop.trainer import CompletionTrainer

    settings = {
        **job.settings,
        "max_length": job.config.max_length,
        "completion_only_loss": True,
        "packing": job.config.packing,
        "eval_packing": False,
        **options,
    }
    return assemble_trainer(
        job, trainer_class or CompletionTrainer, SFTConfig(**settings), job.rows, job.eval_rows
    )


def assemble_trainer(
    job: TrainerInputs,
    trainer_class: Any,
    args: Any,
    train_rows: Sequence[Mapping[str, Any]],
    eval_rows: Sequence[Mapping[str, Any]],
    **options: Any,
) -> Any:
    """Build a trainer on two data sets, with the model, tokenizer, tuner and callbacks of `job`."""
    return trainer_class(
        tuner=job.tuner,
        model=job.model,
        args=args,
        train_dataset=_dataset(train_rows),
        eval_dataset=_dataset(eval_rows) if eval_rows else None,
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        **options,
    )


def _dataset(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A data set of rows; where some have tools, their objects keep the keys that each one has."""
    from datasets import Dataset

    if not any("tools" in row for row in rows):
        return Dataset.from_list([dict(row) for row in rows])
    texts = [
        {**row, "tools": json.dumps(row["tools"], ensure_ascii=False) if "tools" in row else None}
        for row in rows
    ]
    return Dataset.from_list(texts, on_mixed_types="use_json")


def _run_training(
    job: TrainerInputs,
    build: BuildTrainer,
    callbacks: Callable[[Step], None],
    figures: dict[str, Any],
    out: Path,
) -> tuple[list[dict[str, float]], Any]:
    quiet()
    logging.getLogger("trl").setLevel(logging.ERROR)
    import torch
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    from train.loop.events import StopCallback
    from train.loop.trainer import CompletionTrainer, StepCallback

    early = job.config.early_stopping
    stop_callback = StopCallback(callbacks, early.patience if early else None)
    job.callbacks.extend([StepCallback(job.tuner, stop_callback.step), stop_callback])
    last_checkpoint = get_last_checkpoint(job.settings["output_dir"])
    with track_run(job.config.track, out, anew=last_checkpoint is None) as reporting:
        job.settings.update(reporting)
        trainer = build(job)
        trainer.remove_callback(PrinterCallback)
        if isinstance(trainer, CompletionTrainer):
            _require_audited_tokens(trainer, figures, job)
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint)
        except torch.OutOfMemoryError as error:
            raise Unfinished(
                "training does not fit into the GPU's memory; free some and run again, or lower "
                "train.batch_size and raise train.gradient_accumulation as much, or set "
                "train.gradient_checkpointing = true"
            ) from error
        stop_callback.ended()
    return _losses(trainer.state.log_history), trainer.unwrapped


def _settings(config: SftConfig, tuner: Tuner, folder: Path) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size // config.world_size,
        "per_device_eval_batch_size": config.batch_size // config.world_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.learning_rate or tuner.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup_ratio,  # below 1: a share of all steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
        "train_sampling_strategy": "random" if config.packing else "group_by_length",
        "use_cpu": not gpu,
        "bf16": has_bfloat16(),
        "dataloader_pin_memory": gpu,
        "include_num_input_tokens_seen": "non_padding",
        "ddp_find_unused_parameters": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 1,
        "save_total_limit": 2,
        "save_on_each_node": config.nodes > 1,  # none sees the others' files
        "report_to": "none",
        "disable_tqdm": True,
    }
    if config.early_stopping is not None:
        settings |= {
            "eval_strategy": "steps",
            "eval_steps": config.early_stopping.steps,
            "save_strategy": "steps",
            "save_steps": config.early_stopping.steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return {**settings, **tuner.trainer_settings()}


def _split_eval_rows(
    rows: list[TrainingRow], config: SftConfig
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Split the rows into training and evaluation rows, by the seed."""
    if config.early_stopping is None:
        return rows, []
    number = max(1, round(config.early_stopping.share * len(rows)))
    if number >= len(rows):
        few = f"{format_count(len(rows), 'row')} {be(len(rows))} too few"
        raise TrainingError(f"{few} to hold some out; drop early_stopping")
    eval_indices = set(random.Random(config.seed).sample(range(len(rows)), number))
    return (
        [row for index, row in enumerate(rows) if index not in eval_indices],
        [row for index, row in enumerate(rows) if index in eval_indices],
    )


def _require_audited_tokens(trainer: Any, figures: dict[str, Any], job: TrainerInputs) -> None:
    """Check that the trainer's data set has the tokens of the audit."""
    parts = [trainer.train_dataset, *([trainer.eval_dataset] if job.eval_rows else [])]
    labels = [row["labels"] for part in parts for row in part]
    supervised = sum(label != -100 for row in labels for label in row)
    rows = figures["rows_kept"] if job.config.packing else len(labels)
    if (rows, supervised) != (figures["rows_kept"], figures["supervised_tokens"]):
        raise TrainingError(
            f"the trainer sees {len(labels)} rows with {supervised} supervised tokens, the audit "
            f"{figures['rows_kept']} with {figures['supervised_tokens']}; install the pinned trl"
        )


def _losses(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    losses = []
    for entry in history:
        if "loss" in entry:
            losses.append({name: float(entry[name]) for name in ("step", "loss", "learning_rate")})
            if not math.isfinite(entry["loss"]):
                raise TrainingError(
                    f"training diverged: the loss is {entry['loss']} at step {entry['step']}; "
                    "lower train.learning_rate"
                )
        elif "eval_loss" in entry:
            losses.append(
                {"step": float(entry["step"]), "held_out_loss": float(entry["eval_loss"])}
            )
    return losses
