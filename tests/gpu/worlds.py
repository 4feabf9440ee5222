"""Models, rows and texts for the checks, made here: a machine with a GPU may have no network."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from train.conformance import SENTENCES, make_tokenizer
from train.dataset import TrainingRow

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


@dataclass(frozen=True)
class Shape:
    """A random Llama: layers, width, width of the MLP, heads, heads of keys, vocabulary."""

    layers: int = 2
    hidden: int = 32
    mlp: int = 64
    heads: int = 2
    kv_heads: int = 2
    vocabulary: int = 512


TINY = Shape()
SMOLLM = Shape(30, 576, 1536, 9, 3, 49152)
"""SmolLM2-135M's shape."""
TINYLLAMA = Shape(22, 2048, 5632, 32, 4, 32000)
"""TinyLlama-1.1B's shape."""


def make_base(folder: Path, shape: Shape, seed: int = 0) -> str:
    """Save a random Llama of a shape with a small tokenizer; its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=2048,
            initializer_range=0.2
            if shape == TINY
            else 0.02,  # a tiny one becomes sure of something
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=shape != TINY,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_rows(number: int, words: int = 12, seed: int = 0) -> list[TrainingRow]:
    """Questions of some random words each, of different lengths, with a short answer to learn."""
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        asked = " ".join(draw.choices(WORDS, k=draw.randint(words // 2, words)))
        answer = " ".join(draw.choices(WORDS[:6], k=4))
        rows.append(
            TrainingRow(
                prompt=[{"role": "user", "content": f"{index}: {asked}?"}],
                completion=[{"role": "assistant", "content": answer}],
            )
        )
    return rows
