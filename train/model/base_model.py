"""Locate and fingerprint a student's base model by its files, without loading it."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import re
import shutil
import tempfile
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from warehouse.errors import AssetError, first_line
from warehouse.inputs import assets
from warehouse.records import make_id

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""What a hub id looks like: a name, or owner/name."""

HUB_PATIENCE_S = 5.0
"""Longest wait for the hub's word on a model, in seconds."""

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
"""What is fetched from a hub: weights as safetensors and the tokenizer; nothing pickled."""

SPEAKING_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""Files beside the weights that decide what a model says, and where it ends."""


def resolve_base(base: str) -> Path:
    """The folder of a base: an asset (unpacked once into the cache), a local folder, a hub id.

    Raises:
        AssetError: it is none of these, could not be downloaded, or holds no safetensors.
    """
    if base in assets.names("model"):
        return _unpacked(base)
    if Path(base).is_dir():
        _weights(Path(base))
        return Path(base)
    if not HUB_ID.fullmatch(base):
        raise AssetError(f"no base model '{base}'; {allowed()}")
    quiet_hub()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(base, allow_patterns=HUB_FILES))
    except (OSError, ValueError, HFValidationError) as error:
        raise AssetError(f"no base model '{base}': {first_line(error)}; {allowed()}") from error
    _weights(folder)
    return folder


def find_base(base: str) -> Path | None:
    """The folder of a base that is on this machine already; None where it has yet to be fetched.

    Raises:
        AssetError: it is neither an asset nor a folder nor like a hub id, or its folder holds no
            model.
    """
    if base in assets.names("model"):
        folder = _unpacked_folder(base)
        return folder if folder.is_dir() else None
    if Path(base).is_dir():
        _weights(Path(base))
        return Path(base)
    if not HUB_ID.fullmatch(base):
        raise AssetError(f"no base model '{base}'; {allowed()}")
    quiet_hub()
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(base, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def reach_hub(base: str) -> str | None:
    """Ask the hub for a base that is not on this machine; None where it has it, else why nobody
    can tell now.

    Raises:
        AssetError: the hub answers that there is no such model, or that it is not for everyone.
    """
    quiet_hub()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(base, timeout=HUB_PATIENCE_S)
    except RepositoryNotFoundError:
        raise AssetError(
            f"no base model '{base}': no such folder, and the hub has no such model or needs a token "
            f"for it (HF_TOKEN); {allowed()}"
        ) from None
    except Exception as error:  # the hub client has many kinds; all mean: not to be reached
        return type(error).__name__
    return None


def module_names(folder: Path) -> list[str]:
    """The modules of a base that have weights, from the headers of its files."""
    from safetensors import safe_open

    names: dict[str, None] = {}
    for file in _weights(folder):
        with safe_open(file, framework="numpy") as tensors:
            names.update((key.rpartition(".")[0], None) for key in tensors.keys())  # noqa: SIM118
    return list(names)


@dataclass(frozen=True)
class PublicBase:
    """A base as transformers and PEFT load it on another machine."""

    repo: str
    """Its hub id; of a folder of this machine the last part of its path."""
    revision: str | None = None
    """The commit that was used, where the hub's cache tells it."""
    gguf_file: str | None = None
    """The file of the repository, where the weights are a GGUF."""
    on_hub: bool = True
    """Whether a hub has it."""


def public_base(base: str) -> PublicBase:
    """How a base is named to others; never by a path of this machine.

    Raises:
        AssetError: it could not be downloaded.
    """
    if base in assets.names("model"):
        hub = assets.entry(base).hub
        if hub is None:
            return PublicBase(base, on_hub=False)
        return PublicBase(hub["repo"], hub.get("revision"), hub["file"])
    if Path(base).is_dir():
        return PublicBase(Path(base).resolve().name, on_hub=False)
    commit = resolve_base(base).name  # a snapshot's folder is called after its commit
    return PublicBase(base, commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None)


def base_fingerprint(base: str) -> str:
    """Content identity of a base, without loading it.

    An asset's SHA-256; for a folder the hash of its weights, configuration and
    tokenizer; for a hub id the id itself.
    """
    if base in assets.names("model"):
        return assets.entry(base).sha256
    folder = Path(base)
    if not folder.is_dir():
        return base
    files = [*_weights(folder), *(folder / name for name in SPEAKING_FILES)]
    return make_id("base", {file.name: _digest(file) for file in files if file.is_file()})


def elements_of(base: str) -> int:
    """Parameters of a base, from the headers of its files, without loading it.

    Raises:
        AssetError: it could not be downloaded.
    """
    from safetensors import safe_open

    count = 0
    for file in _weights(resolve_base(base)):
        with safe_open(file, framework="numpy") as tensors:
            names = tensors.keys()
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return count


def quiet() -> None:
    """Silence the progress bars and chatter of the libraries below; errors still speak."""
    import datasets
    import transformers

    quiet_hub()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # tells of optional kernels
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def quiet_hub() -> None:
    """Silence the downloads alone, without the import of the larger libraries."""
    import huggingface_hub.utils

    huggingface_hub.utils.logging.set_verbosity_error()
    huggingface_hub.utils.disable_progress_bars()


def _unpacked_folder(name: str) -> Path:
    return assets.cache_dir() / "models" / f"{assets.entry(name).sha256}-f32"


def _unpacked(name: str) -> Path:
    """An asset's GGUF as a float32 safetensors folder: made once, by one process, or not at all."""
    from filelock import FileLock

    target = _unpacked_folder(name)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return target
        for torn in target.parent.glob(f"{target.name}.part*"):
            shutil.rmtree(torn)
        source = assets.path(name)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part", dir=target.parent))
        try:
            _dequantise(source, part)
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _dequantise(source: Path, folder: Path) -> None:
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with redirect_stderr(io.StringIO()):  # its progress bar has no switch; faults are raised
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            trust_remote_code=False,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name, trust_remote_code=False
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _weights(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise AssetError(f"{folder} holds no model; it needs config.json and *.safetensors")
    return files


def _digest(file: Path) -> str:
    stat = file.stat()
    return _hashed(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def allowed() -> str:
    names = ", ".join(assets.names("model"))
    return f"allowed: an asset ({names}), a folder with safetensors, or a reachable hub id"
