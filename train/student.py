"""The student's model: where its base is, what it is made of, loading it, asking it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from train.dataset import Encoded, encode, render, token_ids
from train.tuner import Tuner
from warehouse import assets, catalog
from warehouse.errors import AssetError, StageError
from warehouse.records import Message, make_id

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""What a hub id looks like: a name, or owner/name."""

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
"""What is fetched from a hub: weights as safetensors and the tokenizer; nothing pickled."""

SPEAKING_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Files beside the weights that decide what a model says."""


@dataclass(frozen=True)
class Generated:
    """One answer. `index` is the conversation's position; `latency_s` its share of the batch."""

    index: int
    text: str
    finish_reason: str  # stop | length
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    logprobs: list[float] | None = None  # natural, of each token; where they were wanted and known


def resolve_base(base: str) -> Path:
    """The folder of a base: an asset (unpacked once into the cache), a local folder, a hub id.

    Raises:
        AssetError: it is none of these, can not be had, or holds no safetensors.
    """
    if base in assets.names("model"):
        return _unpacked(base)
    if Path(base).is_dir():
        _weights(Path(base))
        return Path(base)
    if not HUB_ID.fullmatch(base):
        raise AssetError(f"no base model '{base}'; {_allowed()}")
    quiet()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(base, allow_patterns=HUB_FILES))
    except (OSError, ValueError, HFValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AssetError(f"no base model '{base}': {reason}; {_allowed()}") from error
    _weights(folder)
    return folder


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


FLASH = "flash_attention_2"
"""How transformers names the attention that reads where each row of a sequence begins."""

TUNER_FILE = "tuner.json"
"""Beside a student's weights: its base and its tuner's table, from which it is restored."""


def load(base: str, student: Path | None = None, tuner: Tuner | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a base, with what a student learned on it or not.

    float32 on a CPU, bfloat16 on a GPU that has it; generation is set to be greedy.
    With `tuner` the base is loaded as this tuner wants it for training.

    Raises:
        AssetError: the base can not be had or read, or has no chat template.
        StageError: `student` is not the folder of a fitted student.
    """
    learned = tuner_of(student) if student is not None else None
    folder = resolve_base(base)
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    gpu = torch.cuda.is_available()
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if gpu else "cpu"
    arguments: dict[str, Any] = {
        "dtype": torch.bfloat16 if gpu and torch.cuda.is_bf16_supported() else torch.float32,
        "use_safetensors": True,
    }
    if tuner is not None and not tuner.prompt_learning and _has_flash_attention():
        arguments["attn_implementation"] = FLASH
    method = learned or tuner
    if method is not None:
        arguments |= method.loading(training=learned is None)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, device_map=device, **arguments)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AssetError(f"base '{base}' can not be loaded: {reason}; {_allowed()}") from error
    if not tokenizer.chat_template:
        raise AssetError(f"base '{base}' has no chat template; use an instruction-tuned model")
    tokenizer.padding_side = "left"
    ends = _end_ids(model, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends[0])
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    if method is not None:
        model = method.loaded(model)
    if student is not None and learned is not None:
        model = learned.restore(model, student)
    return model.eval(), tokenizer


def keeps_rows_apart(model: Any) -> bool:
    """Whether rows that stand in one sequence do not see each other."""
    return bool(model.config._attn_implementation == FLASH)


def _has_flash_attention() -> bool:
    """Whether training may use it: a GPU with bfloat16, and the package."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return gpu and bool(is_flash_attn_2_available())


def tuner_of(student: Path) -> Tuner:
    """The tuner that made a student.

    Raises:
        StageError: the folder holds no student.
    """
    described = student / TUNER_FILE
    if not described.is_file():
        raise StageError(f"no student in {student} ({TUNER_FILE} is missing); fit it")
    tuner: Tuner = catalog.build("tuner", json.loads(described.read_text())["tuner"])
    return tuner


class Reader:
    """A loaded model that answers: the base, or a student; `loaded` is what `load` gave before."""

    def __init__(
        self, base: str, student: Path | None = None, loaded: tuple[Any, Any] | None = None
    ) -> None:
        self.model, self.tokenizer = loaded or load(base, student)
        self.context: int | None = getattr(self.model.config, "max_position_embeddings", None)
        if self.context is not None and student is not None:
            self.context -= tuner_of(student).virtual_tokens
        self._ends = set(self.model.generation_config.eos_token_id)

    def answer(
        self,
        conversations: Sequence[list[Message]],
        max_new_tokens: int,
        batch_size: int | None = None,
        advance: Callable[[int], None] = lambda n: None,
        scored: bool = False,
    ) -> Iterator[Generated]:
        """Answer greedily, longest prompts first; `index` tells which conversation.

        `batch_size` rows are answered at once; left out, as many as gain speed and fit into
        memory. A batch that a GPU has no memory for is halved. `scored`: with log-probabilities.

        Raises:
            StageError: a prompt and its answer do not fit the model's context, or the GPU.
        """
        import torch

        from train.generation import rows_at_once

        prompts = [token_ids(self.tokenizer, render(self.tokenizer, c)) for c in conversations]
        for index, why in self._beyond(prompts, max_new_tokens).items():
            raise StageError(f"conversation {index} {why}; shorten it or lower max_new_tokens")
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        while order:
            longest = len(prompts[order[0]]) + max_new_tokens
            rows = batch_size or rows_at_once(self.model, longest, len(order))
            batch = order[:rows]
            try:
                asked = [prompts[index] for index in batch]
                said = self._batch(batch, asked, max_new_tokens, scored)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise StageError(
                        f"conversation {batch[0]}, of {longest} tokens with its answer, does not "
                        "fit into the GPU's memory; shorten it or use a smaller base"
                    ) from error
                batch_size = len(batch) // 2
                continue
            yield from said
            order = order[rows:]
            advance(len(batch))

    def too_long(
        self, conversations: Sequence[list[Message]], max_new_tokens: int
    ) -> dict[int, str]:
        """Which conversations the model's context can not hold with their answers, and why not."""
        prompts = [token_ids(self.tokenizer, render(self.tokenizer, c)) for c in conversations]
        return self._beyond(prompts, max_new_tokens)

    def _beyond(self, prompts: Sequence[list[int]], max_new_tokens: int) -> dict[int, str]:
        if self.context is None:
            return {}
        return {
            index: f"has {len(ids)} tokens; with {max_new_tokens} new ones it exceeds the model's "
            f"context of {self.context}"
            for index, ids in enumerate(prompts)
            if len(ids) + max_new_tokens > self.context
        }

    def likelihood(
        self, rows: Sequence[tuple[list[Message], str]], batch_size: int = 16
    ) -> Iterator[tuple[float, int]]:
        """How likely this model finds each completion after its messages, in order.

        Yields:
            (sum of natural log-probabilities, tokens), the end-of-answer token included.

        Raises:
            ValueError: a row does not fit the model's context.
        """
        encoded = [
            encode(
                {"prompt": messages, "completion": [{"role": "assistant", "content": text}]},
                self.tokenizer,
            )
            for messages, text in rows
        ]
        for row in encoded:
            if self.context is not None and len(row.input_ids) > self.context:
                raise ValueError(
                    f"{len(row.input_ids)} tokens exceed the model's context of {self.context}"
                )
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].input_ids))
        found: dict[int, tuple[float, int]] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            sums = self._log_probabilities([encoded[index] for index in batch])
            found.update(zip(batch, sums, strict=True))
        yield from (found[index] for index in range(len(encoded)))

    def _log_probabilities(self, rows: Sequence[Encoded]) -> list[tuple[float, int]]:
        import torch

        from train.matmul import fast_products

        lengths = [len(row.input_ids) - row.start for row in rows]
        inputs = self.tokenizer.pad(
            {"input_ids": [row.input_ids for row in rows]}, return_tensors="pt"
        )
        ids = inputs["input_ids"].to(self.model.device)
        mask = inputs["attention_mask"].to(self.model.device)
        keep = max(lengths) + 1  # rows are padded on the left, so completions stand at the end
        with torch.inference_mode(), fast_products(self.model.device):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=keep,
            ).logits
            scores = torch.log_softmax(logits[:, -keep:-1].float(), dim=-1)
            said = scores.gather(-1, ids[:, -(keep - 1) :, None])[..., 0]
        return [
            (float(row[keep - 1 - length :].sum()), length)
            for row, length in zip(said, lengths, strict=True)
        ]

    def _batch(
        self, indices: list[int], prompts: list[list[int]], max_new_tokens: int, scored: bool
    ) -> list[Generated]:
        from train.generation import greedy

        started = time.perf_counter()
        pad = self.tokenizer.pad_token_id
        sure: list[list[float]] = []
        wanted = sure if scored else None
        said = greedy(self.model, prompts, max_new_tokens, self._ends, pad, wanted)
        latency_s = (time.perf_counter() - started) / len(indices)
        return [
            Generated(
                index=index,
                text=self.tokenizer.decode(
                    ids[:-1] if ids[-1] in self._ends else ids, skip_special_tokens=True
                ),
                finish_reason="stop" if ids[-1] in self._ends else "length",
                prompt_tokens=len(prompt),
                completion_tokens=len(ids),
                latency_s=latency_s,
                logprobs=sure[place] if sure else None,
            )
            for place, (index, prompt, ids) in enumerate(zip(indices, prompts, said, strict=True))
        ]


def quiet() -> None:
    """Silence the progress bars and chatter of the libraries below; errors still speak."""
    import datasets
    import huggingface_hub.utils
    import transformers

    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # tells of optional kernels
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    huggingface_hub.utils.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _unpacked(name: str) -> Path:
    """An asset's GGUF as a float32 safetensors folder: made once, by one process, or not at all."""
    from filelock import FileLock

    target = assets.cache_dir() / "models" / f"{assets.entry(name).sha256}-f32"
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
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model may know more of them than the tokenizer."""
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    if not ends:
        raise AssetError("the base has no end-of-answer token; use an instruction-tuned model")
    return sorted(ends)


def _weights(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    if not found or not (folder / "config.json").is_file():
        raise AssetError(f"{folder} holds no model; it needs config.json and *.safetensors")
    return found


def _digest(file: Path) -> str:
    stat = file.stat()
    return _hashed(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _allowed() -> str:
    known = ", ".join(assets.names("model"))
    return f"allowed: an asset ({known}), a folder with safetensors, or a reachable hub id"
