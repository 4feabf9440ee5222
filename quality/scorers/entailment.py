"""Score whether the passage entails the completion, claim by claim, with a classifier."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from quality.scoring.lexical_support import Over, Support, split, verdict
from quality.scoring.scorer import Scorer, Verdict
from quality.text.claims import whole_characters
from warehouse.errors import AssetError
from warehouse.inputs import assets
from warehouse.records import Sample

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # nothing pickled, no code
_TOKENS = {"cpu": 2048, "cuda": 65536}  # a batch, padding included
_ALLOWED = "give `nli` a folder with config.json, tokenizer and *.safetensors, or connect"

Pair = tuple[str, str]
"""Premise and hypothesis."""


@dataclass
class Entailment(Scorer):
    """Probability that the passage entails the completion's least supported claim.

    Natural language inference as a check of faithfulness (Honovich et al., 2022: TRUE), the
    passage in overlapping windows and the claims one by one as in SummaC (Laban et al., 2022),
    by any cross-encoder with an entailment label or a MiniCheck classifier (Tang et al., 2024).
    A claim has the probability of its best window. A short answer is no statement, so its
    hypothesis is the question and the answer, joined by a space. Accepts paraphrase, which
    `grounded` does not, and errs as its model does.
    """

    version: ClassVar[str] = "2"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    needs: ClassVar[str] = "passage"
    higher_is_better: ClassVar[bool | None] = True
    labels: ClassVar[tuple[str, ...]] = ("worst", "mean", "contradiction")

    nli: str = "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli"
    """The classifier: a hub id, or a folder with safetensors, relative to the plan."""
    revision: str | None = None
    """The commit or tag of the hub id; the newest one if not given."""
    over: Over = "worst"
    """The value is that of the "worst" claim, or the "mean" over the claims."""
    window: int = 512
    """Tokens of a premise and its hypothesis together; less where the model takes less."""
    most: int = 256
    """A sample that needs more pairs of claim and window than this is abstained on."""

    def __post_init__(self) -> None:
        if not self.nli.strip():
            raise ValueError("nli is a hub id or a folder")
        if self.window < 32 or self.most < 1:
            raise ValueError("window is at least 32 tokens, most at least 1 pair")

    @cached_property
    def model(self) -> str:  # type: ignore[override]
        """The hub id, or the folder's name and the first digits of its weights' SHA-256."""
        folder = self._folder()
        if folder is None:
            return f"{self.nli}@{self.revision}" if self.revision else self.nli
        digests = [assets.file_sha256(file) for file in _weights(folder)]
        joined = digests[0] if len(digests) == 1 else _sha256("".join(digests))
        return f"{folder.resolve().name} {joined[:16]}"

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """Probability in 0..1; abstains without passage or completion, and on what is too long."""
        judge = self._classifier
        plans: list[tuple[list[str], list[Pair]] | str] = []
        windows: dict[Pair, list[dict[str, Any]]] = {}
        for sample in samples:
            plan = self._pairs(sample)
            plans.append(plan)
            if not isinstance(plan, str):
                windows.update((pair, []) for pair in plan[1])
        probabilities = judge.read(list(windows))
        for plan in plans:
            if isinstance(plan, str):
                yield Verdict(None, plan)
            else:
                yield self._verdict(plan[0], [probabilities[pair] for pair in plan[1]])

    def _pairs(self, sample: Sample) -> tuple[list[str], list[Pair]] | str:
        """The sample's claims and what is asked of each, or why it is abstained on."""
        passage = whole_characters(sample.passage or "").strip()
        parts, answer = split(sample.completion)
        if not passage:
            return "no passage"
        if not parts:
            return "no completion"
        if len(parts) > self.most:
            return f"{len(parts)} claims, more than most = {self.most}"
        question = whole_characters(sample.question).strip()
        hypotheses = [f"{question} {part}".strip() if answer else part for part in parts]
        count = self._classifier.count(passage, hypotheses)
        if isinstance(count, str):
            return count
        if count > self.most:
            return f"{count} pairs of claim and window, more than most = {self.most}"
        return parts, [(passage, hypothesis) for hypothesis in hypotheses]

    def _verdict(self, parts: list[str], probabilities: list[list[dict[str, float]]]) -> Verdict:
        supports, places, against = [], [], []
        for part, windows in zip(parts, probabilities, strict=True):
            best = max(range(len(windows)), key=lambda n: windows[n]["support"])
            value = windows[best]["support"]
            worst = [window["contradiction"] for window in windows if "contradiction" in window]
            against.append(max(worst, default=None))
            reason = f"entailed with {value:.2f}" if value < 0.5 else None
            supports.append(Support(part, value, reason))
            places.append(f"{best + 1} of {len(windows)}")
        result = verdict(supports, self.over, window=places, contradiction=against)
        known = [value for value in against if value is not None]
        if known and result.details:
            result.details["labels"]["contradiction"] = max(known)
        return result

    def _folder(self) -> Path | None:
        """The local folder of the model, or None for a hub id."""
        here = Path(self.nli).expanduser()
        for folder in (self.tools.folder / here, here):
            if folder.is_dir():
                return folder
        if not _HUB_ID.fullmatch(self.nli):
            raise AssetError(f"no NLI model '{self.nli}': there is no such folder; {_ALLOWED}")
        return None

    @cached_property
    def _classifier(self) -> Classifier:
        folder = self._folder() or _fetched(self.nli, self.revision)
        _weights(folder)
        return Classifier(folder, self.nli, self.window)


class Classifier:
    """A sequence classifier over pairs: float32 on a CPU, bfloat16 on a GPU."""

    def __init__(self, folder: Path, name: str, window: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        _quiet()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            net: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise AssetError(f"no NLI model '{name}': {_reason(error)}; {_ALLOWED}") from error
        if not self.tokenizer.is_fast:
            raise AssetError(f"NLI model '{name}' has no fast tokenizer, which windows need")
        self.net = net.eval().to(self.device)
        self.support, self.contradiction = label_positions(net.config.id2label, name)
        places = getattr(net.config, "max_position_embeddings", None) or window
        # RoBERTa's positions begin after its padding id, so two of them are never used.
        places -= 2 if net.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        self.size = min(window, self.tokenizer.model_max_length, places)
        self.special: int = self.tokenizer.num_special_tokens_to_add(pair=True)
        self.overlap = self.size // 8

    def count(self, premise: str, hypotheses: Sequence[str]) -> int | str:
        """How many windows these pairs need, or why they cannot be read."""
        length, *others = (
            len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            for text in (premise, *hypotheses)
        )
        total = 0
        for claimed in others:
            if claimed > self.size // 2:
                return f"a claim of {claimed} tokens; the model reads {self.size} at a time"
            room = self.size - self.special - claimed
            step = max(room - self.overlap, 1)
            total += 1 + max(0, -(-(length - room) // step))
        return total

    def read(self, pairs: Sequence[Pair]) -> dict[Pair, list[dict[str, float]]]:
        """The windows of each pair in order, each with its probability of `support`.

        An eighth of a window is also in the next one. `contradiction` is there where the model
        has such a label.
        """
        rows: list[tuple[Pair, dict[str, list[int]]]] = []
        for premise, hypothesis in pairs:
            coded = self.tokenizer(
                premise, hypothesis, truncation="only_first", max_length=self.size,
                stride=self.overlap, return_overflowing_tokens=True, verbose=False,
            )  # fmt: skip
            names = [name for name in self.tokenizer.model_input_names if name in coded]
            for n in range(len(coded["input_ids"])):
                rows.append(((premise, hypothesis), {name: coded[name][n] for name in names}))
        probabilities: dict[Pair, list[dict[str, float]]] = {pair: [] for pair in pairs}
        values = self._values([row for _, row in rows])
        for (pair, _), value in zip(rows, values, strict=True):
            probabilities[pair].append(value)
        return probabilities

    def _values(self, rows: list[dict[str, list[int]]]) -> list[dict[str, float]]:
        import torch

        values: dict[int, dict[str, float]] = {}
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]["input_ids"]), reverse=True)
        while order:
            fit = max(1, _TOKENS[self.device] // len(rows[order[0]]["input_ids"]))
            batch, order = order[:fit], order[fit:]
            padded = self.tokenizer.pad([rows[n] for n in batch], return_tensors="pt")
            with torch.inference_mode():
                logits = self.net(**padded.to(self.device)).logits
            for n, row in zip(batch, logits.float().softmax(-1).tolist(), strict=True):
                values[n] = {"support": row[self.support]}
                if self.contradiction is not None:
                    values[n]["contradiction"] = row[self.contradiction]
        return [values[n] for n in range(len(rows))]


def label_positions(id2label: dict[int, str], name: str) -> tuple[int, int | None]:
    """Which outputs mean supported and contradicted, by their names.

    Two outputs without names are MiniCheck's: the second one means supported.

    Raises:
        AssetError: no label says which output means supported.
    """
    labels = {int(n): label.lower() for n, label in id2label.items()}
    support = [n for n, label in labels.items() if label.startswith(("entail", "support"))]
    against = [n for n, label in labels.items() if label.startswith(("contradict", "refut"))]
    if (
        not support
        and len(labels) == 2
        and all(re.fullmatch(r"label_\d", v) for v in labels.values())
    ):
        support = [1]
    if len(support) != 1 or len(labels) < 2:
        raise AssetError(
            f"NLI model '{name}' has the labels {sorted(id2label.values())}; exactly one must "
            "begin with 'entail' or 'support': correct id2label in its config.json, or use another"
        )
    return support[0], against[0] if len(against) == 1 else None


def _fetched(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    _quiet()
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise AssetError(f"no NLI model '{hub_id}': {_reason(error)}; {_ALLOWED}") from error


def _weights(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise AssetError(f"{folder} holds no NLI model; {_ALLOWED}")
    return files


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _quiet() -> None:
    import huggingface_hub.utils
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.utils.disable_progress_bars()
