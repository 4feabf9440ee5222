"""Estimate the memory of a training before it starts, and compare it with the measured use.

Parameters are counted as they are stored; activations after Korthikanti et al. 2022
(Reducing Activation Recomputation in Large Transformer Models, section 4), whose count
of what the backward pass needs of one layer is spelled out here for grouped queries, gated
feed-forward layers and the dropout of LoRA. On a CPU the process is counted too, libraries
and all, so that estimate and measurement are of the same thing.

Measured with SmolLM2-135M-Instruct in float32 on a CPU of 2 cores, SciQ rows of up to 163 tokens
in batches of 8, peak of the process over the estimate: full 0.99, lora 1.08, with its dropout 0.98,
with checkpointing too 1.27, ia3 0.90, with checkpointing 0.94, prompt 1.01, prefix 0.96, adapter
0.95, qlora 1.07; with the objective `preference`, 16 texts of 289 tokens: ia3 1.00, lora with its
dropout 0.74.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from train.config import SftConfig
from train.dataset import Encoded
from train.methods.decoder_blocks import blocks_of
from train.methods.own_weights import trained_of
from train.model.base_model import elements_of
from warehouse.errors import ModelError

FLOAT32 = 4
"""Bytes; what is trained is float32, whatever the base is."""

ADAM_STATES = 2
"""Running means of the gradient and of its square (Kingma and Ba 2015, algorithm 1)."""

RESET_PEAK = "5"
"""Written to Linux's clear_refs it sets a process's peak to what it holds (proc(5))."""

LOGIT_COPIES = 3
"""Logits, their log-probabilities and the gradient of these, in float32."""

TRANSIENT_FRACTION = 0.12
"""Of activations and logits: results held between two operations."""

ALLOCATOR_OVERHEAD = 1.5
"""Times the weights in float32, on a CPU alone: what an allocator loses among blocks of many sizes and
libraries hold beside them. Chosen so that no method measured is far off (see above); it was hardly
more for larger batches. How it grows with the base is not measured, nor anything on a GPU."""


@dataclass(frozen=True)
class Shape:
    """What of a decoder decides its activations; sizes in elements."""

    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int
    gated: bool
    vocabulary: int
    adapted: float = 0.0
    """Elements of one token that go through an adapter's dropout, per layer."""
    eager: bool = False
    """Whether attention keeps its scores; fused kernels compute them again."""
    flash: bool = False
    """Whether heads read the keys and values that they share from one place."""
    trained: bool = True
    """Whether layers are trained, or something before them alone."""
    virtual: int = 0
    """Tokens that a tuner puts before each row."""
    frozen: int = 0
    """Layers below the first trained one: no gradient goes through them."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training takes at its largest batch, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    passing: int
    """Results that are held between two operations, and what an allocator loses."""
    process: int
    """What is held before the model: the libraries, where the device is a CPU."""
    teacher: int
    """Weights of a local teacher that answers beside the student."""
    rows: int
    length: int
    checkpointing: bool

    @property
    def total(self) -> int:
        """All of it together."""
        return sum(getattr(self, part) for part in PARTS)

    def as_json(self) -> dict[str, Any]:
        """The parts and their sum as plain values."""
        return {**asdict(self), "total": self.total}


PARTS = (
    "process",
    "teacher",
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "passing",
)
"""What the sum is made of."""


@dataclass(frozen=True)
class Batch:
    """The largest batch of one process: sequences, tokens of the longest one, and how many
    positions are turned into logits at once; none, where the trainer takes them in tiles."""

    rows: int
    length: int
    logits: int


def largest(encoded: Sequence[Encoded], rows: int, max_length: int, logits: bool) -> Batch:
    """The batch of the longest rows, which training in order of length will meet.

    With `logits` those of all its supervised positions are held, which may be as many as the
    longest completions have.
    """
    lengths = sorted((min(len(row.input_ids), max_length) for row in encoded), reverse=True)
    supervised = (max(0, min(len(row.input_ids), max_length) - row.start) for row in encoded)
    positions = sum(sorted(supervised, reverse=True)[:rows]) if logits else 0
    return Batch(len(lengths[:rows]), lengths[0], positions)


def estimate(
    model: Any,
    batch: Batch,
    checkpointing: bool,
    autocast: bool,
    process: int = 0,
    teacher: int = 0,
) -> MemoryEstimate | None:
    """What training this model on a batch takes at most, in bytes.

    process + teacher's weights + weights + gradients (of trained weights) + 2 Adam states of them +
    activations + logits + `TRANSIENT_FRACTION` of these two + on a CPU `ALLOCATOR_OVERHEAD`. `autocast`: activations are of
    16 bits, whatever the weights are. `process`: what is held before the model.

    Returns:
        None where the model's configuration does not tell its shape.
    """
    shape = shape_of(model)
    if shape is None:
        return None
    batch = replace(batch, length=batch.length + shape.virtual)
    trained = FLOAT32 * sum(p.numel() for p in trained_of(model).values())
    element = 2 if autocast else model.dtype.itemsize
    activation_bytes = element * activations(shape, batch, checkpointing)
    logits = LOGIT_COPIES * FLOAT32 * batch.logits * shape.vocabulary
    factor = ALLOCATOR_OVERHEAD if model.device.type == "cpu" else 0
    overhead = factor * FLOAT32 * parameters_of(model)
    return MemoryEstimate(
        weights=sum(_bytes(p) for p in (*model.parameters(), *model.buffers())),
        gradients=trained,
        optimizer=ADAM_STATES * trained,
        activations=activation_bytes,
        logits=logits,
        passing=round(TRANSIENT_FRACTION * (activation_bytes + logits) + overhead),
        process=process,
        teacher=teacher,
        rows=batch.rows,
        length=batch.length,
        checkpointing=checkpointing,
    )


def figures(
    model: Any,
    encoded: Sequence[Encoded],
    config: SftConfig,
    trainer: Any,
    logits: bool,
    before: int,
    sequences_per_row: int = 1,
    teacher_base: str | None = None,
) -> dict[str, Any]:
    """What an audit says of a model: `parameters`, `memory_estimate` and `memory_there`.

    `trainer` are the trainer's arguments; `logits` as in `largest`; `before` is held before the
    model; `each` is how many of `encoded` a row of the batch stands for; `beside` is the base of
    another model that is loaded.
    """
    rows = config.batch_size // config.world_size * sequences_per_row
    batch = largest(encoded, rows, config.max_length, logits)
    if config.packing:
        batch = Batch(rows, config.max_length, rows * config.max_length if logits else 0)
    half = trainer["bf16"]
    teacher_bytes = elements_of(teacher_base) * (2 if half else FLOAT32) if teacher_base else 0
    checkpointing = trainer["gradient_checkpointing"]
    memory_estimate = estimate(model, batch, checkpointing, half, before, teacher_bytes)
    return {
        "parameters": parameters_of(model),
        "memory_estimate": memory_estimate.as_json() if memory_estimate else None,
        "memory_there": memory_there(),
        "memory_of": "GPU" if not trainer["use_cpu"] else "process, libraries included",
        "memory_before": before,
    }


def activations(shape: Shape, batch: Batch, checkpointing: bool) -> int:
    """Elements that the layers keep for the backward pass.

    With checkpointing each layer keeps its input alone, and one layer at a time is
    computed again (section 5); without, layers that no gradient goes through keep nothing.
    """
    tokens = batch.rows * batch.length
    layer = tokens * per_token(shape, batch.length)
    if checkpointing:
        return shape.layers * tokens * shape.hidden + layer
    return (shape.layers - shape.frozen) * layer


def per_token(shape: Shape, length: int) -> int:
    """Elements that one layer keeps of one token in a row of `length` tokens.

    Inputs of both norms and what they give (4 h), queries, keys and values, the heads' output,
    and of the feed-forward layer what goes into and comes out of its activation, gated or
    not. For the paper's shape that is 16 h, its 34 h bytes less 2 h of dropout masks. Keys and
    values that heads share are copied for each of them where rows are padded, but with
    FlashAttention. An adapter's dropout keeps a mask, and what it lets through, of all that it
    is given. Where no layer is trained, none keeps its input.
    """
    heads = 2 * shape.heads + 2 * (shape.key_value_heads if shape.flash else shape.heads)
    scores = 2 * shape.heads * length if shape.eager else 0
    feed_forward = (4 if shape.gated else 2) * shape.feed_forward
    elements = 4 * shape.hidden + heads * shape.head_size + scores + feed_forward
    inputs = 0 if shape.trained else 2 * shape.hidden + shape.feed_forward
    return elements - inputs + round(2 * shape.adapted)


def shape_of(model: Any) -> Shape | None:
    """The shape of a causal language model, as its configuration tells it."""
    config = model.config.get_text_config()
    layers, hidden = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
    heads = getattr(config, "num_attention_heads", None)
    if not (layers and hidden and heads):
        return None
    adapters = getattr(model, "peft_config", {}).values()
    prompts = [adapter for adapter in adapters if adapter.is_prompt_learning]
    attention = getattr(config, "_attn_implementation", None) or ""
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or hidden // heads,
        feed_forward=getattr(config, "intermediate_size", None) or 4 * hidden,
        gated=any("gate" in name.rpartition(".")[2] for name, _ in model.named_modules()),
        vocabulary=config.vocab_size,
        adapted=_adapted(model) / layers,
        eager=attention == "eager",
        flash="flash" in attention,
        trained=not prompts,
        frozen=0 if prompts else _frozen(model),
        virtual=sum(prompt.num_virtual_tokens for prompt in prompts if not _in_cache(prompt)),
    )


def _frozen(model: Any) -> int:
    """Layers below the first one with a trained parameter; none where it is not known."""
    trained = trained_of(model)
    ids = {id(parameter) for parameter in trained.values()}
    if any(id(parameter) in ids for parameter in model.get_input_embeddings().parameters()):
        return 0
    try:
        blocks = [f"{name}." for name, _ in blocks_of(model)]
    except ModelError:
        return 0
    learning = [at for at, block in enumerate(blocks) if any(n.startswith(block) for n in trained)]
    return min(learning, default=len(blocks))


def _in_cache(prompt: Any) -> bool:
    """Whether virtual tokens are keys and values alone, which go through no layer."""
    return str(prompt.peft_type.value) == "PREFIX_TUNING"


def _adapted(model: Any) -> int:
    """Elements of one token that LoRA's dropout takes in, over all layers."""
    return sum(
        module.in_features
        for module in model.modules()
        for dropout in getattr(module, "lora_dropout", {}).values()
        if getattr(dropout, "p", 0.0) > 0
    )


def parameters_of(model: Any) -> int:
    """Parameters of a model, those packed two to a byte counted as two."""
    return sum(
        p.numel() * (2 * p.element_size() if type(p).__name__ == "Params4bit" else 1)
        for p in model.parameters()
    )


def memory_used() -> int:
    """The most memory this process has held, in bytes: of the GPU where one is used."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_before() -> int:
    """What is held before a model is loaded, in bytes; the peak is counted from here.

    Where the system lets no process forget its peak, that of earlier stages still counts.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    with suppress(OSError):  # Linux alone has it, and a container may forbid it
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    return int(psutil.Process().memory_info().rss)


def memory_there() -> int:
    """The memory of the GPU, or of the machine where there is none, in bytes."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())
