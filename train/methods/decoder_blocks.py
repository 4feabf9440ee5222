"""Find the decoder blocks of a base model of any family."""

from __future__ import annotations

import inspect
import re
from typing import Any

from warehouse.errors import ModelError

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
FEED_FORWARD = re.compile(r"mlp|feed_forward|ffn|moe", re.IGNORECASE)
BESIDE = re.compile(r"norm|dropout|(^|_)ln", re.IGNORECASE)


def blocks_of(model: Any) -> list[tuple[str, Any]]:
    """Name and module of every decoder block, in order.

    Raises:
        ModelError: the model has no list of as many modules as its configuration says.
    """
    from torch.nn import ModuleList

    number = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, ModuleList) and len(module) == number
    ]
    if not lists:
        raise ModelError(
            f"no list of {number} decoder blocks in a base of type '{model.config.model_type}'; "
            "use another base, or the tuner lora"
        )
    name, blocks = lists[0]
    return [(f"{name}.{index}", block) for index, block in enumerate(blocks)]


def sublayers_of(model: Any) -> list[tuple[Any, Any]]:
    """Attention and feed-forward of every decoder block.

    Raises:
        ModelError: a block does not have one of each, or adds its residual inside of them,
            so that what they give is not the sublayer's own output.
    """
    return [
        (_only(name, block, ATTENTION), _only(name, block, FEED_FORWARD))
        for name, block in blocks_of(model)
    ]


def _only(name: str, block: Any, pattern: re.Pattern[str]) -> Any:
    matches = {
        child: module
        for child, module in block.named_children()
        if pattern.search(child) and not BESIDE.search(child)
    }
    if len(matches) != 1:
        raise ModelError(
            f"block '{name}' of this base has {len(matches)} parts that are called like "
            f"'{pattern.pattern}' ({', '.join(n for n, _ in block.named_children())}), not one; "
            "use another base, or the tuner lora"
        )
    ((child, module),) = matches.items()
    if "residual" in inspect.signature(module.forward).parameters:
        raise ModelError(
            f"'{name}.{child}' of this base adds its residual inside, so nothing can stand before "
            "it; use another base, or the tuner lora"
        )
    return module
