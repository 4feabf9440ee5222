"""How fast Detoxify scores mixed texts, as a ratio to plain `Detoxify.predict` in the same run.

python -m tests.bench.toxicity          256 texts, a model of the shape of 'original' (BERT base)
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quality.conformance import sample_of
from quality.scorers.toxicity import Toxicity

TEXTS, LOOP, MOST = 256, 32, 510
# Half of the comments of Jigsaw's challenge have at most 36 words and the mean is 67: lognormal
# with a spread of 1.1. None is longer than what plain Detoxify reads.
MEDIAN, SPREAD = 35, 1.1
LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def make_checkpoint(
    folder: Path, words: Sequence[str], labels: Sequence[str] = LABELS, **shape: Any
) -> Path:
    """A Detoxify checkpoint with random weights and these words as its vocabulary.

    `shape` goes to BertConfig, whose defaults are BERT base; the folder also holds the
    transformers config and tokenizer.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(**{"vocab_size": len(vocabulary), "num_labels": len(labels), **shape})
    config.save_pretrained(folder)
    architecture = {
        "model_type": str(folder),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": len(labels),
    }
    made = {
        "config": {"arch": {"args": architecture}, "dataset": {"args": {"classes": [*labels]}}},
        "state_dict": BertForSequenceClassification(config).state_dict(),
    }
    torch.save(made, folder / "made.ckpt")
    return folder / "made.ckpt"


def main() -> None:
    """Print both rates, their ratio, and how far the scores lie apart."""
    from detoxify import Detoxify

    chance = random.Random(0)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "en", "il", "or", "um", "ast")]
    lengths = [
        min(MOST, max(1, round(MEDIAN * chance.lognormvariate(0, SPREAD)))) for _ in range(TEXTS)
    ]
    texts = [" ".join(chance.choices(words, k=length)) for length in lengths]
    with tempfile.TemporaryDirectory() as home:
        os.environ["STILLHOUSE_CACHE"] = home
        file = make_checkpoint(Path(home), words, initializer_range=0.05)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        plain = Detoxify(checkpoint=str(file), huggingface_config_path=home)
        scorer = Toxicity(checkpoint=str(file), checkpoint_config=home, sha256=digest)
        samples = [sample_of(text) for text in texts]
        plain.predict(texts[:2])
        list(scorer.score_batch(samples[:2]))

        wanted: list[float] = []
        plain_s = ours_s = 0.0
        for start in range(0, TEXTS, LOOP):
            if start == TEXTS // 2:  # ours in the middle: other work on the machine weighs on both
                started = time.perf_counter()
                found = [verdict.value for verdict in scorer.score_batch(samples)]
                ours_s = time.perf_counter() - started
            started = time.perf_counter()
            wanted += plain.predict(texts[start : start + LOOP])["toxicity"]
            plain_s += time.perf_counter() - started
    apart = max(abs(a - b) for a, b in zip(found, wanted, strict=True) if a is not None)
    assert None not in found
    print(
        f"Detoxify scoring: ours {TEXTS / ours_s:.1f} texts/s, plain {TEXTS / plain_s:.1f} texts/s, "
        f"ratio {plain_s / ours_s:.2f} (to reach 3.0), largest difference {apart:.1e}"
    )


if __name__ == "__main__":
    main()
