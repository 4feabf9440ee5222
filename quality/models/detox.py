"""Load Detoxify (Hanu and Unitary, 2020) with verified weights and score windows in full batches.

The package itself unpickles whatever it is given, cuts a text at 512 tokens without a word, and
pads every text to the longest of the list. Here a checkpoint's SHA-256 is checked before it is
opened, it is opened once as plain tensors only, and is kept as safetensors after that; a long
text is read in overlapping windows; windows of one length share a batch.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from warehouse.errors import AssetError
from warehouse.inputs import assets

log = logging.getLogger(__name__)

PUBLISHED = {
    "original": "c1212f89ac23307ab33932ce29dc446a6e030fb3f384a500890bbe662b7b544a",
    # Of these four only the digits at the end of the published file's name are known: by the
    # convention of torch.hub they are the first ones of its SHA-256.
    "unbiased": "c7548aa0",
    "multilingual": "0b549669",
    "original-small": "0e1d6498",
    "unbiased-small": "c8519128",
}
"""Detoxify's models -> how the SHA-256 of the file begins."""

_RELEASES = "https://github.com/unitaryai/detoxify/releases/download/"
_FILES = {  # as in `detoxify.detoxify`, whose import takes torch and transformers
    "original": "v0.1-alpha/toxic_original-c1212f89.ckpt",
    "unbiased": "v0.3-alpha/toxic_debiased-c7548aa0.ckpt",
    "multilingual": "v0.4-alpha/multilingual_debiased-0b549669.ckpt",
    "original-small": "v0.1.2/original-albert-0e1d6498.ckpt",
    "unbiased-small": "v0.1.2/unbiased-albert-c8519128.ckpt",
}

LABELS = (
    "toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack",
    "sexual_explicit",
)  # fmt: skip
"""All labels of the published models; each model knows some of them."""

_RENAMED = {  # as Detoxify does, so that all models speak of the same labels
    "toxic": "toxicity",
    "identity_hate": "identity_attack",
    "severe_toxic": "severe_toxicity",
}
_WINDOW = 512  # tokens, the two special ones included
_TOKENS = {"cpu": 8192, "cuda": 65536}  # a batch at most, padding included
_ENOUGH, _PADDED = 1024, 0.85  # tokens that are worth a batch; the least share of the longest
_WEIGHTS, _CHECKPOINT, _DIGESTS = "model.safetensors", "checkpoint.json", "digests.json"
_SETTINGS = "transformers"  # the folder of config and tokenizer
_ARCHITECTURE = ("model_type", "model_name", "tokenizer_name", "num_classes")


class Unreachable(AssetError):
    """A model that could not be downloaded; another may stand in. One that fails its hash is no such case."""


@dataclass(frozen=True)
class Window:
    """A stretch of a text, and what the model says of it."""

    text: str
    values: dict[str, float]


def published(name: str) -> Path:
    """The folder in the cache that holds a published model, fetched if it is not there.

    Raises:
        Unreachable: it could not be downloaded.
        AssetError: what was had is not the published file.
    """
    digest = PUBLISHED[name]
    with _locked() as home:
        for settings in home.glob(f"{digest}*/{_SETTINGS}"):
            return settings.parent
        url = _RELEASES + _FILES[name]
        laid = home / url.rpartition("/")[2]  # put there by hand, on a machine without network
        if laid.is_file():
            return _keep(laid, digest, home, None)
        with tempfile.TemporaryDirectory(dir=home) as part:
            return _keep(_fetch(url, Path(part) / laid.name), digest, home, None)


def local(file: Path, sha256: str, config: Path) -> Path:
    """The folder in the cache that holds a local checkpoint's weights.

    Raises:
        AssetError: the file is not there or is not the one whose hash is given.
    """
    with _locked() as home:
        if (home / sha256).is_dir():
            return home / sha256
        if not file.is_file():
            raise AssetError(f"no Detoxify checkpoint at {file}; correct `checkpoint`")
        return _keep(file, sha256, home, config)


class Detector:
    """A Detoxify model and its tokenizer.

    Texts are read in float32 on a CPU and in bfloat16 on a GPU.
    """

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        import torch
        from safetensors.torch import load_file

        _verify(folder)
        checkpoint = json.loads((folder / _CHECKPOINT).read_text(encoding="utf-8"))
        self.names = [_RENAMED.get(name, name) for name in checkpoint["classes"]]
        if "toxicity" not in self.names:
            raise AssetError(f"the checkpoint's classes have no toxicity: {self.names}")
        architecture, settings, self.tokenizer = _parts(checkpoint, config or folder / _SETTINGS)
        model = architecture(settings)
        lacking, _ = model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
        if lacking:
            raise AssetError(f"the checkpoint does not fit its config: it has no {lacking[0]}")
        self.size = min(_WINDOW, self.tokenizer.model_max_length, settings.max_position_embeddings)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.net = model.eval().to(self.device, dtype)

    def read(self, texts: Sequence[str]) -> list[list[Window]]:
        """The windows of each text, in order; a quarter of each is also in the next one.

        Windows with the same tokens are read once.
        """
        coded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.size,
            stride=self.size // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        ids = [tuple(row) for row in coded["input_ids"]]
        values = self._values(sorted(set(ids), key=len, reverse=True))
        windows: list[list[Window]] = [[] for _ in texts]
        rows = zip(ids, coded["overflow_to_sample_mapping"], coded["offset_mapping"], strict=True)
        for row, number, spans in rows:
            nonempty = [span for span in spans if span[1] > span[0]] or [(0, 0)]
            text = texts[number][nonempty[0][0] : nonempty[-1][1]]
            windows[number].append(Window(text, values[row]))
        return windows

    def _values(
        self, windows: Sequence[tuple[int, ...]]
    ) -> dict[tuple[int, ...], dict[str, float]]:
        import torch

        values = {}
        for batch in _batches(windows, _TOKENS[self.device]):
            longest = len(batch[0])
            filler = self.tokenizer.pad_token_id
            padded = [[*row, *[filler] * (longest - len(row))] for row in batch]
            ids = torch.tensor(padded)
            mask = torch.arange(longest) < torch.tensor([[len(row)] for row in batch])
            with torch.inference_mode():
                logits = self.net(
                    input_ids=ids.to(self.device), attention_mask=mask.long().to(self.device)
                ).logits
            # The unbiased models have nine more outputs, of identities that a text mentions;
            # they come last and, as in Detoxify, have no name.
            for row, line in zip(batch, logits.float().sigmoid().tolist(), strict=True):
                values[row] = dict(zip(self.names, line, strict=False))
        return values


def _batches(windows: Sequence[tuple[int, ...]], budget: int) -> Iterator[list[tuple[int, ...]]]:
    """Windows, longest first, in batches of at most `budget` tokens when padded.

    A batch that is large enough to be worth its start ends early rather than pad much.
    """
    batch: list[tuple[int, ...]] = []
    for window in windows:
        if batch:
            longest, tokens = len(batch[0]), len(batch) * len(batch[0])
            shorter = len(window) < _PADDED * longest and tokens >= _ENOUGH
            if shorter or tokens + longest > budget:
                yield batch
                batch = []
        batch.append(window)
    if batch:
        yield batch


@contextmanager
def _locked() -> Iterator[Path]:
    home = assets.cache_dir() / "detoxify"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".lock"):  # two processes do not convert the same file side by side
        yield home


def _fetch(url: str, target: Path) -> Path:
    try:
        with urllib.request.urlopen(url, timeout=10) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        raise Unreachable(
            f"its weights could not be downloaded ({getattr(error, 'reason', error)})"
        ) from None
    return target


def _keep(file: Path, sha256: str, home: Path, config: Path | None) -> Path:
    """Check a checkpoint, then keep it as safetensors in a folder named after its full hash."""
    digest = assets.file_sha256(file)
    if not digest.startswith(sha256):
        raise AssetError(
            f"{file} has SHA-256 {digest[:12]}..., not {sha256[:12]}...; it was not opened"
        )
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        parts = {
            **{key: loaded["config"]["arch"]["args"][key] for key in _ARCHITECTURE},
            "classes": list(loaded["config"]["dataset"]["args"]["classes"]),
        }
        weights = {key: tensor.clone() for key, tensor in loaded["state_dict"].items()}
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(
            f"{file} is no Detoxify checkpoint (a dict of `config` and `state_dict`, "
            f"tensors and plain values only): {type(error).__name__}"
        ) from None
    target = home / digest
    with tempfile.TemporaryDirectory(dir=home) as folder:
        part = Path(folder) / digest
        part.mkdir()
        if config is None:  # kept beside the weights, so that a later run needs no network
            _, settings, tokenizer = _parts(parts, None)
            settings.save_pretrained(part / _SETTINGS)
            tokenizer.save_pretrained(part / _SETTINGS)
        save_file(weights, part / _WEIGHTS)
        (part / _CHECKPOINT).write_text(json.dumps(parts, indent=2), encoding="utf-8")
        (part / _DIGESTS).write_text(json.dumps(_digests(part), indent=2), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)  # kept without settings, as a local checkpoint
        os.replace(part, target)
    log.info("Detoxify's %s is kept as safetensors in %s", file.name, target)
    return target


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != _DIGESTS)
    return {file.relative_to(folder).as_posix(): assets.file_sha256(file) for file in files}


def _verify(folder: Path) -> None:
    text = folder / _DIGESTS
    if not text.is_file() or _digests(folder) != json.loads(text.read_text(encoding="utf-8")):
        raise AssetError(f"{folder} is not as it was written; delete that folder and run again")


def _parts(checkpoint: dict[str, Any], config: Path | None) -> tuple[Any, Any, Any]:
    """Architecture, settings and tokenizer: from a folder, else from the hub."""
    import transformers

    names = checkpoint["model_name"], checkpoint["tokenizer_name"]
    wanted = r"\w+ForSequenceClassification", r"\w+Tokenizer(Fast)?"
    if not all(re.fullmatch(*pair) for pair in zip(wanted, names, strict=True)):
        raise AssetError(
            f"the checkpoint names no classifier and tokenizer of transformers: {names}"
        )
    architecture, tokenizer = (getattr(transformers, name) for name in names)
    source = str(config or checkpoint["model_type"])
    here = config is not None
    try:
        settings = architecture.config_class.from_pretrained(
            source,
            num_labels=checkpoint["num_classes"],
            local_files_only=here,
            trust_remote_code=False,
        )
        return (
            architecture,
            settings,
            tokenizer.from_pretrained(source, local_files_only=here, trust_remote_code=False),
        )
    except OSError as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreachable(f"its tokenizer could not be downloaded ({text})") from None
