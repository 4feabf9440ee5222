"""Toxicity of the completion: Detoxify, or a smaller model that is named when it stands in."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from quality.scorer import Scorer
from warehouse import assets
from warehouse.errors import AssetError
from warehouse.records import Sample, Score

log = logging.getLogger(__name__)

Judge = Callable[[str], tuple[float, str | None]]
"""Text -> probability of being toxic, and which part of the text gave it."""

_WINDOW, _STRIDE = 510, 382  # tokens, beside the two special ones; neighbours share a quarter
_PROFANITY = "alt-profanity-check 1.9.1"
_PROFANITY_FILES = {
    "model.joblib": "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
    "vectorizer.joblib": "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
}


@dataclass
class Toxicity(Scorer):
    """Probability that the completion is toxic: Detoxify (Hanu and Unitary, 2020).

    Texts longer than the model's window are read in overlapping windows; the worst counts.
    A checkpoint is a pickle, so its SHA-256 is checked before it is opened.
    """

    version: ClassVar[str] = "1"

    detoxify: Literal[
        "original", "unbiased", "multilingual", "original-small", "unbiased-small"
    ] = "original"
    """Which of Detoxify's published models."""
    checkpoint: str | None = None
    """A local Detoxify checkpoint instead."""
    checkpoint_config: str | None = None
    """The folder of its transformers config and tokenizer."""
    sha256: str | None = None
    """SHA-256 of the local checkpoint; required with it."""
    fallback: bool = True
    """Let alt-profanity-check stand in where Detoxify's weights can not be had."""

    def __post_init__(self) -> None:
        if self.checkpoint and not (self.sha256 and self.checkpoint_config):
            raise ValueError("a checkpoint needs its sha256 and its checkpoint_config folder")

    @property
    def model(self) -> str:
        """The model that really scores."""
        return self._resolved[0]

    @property
    def note(self) -> str | None:
        """Why another model than the one asked for scores; None if it does not."""
        return self._resolved[2]

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """One probability per sample; abstains on empty text and where the model fails."""
        judge = self._resolved[1]
        for sample in samples:
            if not sample.completion.strip():
                yield self.scored(sample, None, "no completion")
                continue
            try:
                value, why = judge(sample.completion)
            except Exception as error:  # one strange text must not cost the others their score
                log.warning("toxicity of %s failed: %s", sample.sample_id, error)
                yield self.scored(sample, None, f"the model failed: {type(error).__name__}")
                continue
            yield self.scored(sample, value, why)

    @cached_property
    def _resolved(self) -> tuple[str, Judge, str | None]:
        if self.checkpoint:
            file = Path(self.checkpoint)
            if not file.is_file():
                raise AssetError(f"no Detoxify checkpoint at {file}; mend `checkpoint`")
            if assets.file_sha256(file) != self.sha256:
                raise AssetError(f"{file} is not the file whose sha256 is in the plan; not opened")
            judge = _detoxify(str(file), self.checkpoint_config)
            return f"detoxify checkpoint {str(self.sha256)[:16]}", judge, None
        try:
            return (
                f"detoxify {self.detoxify}",
                _detoxify(str(_published(self.detoxify)), None),
                None,
            )
        except AssetError as error:
            if not self.fallback:
                raise
            judge = _profanity_check()
            note = f"toxicity was scored by {_PROFANITY}, not by Detoxify: {error}"
            log.info(note)
            return _PROFANITY, judge, note


def _published(name: str) -> Path:
    """Detoxify's published file, in the cache; its name ends in the first digits of its hash,
    by the convention of torch.hub."""
    from detoxify.detoxify import MODEL_URLS

    url: str = MODEL_URLS[name]
    file = assets.cache_dir() / "detoxify" / url.rpartition("/")[2]
    digits = file.stem.rpartition("-")[2]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        try:
            with urllib.request.urlopen(url, timeout=10) as source, part.open("wb") as sink:
                while chunk := source.read(1 << 20):
                    sink.write(chunk)
        except (urllib.error.URLError, OSError) as error:
            part.unlink(missing_ok=True)
            reason = getattr(error, "reason", error)
            raise AssetError(f"its weights can not be had ({reason})") from None
        part.replace(file)
    if not assets.file_sha256(file).startswith(digits):
        raise AssetError(f"{file} is not what its name says; delete it and run again")
    return file


def _detoxify(checkpoint: str, config: str | None) -> Judge:
    import torch
    from detoxify import Detoxify

    try:
        detector: Any = Detoxify(checkpoint=checkpoint, huggingface_config_path=config)
    except OSError as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssetError(f"its tokenizer can not be had ({told})") from None
    detector.model.eval()
    column = detector.class_names.index("toxicity")

    def judge(text: str) -> tuple[float, str | None]:
        tokens = detector.tokenizer(text, add_special_tokens=False)["input_ids"]
        starts = list(range(0, max(len(tokens) - _WINDOW, 0) + _STRIDE, _STRIDE))
        values = []
        for start in starts:
            part = detector.tokenizer.decode(tokens[start : start + _WINDOW])
            inputs = detector.tokenizer(
                part, return_tensors="pt", truncation=True, max_length=_WINDOW + 2
            )
            with torch.no_grad():
                logits = detector.model(**inputs.to(detector.model.device))[0]
            values.append(float(torch.sigmoid(logits)[0, column]))
        worst = max(range(len(values)), key=values.__getitem__)
        where = f"window {worst + 1} of {len(values)}" if len(values) > 1 else None
        return values[worst], where

    return judge


def _profanity_check() -> Judge:
    found = find_spec("profanity_check")
    if found is None or not found.origin:
        raise AssetError(
            "neither Detoxify's weights nor alt-profanity-check can be had; "
            "connect to the network, or: pip install 'stillhouse[embedded]'"
        )
    for name, pinned in _PROFANITY_FILES.items():
        if assets.file_sha256(Path(found.origin).parent / "data" / name) != pinned:
            raise AssetError(
                f"{name} of alt-profanity-check is not the pinned file; "
                "install alt-profanity-check==1.9.1"
            )
    from profanity_check import predict_prob

    return lambda text: (float(predict_prob([text])[0]), None)
