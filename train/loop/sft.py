"""Train a student with TRL on audited rows; resume where it was cut off; publish it whole or not at all."""

from __future__ import annotations

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

from train.audit.audit import look_at, refusal
from train.audit.held_out_overlap import HeldOutTexts
from train.config import SftConfig, steps_of
from train.dataset import Encoded, TrainingRow
from train.loop.callbacks import Step, tell_audited
from train.loop.checkpoints import LEFT, one_after_the_other, publish, work_folder
from train.loop.tracking import ready, tracked
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
    {"step", "held_out_loss"} per look at held-out rows."""

    path: Path
    losses: list[dict[str, float]]
    audit: dict[str, Any]
    seconds: float
    versions: dict[str, str]
    trainable_parameters: int


@dataclass(frozen=True)
class TrainerInputs:
    """What a trainer is built from. `settings` are arguments that every TRL trainer takes."""

    model: Any
    tokenizer: Any
    tuner: Tuner
    rows: list[TrainingRow]
    held: list[TrainingRow]
    config: SftConfig
    settings: dict[str, Any]
    callbacks: list[Any] = field(default_factory=list)


class Unfinished(TrainingError):
    """What was made so far is kept, to go on from once what the message tells is mended."""


Build = Callable[[TrainerInputs], Any]
"""Makes the trainer of an objective; it derives from `train.loop.trainer.TunedTrainer`."""

Prepare = Callable[[Any, Any, list[TrainingRow]], list[TrainingRow]]
"""Given the untuned model, its tokenizer and rows, says which rows to train on."""

EncodeRow = Callable[[TrainingRow, Any], list[Encoded]]
"""Given a row to train on and the tokenizer, gives the sequences that go through the model."""


@dataclass(frozen=True)
class TrainingHooks:
    """How an objective departs from plain supervised fine-tuning; the defaults do not."""

    build_trainer: Build | None = None
    """Makes the trainer; left out, `sft_trainer`."""
    prepare_rows: Prepare | None = None
    """Makes of the rows that passed the audit those to train on."""
    encode_row: EncodeRow | None = None
    """What the model is given for a row; left out, the row itself."""
    fingerprint: Any = None
    """What else the student depends on; checkpoints of another fingerprint are not resumed."""
    audit_extra: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of the audit; `prepare_rows` may have filled them."""
    teacher_model: str | None = None
    """A model that is in memory while training, such as a teacher; it is counted alone."""


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

    `out` appears whole, when training is done, or not at all. A process that is killed
    leaves checkpoints beside it, and the same call resumes from the last of them. A
    `TrainingCallbacks` receives the audit before training starts, also where it is refused
    (then with the reason, `refused`).

    Args:
        base: The base model: an asset, a folder or a hub id.
        tuner: The method.
        rows: Prompts and completions to learn.
        config: The trainer's options.
        out: The student's folder; curves go to runs/<tracker> beside the folder it lies in.
        callbacks: Called with each step.
        held_out: Question and passage of what must not stand in a row.
        hooks: How the objective departs from plain supervised fine-tuning.

    Raises:
        AssetError: the base could not be downloaded.
        MissingExtraError: packing is on and FlashAttention is not installed.
        TrainingError: the audit refuses the rows, the loss is not finite, or `out` exists.
        Stopped: a callback asked training to end before its last step; a checkpoint is kept.
    """
    started = time.perf_counter()
    ready(config.track)
    quiet()
    import train.loop.trainer  # noqa: F401  (what the libraries take is not counted as training)

    before = memory.memory_before()
    model, tokenizer = load(base, tuner=tuner, packing=config.packing)
    if config.packing and not keeps_rows_apart(model):
        raise MissingExtraError(
            "packing needs FlashAttention, which keeps the rows of a sequence apart (this base "
            f"attends by '{model.config._attn_implementation}'); set train.packing = false, or "
            "install flash-attn beside a GPU"
        )
    ends = model.generation_config.eos_token_id
    audited = look_at(rows, tokenizer, config.max_length, ends, HeldOutTexts(held_out))
    from transformers import set_seed

    try:
        if why := refusal(audited.figures, config.allow):
            raise TrainingError(why)
        kept = audited.rows
        if hooks.prepare_rows is not None:
            kept = hooks.prepare_rows(model, tokenizer, kept)
        rows, held = _held_out(kept, config)
        set_seed(config.seed)
        encoded = audited.encoded
        if hooks.encode_row is not None:
            encoded = [sequence for row in kept for sequence in hooks.encode_row(row, tokenizer)]
        model = tuner.attach(model, Setting(tokenizer, rows, steps_of(len(rows), config)))
    except StillhouseError as error:
        tell_audited(callbacks, {**audited.figures, "refused": str(error)})
        raise
    trainable = sum(p.numel() for p in trained_of(model).values())
    work = out.with_name(out.name + LEFT)
    settings = _settings(config, tuner, work)
    tiled = (
        hooks.build_trainer is None and not settings["use_cpu"]
    )  # TRL then takes logits in tiles
    figures = {
        **audited.figures,
        "held_out_rows": len(held),
        "trainable_parameters": trainable,
        **memory.figures(
            model,
            encoded,
            config,
            settings,
            not tiled,
            before,
            len(encoded) // len(kept),
            hooks.teacher_model,
        ),
        **hooks.audit_extra,
    }
    tell_audited(callbacks, figures)
    if out.exists():
        raise TrainingError(f"{out} already exists; remove it or train into another folder")
    learns = config.fingerprint(tuner.learning_rate), config.processes
    with one_after_the_other():
        work_folder(work, make_id(base, table_of(tuner), learns, rows, hooks.fingerprint))
    try:
        job = TrainerInputs(model, tokenizer, tuner, rows, held, config, settings)
        losses, best = _trained(job, hooks.build_trainer or sft_trainer, callbacks, figures, out)
        figures["memory"] = memory.memory_used()
        if os.environ.get("RANK", "0") == "0":
            publish(tuner, best, base, work, out)
    except (Unfinished, AssetError):  # what is not there today may be there tomorrow
        raise
    except StillhouseError:
        shutil.rmtree(work, ignore_errors=True)  # going on from there would fail again
        raise
    return TrainingResult(
        path=out,
        losses=losses,
        audit=figures,
        seconds=time.perf_counter() - started,
        versions={name: version(name) for name in LIBRARIES},
        trainable_parameters=trainable,
    )


def sft_trainer(job: TrainerInputs) -> Any:
    """TRL's trainer for next-token loss on completions."""
    from datasets import Dataset
    from trl import SFTConfig  # type: ignore[attr-defined]

    from train.loop.trainer import CompletionTrainer

    settings = {
        **job.settings,
        "max_length": job.config.max_length,
        "completion_only_loss": True,
        "packing": job.config.packing,
        "eval_packing": False,
    }
    return CompletionTrainer(
        tuner=job.tuner,
        model=job.model,
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_list([dict(row) for row in job.rows]),
        eval_dataset=Dataset.from_list([dict(row) for row in job.held]) if job.held else None,
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
    )


def _trained(
    job: TrainerInputs,
    build: Build,
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
    follow = StopCallback(callbacks, early.patience if early else None)
    job.callbacks.extend([StepCallback(job.tuner, follow.step), follow])
    last = get_last_checkpoint(job.settings["output_dir"])
    with tracked(job.config.track, out, anew=last is None) as reporting:
        job.settings.update(reporting)
        trainer = build(job)
        trainer.remove_callback(PrinterCallback)
        if isinstance(trainer, CompletionTrainer):
            _same_tokens(trainer, figures, job)
        try:
            trainer.train(resume_from_checkpoint=last)
        except torch.OutOfMemoryError as error:
            raise Unfinished(
                "training does not fit into the GPU's memory; free some and run again, or lower "
                "train.batch_size and raise train.gradient_accumulation as much, or set "
                "train.gradient_checkpointing = true"
            ) from error
        follow.ended()
    return _losses(trainer.state.log_history), trainer.unwrapped


def _settings(config: SftConfig, tuner: Tuner, work: Path) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    settings: dict[str, Any] = {
        "output_dir": str(work),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size // config.processes,
        "per_device_eval_batch_size": config.batch_size // config.processes,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.learning_rate or tuner.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of the steps there are
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


def _held_out(
    rows: list[TrainingRow], config: SftConfig
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Rows to train on and rows to look at, parted by the seed."""
    if config.early_stopping is None:
        return rows, []
    number = max(1, round(config.early_stopping.share * len(rows)))
    if number >= len(rows):
        raise TrainingError(
            f"{format_count(len(rows), 'row')} {be(len(rows))} too few to hold some out; drop early_stopping"
        )
    held = set(random.Random(config.seed).sample(range(len(rows)), number))
    return (
        [row for index, row in enumerate(rows) if index not in held],
        [row for index, row in enumerate(rows) if index in held],
    )


def _same_tokens(trainer: Any, figures: dict[str, Any], job: TrainerInputs) -> None:
    """Hold the trainer's own data set against the audit."""
    parts = [trainer.train_dataset, *([trainer.eval_dataset] if job.held else [])]
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
