"""Tokens per second, model FLOPs utilisation, and ratios to SFTTrainer and to `generate`.

MFU: 6 FLOP per weight and token, 2 forward and 4 backward, and 12 x layers x width x length for
attention (Chowdhery et al. 2022, PaLM, appendix B), over the card's dense bfloat16 peak. Where the
base is frozen its weights have no gradients: 4 and 8 instead of 6 and 12.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.bench.training import Trained, ours, peer
from tests.gpu.checks import NotHere, require_device
from tests.gpu.worlds import Shape, make_base, make_rows
from train.config import SftConfig
from train.methods.tuner import Tuner
from train.model.device import has_flash_attention
from train.model.inference import Generator

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}
"""Dense bfloat16 TFLOP/s by the vendor's data sheets; the first name that is in the card's holds."""


def card_name(where: str) -> str:
    """The card's name as the driver has it, or the processor's instruction set."""
    import torch

    if where == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"


def peak_of(card: str) -> float | None:
    """The card's dense bfloat16 FLOP/s, or None where the table does not know it."""
    words = card.replace("-", " ").split()
    for name, tflops in PEAK_TFLOPS.items():
        if all(word in words for word in name.split()):
            return tflops * 1e12
    return None


def model_flops(trained: Trained, shape: Shape, rows: int, frozen: bool) -> float:
    """FLOP that an epoch needs, by the appendix; `frozen`: without gradients of the base."""
    factor = 4 if frozen else 6
    weights = trained.body + trained.head
    attention = 2 * shape.layers * shape.hidden * (trained.tokens / rows)
    return factor * trained.tokens * (weights + attention)


def training_speed(
    where: str,
    name: str,
    tuner: Tuner,
    shape: Shape,
    folder: Path,
    rows: int = 16,
    words: int = 12,
    packing: bool = False,
    against_peer: bool = False,
) -> str:
    """Tokens per second of one epoch after a warm-up, MFU, and the ratio to SFTTrainer.

    Raises:
        NotHere: `packing` without FlashAttention.
    """
    require_device(where)
    if packing and not has_flash_attention():
        raise NotHere("packing needs FlashAttention beside a GPU")
    base = make_base(folder / "base", shape)
    config = SftConfig(
        epochs=1, batch_size=8, max_length=1024, save_steps=0, warmup_ratio=0.0, packing=packing
    )
    data = make_rows(rows, words)
    ours(data[:8], folder / "warm", base, tuner, config)
    trained = ours(data, folder / "ours", base, tuner, config)
    text = f"{trained.tokens / trained.seconds:,.0f} tokens/s"
    peak = peak_of(card_name(where)) if where == "cuda" else None
    if peak is None:
        text += ", MFU left out (no peak known for this device)"
    else:
        used = model_flops(trained, shape, rows, frozen=name != "full") / trained.seconds / peak
        text += f", MFU {used:.1%}"
    if against_peer:
        peer(data[:8], folder / "warm-peer", base, config)
        theirs = peer(data, folder / "peer", base, config)
        assert (theirs.tokens, theirs.supervised) == (trained.tokens, trained.supervised)
        text += f", {theirs.seconds / trained.seconds:.2f} times SFTTrainer's rate"
    return text


def generation_speed(
    where: str, shape: Shape, folder: Path, prompts: int = 16, new_tokens: int = 16
) -> str:
    """Tokens per second of batched answers, and the ratio to `generate` with batches of eight."""
    require_device(where)
    generator = Generator(make_base(folder / "base", shape))
    conversations = [list(row["prompt"]) for row in make_rows(prompts)]
    list(generator.answer(conversations[:8], 2))
    started = time.perf_counter()
    answers = list(generator.answer(conversations, new_tokens))
    seconds = time.perf_counter() - started
    tokens = sum(answer.completion_tokens for answer in answers)
    _generate(generator, conversations[:8], 2)
    started = time.perf_counter()
    theirs = sum(
        _generate(generator, conversations[first : first + 8], new_tokens)
        for first in range(0, prompts, 8)
    )
    their_seconds = time.perf_counter() - started
    rate, their_rate = tokens / seconds, theirs / their_seconds
    return f"{rate:,.0f} tokens/s, {rate / their_rate:.2f} times generate's rate"


def _generate(generator: Generator, conversations: list[Any], new_tokens: int) -> int:
    """Tokens that `generate` answers to a padded batch, up to each answer's end."""
    import torch

    from train.dataset import render

    model, tokenizer = generator.model, generator.tokenizer
    texts = [render(tokenizer, conversation) for conversation in conversations]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    ids, mask = (inputs[key].to(model.device) for key in ("input_ids", "attention_mask"))
    with torch.inference_mode():
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens)
    ends = set(model.generation_config.eos_token_id)
    number = 0
    for row in out[:, ids.shape[1] :].tolist():
        stop = next((at for at, token in enumerate(row) if token in ends), len(row) - 1)
        number += stop + 1
    return number
