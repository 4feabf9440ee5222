"""Manage the folder of a student's checkpoints until its training is complete."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.methods.tuner import Tuner
from train.model.student import TUNER_FILE
from warehouse.catalog import table_in
from warehouse.errors import TrainingError, first_line

_WRITE_FAILED = re.compile(
    r"PytorchStreamWriter|inline_container|file write failed|Parent directory"
)
"""How torch words that a file could not be written, in a RuntimeError."""

CHECKPOINTS = ".work"
"""Suffix of the folder with the checkpoints of an incomplete student."""


class Unfinished(TrainingError):
    """Training can resume from saved work once the cause in the message is fixed."""


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turn files that cannot be written into one line; safetensors and torch have errors of their own.

    Raises:
        Unfinished: the disk is full, or what else keeps the files from being written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _WRITE_FAILED.search(str(error)):
            raise
        raise Unfinished(
            f"{folder} cannot be written ({first_line(error)}); free disk space or fix the "
            "permissions, then rerun; training resumes at its last checkpoint"
        ) from error


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the first process before all others, so that they find its clean-up done."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def prepare_folder(folder: Path, fingerprint: str) -> None:
    """Make the folder; remove incomplete checkpoints and those of another fingerprint."""
    mark = folder / "made_of"
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == fingerprint):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    _remove_incomplete(folder)


def _remove_incomplete(work: Path) -> None:
    """Remove incomplete checkpoints."""
    for folder in work.glob("checkpoint-*"):
        if not _is_complete(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_complete(checkpoint: Path) -> bool:
    """Whether the file that is written last is there and whole: a kill may leave it empty."""
    from transformers.trainer import TRAINER_STATE_NAME

    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def last_step(out: Path) -> int | None:
    """The step of the last complete checkpoint of an incomplete student."""
    folders = out.with_name(out.name + CHECKPOINTS).glob("checkpoint-*")
    complete = [folder for folder in folders if _is_complete(folder)]
    return max((int(folder.name.rpartition("-")[2]) for folder in complete), default=None)


def publish(tuner: Tuner, model: Any, base: str, folder: Path, out: Path) -> None:
    """Save the weights and the tuner that restores them, then move both to `out`."""
    student = folder / "student"
    shutil.rmtree(student, ignore_errors=True)
    student.mkdir()
    tuner.save(model, student, base)
    description = {"base": base, "tuner": table_in(tuner, student)}
    (student / TUNER_FILE).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
    os.replace(student, out)
    shutil.rmtree(folder, ignore_errors=True)
