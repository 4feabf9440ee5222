"""Load a base model, with or without what a student learned on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.methods.tuner import Tuner
from train.model.base_model import allowed, quiet, resolve_base
from train.model.device import device, has_bfloat16, has_flash_attention
from warehouse import catalog
from warehouse.errors import AssetError, ModelError, NotFoundError, first_line

FLASH = "flash_attention_2"
"""How transformers names the attention that reads where each row of a sequence begins."""

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
"""Endings of files that torch and joblib unpickle."""

TUNER_FILE = "tuner.json"
"""Beside a student's weights: its base and its tuner's table, from which it is restored."""


def load(
    base: str,
    student: Path | None = None,
    tuner: Tuner | None = None,
    exact: bool = False,
    packing: bool = False,
) -> tuple[Any, Any]:
    """Model and tokenizer of a base, with what a student learned on it or not.

    float32 on a CPU, bfloat16 on a GPU that has it unless `exact`; generation is set to be greedy.
    With `tuner` the base is loaded as this tuner wants it for training, where it can be with an
    attention that keeps the rows of a sequence apart; with `packing` also where its weights are
    float32.

    Raises:
        AssetError: the base could not be downloaded or read, or has no chat template.
        NotFoundError: `student` is not the folder of a trained student.
    """
    student_tuner = tuner_of(student) if student is not None else None
    folder = resolve_base(base)
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    arguments: dict[str, Any] = {
        "dtype": torch.bfloat16 if has_bfloat16() and not exact else torch.float32,
        "device_map": device(),
        "use_safetensors": True,
    }
    method = student_tuner or tuner
    if method is not None:
        arguments |= method.loading(training=student_tuner is None)
    flash: dict[str, Any] = {}
    # In float32 it works under training's autocast alone, and answers may be drawn outside of that.
    allow_flash = packing or arguments["dtype"] == torch.bfloat16
    if tuner is not None and not tuner.prompt_learning and allow_flash and has_flash_attention():
        flash = {"attn_implementation": FLASH}
    try:
        model: Any
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, trust_remote_code=False, **arguments, **flash
            )
        except (ImportError, ValueError):
            if not flash:
                raise
            model = AutoModelForCausalLM.from_pretrained(
                folder, trust_remote_code=False, **arguments
            )  # a base without it
    except (OSError, ValueError, KeyError) as error:
        raise AssetError(
            f"base '{base}' cannot be loaded: {first_line(error)}; {allowed()}"
        ) from error
    tokenizer = load_tokenizer(base)
    tokenizer.padding_side = "left"
    ends = _end_ids(model, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends[0])
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    if method is not None:
        model = method.loaded(model)
    if student is not None and student_tuner is not None:
        model = student_tuner.restore(model, student)
    return model.eval(), tokenizer


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a base, without its model.

    Raises:
        AssetError: the base could not be downloaded or read, or has no chat template.
    """
    folder = resolve_base(base)
    quiet()
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise AssetError(
            f"base '{base}' cannot be loaded: {first_line(error)}; {allowed()}"
        ) from error
    if not tokenizer.chat_template:
        raise AssetError(f"base '{base}' has no chat template; use an instruction-tuned model")
    return tokenizer


def keeps_rows_apart(model: Any) -> bool:
    """Whether rows that stand in one sequence do not see each other."""
    return bool(model.config._attn_implementation == FLASH)


def tuner_of(student: Path) -> Tuner:
    """The tuner that made a student.

    Raises:
        ModelError: the folder holds pickled weights.
        NotFoundError: the folder holds no student.
    """
    tuner_file = student / TUNER_FILE
    if not tuner_file.is_file():
        raise NotFoundError(
            f"no student in {student} ({TUNER_FILE} is missing); run `distill train` first"
        )
    _refuse_pickles(student)
    tuner: Tuner = catalog.build("tuner", json.loads(tuner_file.read_text())["tuner"], student)
    return tuner


def _refuse_pickles(student: Path) -> None:
    """See that a student that came from elsewhere is read without running code of its author."""
    pickles = sorted(file.name for file in student.iterdir() if file.suffix in PICKLED)
    if pickles:
        raise ModelError(
            f"{student} holds {pickles[0]}, a pickle, which can run code when it is read; only "
            "safetensors are read: delete it, or save the adapter again with save_pretrained"
        )


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model may know more of them than the tokenizer."""
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    if not ends:
        raise AssetError("the base has no end-of-answer token; use an instruction-tuned model")
    return sorted(ends)
