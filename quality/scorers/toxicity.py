"""Score the completion's toxicity with Detoxify, or with a smaller model named in the score."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from quality.models.detox import LABELS, Detector, Unreachable, Window, local, published
from quality.scoring.scorer import Scorer, Verdict
from warehouse.errors import AssetError
from warehouse.inputs import assets
from warehouse.records import Sample

log = logging.getLogger(__name__)

_PROFANITY = "alt-profanity-check 1.9.1"
_PROFANITY_FILES = {
    "model.joblib": "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
    "vectorizer.joblib": "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
}
# A bag of words knows no place: four toxic words among fifty calm ones are lost in the sum. Of
# these windows one holds any ten words in a row whole, with ten others at most.
_WORDS, _STEP = 20, 10
_SHOWN = 80  # characters of the worst window that a verdict quotes


class ToxicityModel(Protocol):
    """A model that reads texts in windows."""

    def read(self, texts: Sequence[str]) -> list[list[Window]]:
        """The windows of each text, in order."""
        ...


@dataclass
class Toxicity(Scorer):
    """Probability that the completion is toxic: Detoxify (Hanu and Unitary, 2020).

    Texts longer than the model's window are read in overlapping windows; the worst counts, and
    `why` names it. A checkpoint is a pickle, so its SHA-256 is checked before it is opened;
    after that its weights are kept as safetensors (`quality.models.detox`).
    """

    version: ClassVar[str] = "2"
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = False
    labels: ClassVar[tuple[str, ...]] = LABELS

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
    """Let alt-profanity-check stand in where Detoxify's weights could not be downloaded."""
    embedded: bool = False
    """Score with alt-profanity-check at once: small, in English, on any machine."""

    def __post_init__(self) -> None:
        if self.checkpoint and not (self.sha256 and self.checkpoint_config):
            raise ValueError("a checkpoint needs its sha256 and its checkpoint_config folder")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 is 64 hex digits in lower case")
        if self.embedded and self.checkpoint:
            raise ValueError("embedded scores without Detoxify; drop it or the checkpoint")

    @property
    def model(self) -> str:
        """The model that really scores."""
        return self._resolved[0]

    @property
    def note(self) -> str | None:
        """Why another model than the one asked for scores; None if it does not."""
        return self._resolved[2]

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """The probability of each sample's worst window; abstains on empty text."""
        # Tokenizers take no lone surrogates; a stand-in of the same length keeps the places.
        texts = [re.sub("[\ud800-\udfff]", "\ufffd", sample.completion) for sample in samples]
        full = [text for text in texts if text.strip()]
        read = iter(self._reader.read(full) if full else [])
        for text in texts:
            yield _verdict(next(read)) if text.strip() else Verdict(None, "no completion")

    @cached_property
    def _resolved(self) -> tuple[str, Callable[[], ToxicityModel], str | None]:
        """The model's name, how to load it, and the note on it; nothing is loaded yet."""
        if self.embedded:
            return _PROFANITY, ProfanityCheck, None
        if self.checkpoint and self.checkpoint_config and self.sha256:
            config = self.tools.folder / Path(self.checkpoint_config).expanduser()
            checkpoint = self.tools.folder / Path(self.checkpoint).expanduser()
            kept = local(checkpoint, self.sha256, config)
            return f"detoxify checkpoint {self.sha256[:16]}", lambda: Detector(kept, config), None
        try:
            checkpoint = published(self.detoxify)
        except Unreachable as error:
            if not self.fallback:
                raise
            note = f"toxicity was scored by {_PROFANITY}, not by Detoxify: {error}"
            log.info(note)
            return _PROFANITY, ProfanityCheck, note
        return f"detoxify {self.detoxify}", lambda: Detector(checkpoint), None

    @cached_property
    def _reader(self) -> ToxicityModel:
        return self._resolved[1]()


class ProfanityCheck:
    """alt-profanity-check, after profanity-check (Zhou, 2019): a linear model over bags of words."""

    def __init__(self) -> None:
        spec = find_spec("profanity_check")
        if spec is None or not spec.origin:
            raise AssetError(
                "neither Detoxify's weights nor alt-profanity-check are available; "
                "connect to the network, or: pip install 'stillhouse[embedded]'"
            )
        for name, pinned in _PROFANITY_FILES.items():  # they are pickles too
            if assets.file_sha256(Path(spec.origin).parent / "data" / name) != pinned:
                raise AssetError(
                    f"{name} of alt-profanity-check is not the pinned file; "
                    "install alt-profanity-check==1.9.1"
                )

    def read(self, texts: Sequence[str]) -> list[list[Window]]:
        """Windows of twenty words, each half in the next one; equal ones are read once."""
        from profanity_check import predict_prob

        parts = [_word_windows(text) for text in texts]
        distinct = list(dict.fromkeys(part for row in parts for part in row))
        values = dict(zip(distinct, map(float, predict_prob(distinct)), strict=True))
        return [[Window(part, {"toxicity": values[part]}) for part in row] for row in parts]


def _word_windows(text: str) -> list[str]:
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    last = max(len(spans) - _WORDS, 0)
    starts = [*range(0, last, _STEP), last]
    return [text[spans[n][0] : spans[min(n + _WORDS, len(spans)) - 1][1]] for n in starts]


def _verdict(windows: Sequence[Window]) -> Verdict:
    """The worst window's toxicity; of each label its highest over the windows."""
    worst = max(range(len(windows)), key=lambda n: windows[n].values["toxicity"])
    labels = {name: max(window.values[name] for window in windows) for name in windows[0].values}
    details = {"labels": labels, "windows": len(windows), "worst_window": worst + 1}
    if len(windows) == 1:
        return Verdict(labels["toxicity"], None, details)
    text = " ".join(windows[worst].text[:_SHOWN].split())
    why = f'window {worst + 1} of {len(windows)}: "{text}..."'
    return Verdict(labels["toxicity"], why, {**details, "worst_text": text})
