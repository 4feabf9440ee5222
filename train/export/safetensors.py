"""Export a student's own weights, or a plain model with them merged in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from train.methods.tuner import Tuner
from train.model.base_model import public_base, quiet, resolve_base
from train.model.student import TUNER_FILE, load, tuner_of
from warehouse.catalog import name_of
from warehouse.errors import ExportError

Dtype = Literal["float32", "bfloat16", "float16"]

ADAPTER_CONFIG = "adapter_config.json"
"""Stands in a student's folder where PEFT alone can load it."""

_CODE = "auto_map"
"""Where a configuration names code to be run with a model; what is exported names none."""


def export_adapter(base: str, student: Path, out: Path) -> None:
    """Write what was learned, as the tuner saved it, and the base's tokenizer and chat template.

    PEFT's configuration names a base that PEFT can load: the hub id and commit. A base that is a
    folder of this machine is named by its last part alone.

    Raises:
        AssetError: the base could not be downloaded.
        ExportError: `student` is not the folder of a trained student.
    """
    tuner_of(student)
    quiet()
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(resolve_base(base), trust_remote_code=False)
    out.mkdir(parents=True)
    tokenizer.save_pretrained(out)
    _names_no_code(out)
    weight_files = [*student.glob("*.safetensors"), *student.glob("*.json")]
    for file in [*weight_files, *student.glob("*.py")]:  # the code of a tuner that is in a file
        shutil.copyfile(file, out / file.name)
    public = public_base(base)
    ours = {"base": public.repo} if Path(base).is_dir() else {}
    for_peft = {"base_model_name_or_path": public.repo, "revision": public.revision}
    for name, portable in ((TUNER_FILE, ours), (ADAPTER_CONFIG, for_peft)):
        if (out / name).is_file() and portable:
            config = {**json.loads((out / name).read_text(encoding="utf-8")), **portable}
            (out / name).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def export_merged(base: str, student: Path, out: Path, dtype: Dtype = "float32") -> None:
    """Write a model of the base's architecture that says what the student says.

    Safetensors, tokenizer, chat template, and a greedy generation configuration with every
    token that ends an answer: all that `AutoModelForCausalLM.from_pretrained` reads. The
    weights are merged in float32 and rounded once, to `dtype`.

    Raises:
        AssetError: the base could not be downloaded.
        ExportError: what this tuner learned cannot be folded into weights.
    """
    tuner = tuner_of(student)
    require_mergeable(tuner)
    model, tokenizer = load(base, student, exact=True)
    import torch

    generation = model.generation_config
    plain = tuner.merged(model.float()).to(getattr(torch, dtype))
    plain.generation_config = generation
    out.mkdir(parents=True)
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _names_no_code(out)


def require_mergeable(tuner: Tuner) -> None:
    """Raise ExportError where what a tuner learned cannot be folded into the base's weights."""
    if not tuner.mergeable:
        raise ExportError(
            f"what tuner '{name_of(tuner)}' learned cannot be folded into the base's weights, so "
            "there is neither a merged model nor a GGUF of it; allowed: --to adapter"
        )


def needs_only_peft(student: Path) -> bool:
    """Whether PEFT alone can load what was learned."""
    return (student / ADAPTER_CONFIG).is_file()


def _names_no_code(folder: Path) -> None:
    """Let no configuration name code: a reader that trusts it would fetch and run it."""
    for file in folder.glob("*.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop(_CODE, None) is not None:
            file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
