"""Manage the folder of a student's checkpoints until its training is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.methods.tuner import Tuner
from train.model.student import TUNER_FILE
from warehouse.catalog import table_in

LEFT = ".work"
"""Ending of the folder beside a student that holds its checkpoints until it is whole."""


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """The first process before all others: what it cleans up they find clean."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def work_folder(work: Path, made_of: str) -> None:
    """The folder of checkpoints; what stands there of something else, or torn, is removed."""
    mark = work / "made_of"
    if work.is_dir() and not (mark.is_file() and mark.read_text() == made_of):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(made_of)
    _drop_torn(work)


def _drop_torn(work: Path) -> None:
    """Remove checkpoints that a kill cut off; what is written last into one tells them."""
    from transformers.trainer import TRAINER_STATE_NAME

    for folder in work.glob("checkpoint-*"):
        if not (folder / TRAINER_STATE_NAME).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def last_step(out: Path) -> int | None:
    """The step of the last whole checkpoint of a student that is not whole yet."""
    from transformers.trainer import TRAINER_STATE_NAME

    folders = out.with_name(out.name + LEFT).glob("checkpoint-*")
    whole = [folder for folder in folders if (folder / TRAINER_STATE_NAME).is_file()]
    return max((int(folder.name.rpartition("-")[2]) for folder in whole), default=None)


def publish(tuner: Tuner, model: Any, base: str, work: Path, out: Path) -> None:
    """Save what was learned, and say how, so that it can be restored; then move it to `out`."""
    whole = work / "student"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    tuner.save(model, whole, base)
    described = {"base": base, "tuner": table_in(tuner, whole)}
    (whole / TUNER_FILE).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    os.replace(whole, out)
    shutil.rmtree(work, ignore_errors=True)
