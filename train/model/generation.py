"""Generate greedy answers in batches, equal to `model.generate` in less time.

What all prompts begin with is read once, rows that have ended leave the batch, the output
layer is applied to the last position only, and nothing is computed beside the logits.

Importing this loads torch; the rest of the room imports it late.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from train.model.fast_matmul import fast_products
from train.model.memory import memory_there, shape_of

WORTH_SHARING = 8
"""Tokens that prompts begin with alike from which on reading them once pays for the extra pass."""

ENOUGH = {"cpu": 64, "cuda": 256}
"""Rows beyond which a device gains little: its products are large enough."""

UNKNOWN = 16
"""Rows at once where a model's configuration does not tell what a row takes."""


def rows_at_once(model: Any, length: int, rows: int) -> int:
    """How many of `rows` rows to answer at once, in batches of like size.

    As many as gain speed, within half of a GPU's free memory or an eighth of the
    machine's. `length` is that of the longest prompt with its answer, in tokens.
    """
    most = ENOUGH.get(model.device.type, UNKNOWN)
    bytes_per_row = row_bytes(model, length)
    most = min(most, max(1, _memory(model) // bytes_per_row) if bytes_per_row else UNKNOWN)
    return math.ceil(rows / math.ceil(rows / most))


def row_bytes(model: Any, length: int) -> int | None:
    """Bytes that a row of `length` tokens takes: keys and values of every layer, what one layer
    computes while the prompt is read, and logits of one position.

    Returns:
        None where the model's configuration does not tell its shape.
    """
    shape = shape_of(model)
    if shape is None:
        return None
    cached = 2 * shape.layers * shape.key_value_heads * shape.head_size
    computed = 4 * shape.hidden + 2 * shape.heads * shape.head_size + 3 * shape.feed_forward
    scores = 2 * shape.heads * length if shape.eager else 0
    element = int(model.dtype.itemsize)
    return length * (cached + computed + scores) * element + 2 * 4 * shape.vocabulary


def _memory(model: Any) -> int:
    if model.device.type != "cuda":
        return memory_there() // 8
    free = torch.cuda.mem_get_info(model.device)[0]
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return int(free + unused) // 2


def greedy(
    model: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    ends: Collection[int],
    pad: int,
    logprobs: list[list[float]] | None = None,
) -> list[list[int]]:
    """The most likely next token, again and again.

    A base with virtual tokens, or whose layers keep something else than all keys and
    values, is left to `model.generate`.

    Args:
        model: What answers.
        prompts: Token ids.
        max_new_tokens: Longest answer.
        ends: Tokens that end one.
        pad: The padding token.
        logprobs: Where a list is given, it is filled with the natural log-probabilities of each
            prompt's new tokens; it stays empty for a model that is left to `model.generate`.

    Returns:
        For each prompt its new tokens, the first end token included.
    """
    with torch.inference_mode(), fast_products(model.device):
        if _keeps_keys_and_values(model):
            return _decode(model, prompts, max_new_tokens, ends, pad, logprobs)
        return _generate(model, prompts, max_new_tokens, ends, pad)


def _keeps_keys_and_values(model: Any) -> bool:
    """Whether a forward pass beside the keys and values of all earlier tokens is one step."""
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        return False
    base = model if adapter is None else model.get_base_model()
    taken = inspect.signature(base.forward).parameters
    layers = DynamicCache(config=model.config).layers
    return {"past_key_values", "position_ids", "logits_to_keep"} <= set(taken) and all(
        type(layer) is DynamicLayer for layer in layers
    )


def _decode(
    model: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    ends: Collection[int],
    pad: int,
    logprobs: list[list[float]] | None,
) -> list[list[int]]:
    cache = DynamicCache(config=model.config)
    shared = _shared(prompts)
    if shared:
        start = torch.tensor([prompts[0][:shared]], device=model.device)
        model(input_ids=start, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
    ids, mask = _padded([prompt[shared:] for prompt in prompts], pad, model.device)
    mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    generated: list[list[int]] = [[] for _ in prompts]
    if logprobs is not None:
        logprobs.extend([] for _ in prompts)
    prompt_of_row = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    for left in range(max_new_tokens, 0, -1):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)
        tokens = ids[:, 0].tolist()
        for prompt, token in zip(prompt_of_row, tokens, strict=True):
            generated[prompt].append(token)
        if logprobs is not None:
            last = logits[:, -1].float()
            log_probability = last.amax(-1) - last.logsumexp(-1)
            for prompt, value in zip(prompt_of_row, log_probability.tolist(), strict=True):
                logprobs[prompt].append(value)
        stay = [row for row, token in enumerate(tokens) if token not in ends]
        if left == 1 or not stay:
            break
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if len(stay) < len(prompt_of_row):
            rows = torch.tensor(stay, device=model.device)
            cache.batch_select_indices(rows)
            ids, mask, positions = ids[rows], mask[rows], positions[rows]
            prompt_of_row = [prompt_of_row[row] for row in stay]
    return generated


def _shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with alike; each keeps one of its own at least."""
    if len(prompts) == 1:
        return 0
    first, last = min(prompts), max(prompts)  # in order, all others lie between these two
    most = min(len(first), len(last)) - 1
    alike = next((n for n in range(most) if first[n] != last[n]), most)
    return alike if alike >= WORTH_SHARING else 0


def _padded(prompts: Sequence[list[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """Token ids and attention mask, padded on the left; both of shape (rows, longest)."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _generate(
    model: Any, prompts: Sequence[list[int]], max_new_tokens: int, ends: Collection[int], pad: int
) -> list[list[int]]:
    ids, mask = _padded(prompts, pad, model.device)
    output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens)
    generated = []
    for tokens in output[:, ids.shape[1] :].tolist():
        end = next((n for n, token in enumerate(tokens, start=1) if token in ends), None)
        generated.append(tokens[:end])
    return generated
