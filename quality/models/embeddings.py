"""Embed texts by sentence-transformers (Reimers and Gurevych, 2019), from safetensors only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warehouse.errors import AssetError

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
_BATCH = 64
_PIECES = 32  # of one text that are read: a book must not hold up the others
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]  # nothing pickled is even fetched
_UNWANTED = ["onnx/*", "openvino/*"]


class Encoder:
    """A sentence-transformers model by its hub id or folder; loaded once per process, on first use.

    A text longer than the model reads is encoded in pieces, and the mean of their vectors,
    weighted by their lengths, stands for it: two texts that only begin alike stay apart. Of a
    very long text 32 pieces are read, spread evenly over it.
    """

    def __init__(self, name: str = DEFAULT) -> None:
        """Name the model; nothing is loaded yet."""
        self.name = name

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector of length one per text.

        Returns:
            Array of shape (len(texts), dimensions), float32.

        Raises:
            AssetError: the package or the model could not be downloaded.
        """
        model = _load(self.name)
        pieces, owners, sizes = [], [], []
        for number, text in enumerate(texts):
            for piece, size in _pieces(model, text.encode("utf-8", "replace").decode()):
                pieces.append(piece)
                owners.append(number)
                sizes.append(size)
        width = model.get_embedding_dimension()
        vectors = np.zeros((len(texts), width), dtype=np.float32)
        if pieces:
            encoded = model.encode(
                pieces,
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
            weights = np.array(sizes, dtype=np.float32)[:, None]
            np.add.at(vectors, owners, encoded.astype(np.float32) * weights)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def _pieces(model: Any, text: str) -> list[tuple[str, int]]:
    """A text in stretches that the model reads whole, each with its number of tokens."""
    most = model.max_seq_length
    if most is None or len(text.encode()) <= most - 2:  # a token is a byte or more
        return [(text, 1)]
    tokenizer = model.tokenizer
    room = max(1, most - tokenizer.num_special_tokens_to_add())
    spans = tokenizer(
        text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    if len(spans) <= room:
        return [(text, 1)]
    step = room * -(-len(spans) // (room * _PIECES))  # at most so many, spread evenly
    stretches = [spans[n : n + room] for n in range(0, len(spans), step)]
    return [(text[part[0][0] : part[-1][1]], len(part)) for part in stretches]


@cache
def _load(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise AssetError(
            "embeddings need the package sentence-transformers; "
            "install it with: pip install 'stillhouse[embeddings]'"
        ) from None
    folder = _folder(name)
    for file in folder.rglob("*.bin"):
        if file.stem == "pytorch_model" and not file.with_name("model.safetensors").is_file():
            raise AssetError(
                f"encoder '{name}' has weights as {file.relative_to(folder)}, which is a pickle; "
                "only safetensors are read: save it again with save_pretrained"
            )
    from transformers.utils import logging as transformers_logging

    noisy = [logging.getLogger(logger) for logger in ("sentence_transformers", "transformers")]
    levels = [logger.level for logger in noisy]
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        return SentenceTransformer(
            str(folder),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise AssetError(
            f"encoder '{name}' cannot be loaded ({lines[0]}); give a hub id such as "
            f"{DEFAULT} or a folder that sentence-transformers saved"
        ) from None
    finally:
        if bar:
            transformers_logging.enable_progress_bar()
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


def _folder(name: str) -> Path:
    """Where the model lies: a folder of the user, else the hub's cache, else the hub."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    options: dict[str, Any] = {"allow_patterns": _WANTED, "ignore_patterns": _UNWANTED}
    try:
        return Path(snapshot_download(name, local_files_only=True, **options))
    except HFValidationError:
        reason = "no such folder, and no hub id"
    except Exception:  # not in the cache, or only in part
        try:
            return Path(snapshot_download(name, **options))
        except Exception as error:  # the hub client has many kinds; all mean: not to be had there
            reason = f"no such folder, and the hub did not give it: {type(error).__name__}"
    raise AssetError(
        f"encoder '{name}' could not be downloaded ({reason}); connect to the network, or give a folder "
        "that sentence-transformers saved"
    )
