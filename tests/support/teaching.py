"""A tiny teacher beside a tiny student: samples, stored log-probabilities, distances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import train.conformance
from quality.conformance import sample_of
from tests.support.tiny import make_tiny
from train.audit.audit import RowAudit, audit_rows, refusal
from train.dataset import TrainingRow, encode
from train.model.student import load
from warehouse.errors import TrainingError
from warehouse.records import Sample

ANSWERS = ("carbon dioxide", "The heart pumps blood.", "zero degrees", "Plants give off oxygen.")

OTHERS = ["Alle Vögel sind schon da.", "Der Mond ist aufgegangen, die gold'nen Sternlein prangen."]
"""Sentences of which another tokenizer is made."""


def sample(number: int, completion: str | None = None) -> Sample:
    """A question with one of a few answers."""
    asked = f"Which is it? {number}"
    answer = ANSWERS[number % len(ANSWERS)] if completion is None else completion
    return sample_of(answer, asked)


def row(of: Sample) -> dict[str, Any]:
    """The training row of a sample."""
    completion = [{"role": "assistant", "content": of.completion}]
    return {"prompt": of.messages, "completion": completion}


def inspect_rows(
    rows: Sequence[TrainingRow],
    tokenizer: Any,
    max_length: int,
    end_ids: Collection[int] | None = None,
    allow: Collection[str] = (),
) -> RowAudit:
    """Look at rows and refuse what would train badly, as `train.loop.sft.train_student` does."""
    audited = audit_rows(rows, tokenizer, max_length, end_ids)
    if why := refusal(audited.figures, allow):
        raise TrainingError(why)
    return audited


def make_stranger(folder: Path, monkeypatch: Any) -> str:
    """A tiny model whose tokenizer is another one."""
    monkeypatch.setattr(train.conformance, "SENTENCES", OTHERS)
    return str(make_tiny(folder, seed=1))


@cache
def model_of(base: str, student: Path | None = None) -> tuple[Any, Any]:
    """Model and tokenizer, loaded once."""
    return load(base, student)


def logits_of(model: Any, tokenizer: Any, of: Sample) -> tuple[Any, list[int], int]:
    """Logits (positions, vocabulary) that predict the supervised tokens of a sample, these
    tokens, and how many of them stand before the end of the answer."""
    import torch

    encoded = encode(row(of), tokenizer)
    with torch.inference_mode():
        logits = model(torch.tensor([encoded.input_ids]).to(model.device)).logits[0]
    ids = encoded.input_ids[encoded.start :]
    return logits[encoded.start - 1 : -1].float().cpu(), ids, ids.index(tokenizer.eos_token_id)


def stored(teacher: str, of: Sample, k: int, by_number: bool = False) -> dict[str, Any]:
    """What a call keeps of a teacher that says a sample's completion.

    As texts, up to the end of the answer, as most servers do; or with `token_id:` in place
    of texts and the end too, as vLLM does where it is told to.
    """
    model, tokenizer = model_of(teacher)
    logits, ids, answer = logits_of(model, tokenizer, of)
    scores = logits.log_softmax(-1)

    def text(number: int) -> str:
        return f"token_id:{number}" if by_number else str(tokenizer.decode([number]))

    numbers = ids if by_number else ids[:answer]
    top = [scores[n].topk(k) for n in range(len(numbers))]
    return {
        "tokens": [text(number) for number in numbers],
        "logprobs": [round(float(scores[n, number]), 4) for n, number in enumerate(numbers)],
        "top": [
            [
                [text(number), round(value, 4)]
                for number, value in zip(t.indices.tolist(), t.values.tolist(), strict=True)
            ]
            for t in top
        ],
    }


def distance(
    kind: str, teacher: str, base: str, student: Path | None, samples: Any, end: bool = True
) -> float:
    """The mean divergence at the supervised positions of samples, by `torch.distributions`;
    `end`: also at the end of the answer."""
    import torch
    from torch.distributions import Categorical, kl_divergence

    found = []
    for one in samples:
        p, q = (
            Categorical(logits=logits if end else logits[:answer])
            for name, learned in ((teacher, None), (base, student))
            for logits, _, answer in [logits_of(*model_of(name, learned), one)]
        )
        if kind == "forward_kl":
            found.append(kl_divergence(p, q))
        elif kind == "reverse_kl":
            found.append(kl_divergence(q, p))
        else:
            middle = Categorical(probs=(p.probs + q.probs) / 2)
            found.append((kl_divergence(p, middle) + kl_divergence(q, middle)) / 2)
    return float(torch.cat(found).mean())


def make_teacher(folder: Path) -> str:
    """A tiny model that is surer of what it says than a random one."""
    import torch

    model, tokenizer = load(str(make_tiny(folder / "random", seed=1)))
    with torch.no_grad():
        model.lm_head.weight *= 3
    model.save_pretrained(folder / "sure")
    tokenizer.save_pretrained(folder / "sure")
    return str(folder / "sure")
