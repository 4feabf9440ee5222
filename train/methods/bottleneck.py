"""Implement the bottleneck adapter as a module. Importing this loads torch, so import it late."""

from __future__ import annotations

from typing import Any

import torch
from transformers.activations import ACT2FN

from train.methods.decoder_blocks import sublayers_of

NEAR = 1e-3
"""Standard deviation of the projections at the start; at 0 nothing would be learned."""


class Bottleneck(torch.nn.Module):
    """h + up(f(down(h))): down to `width`, a nonlinearity, up again, and a skip connection.

    It starts near the identity (Houlsby et al. 2019, section 2.1): the upward
    projection is zero and the downward one small. Shape (..., size) to (..., size).
    """

    def __init__(self, size: int, width: int, activation: str) -> None:
        super().__init__()
        self.down = torch.nn.Linear(size, width)
        self.up = torch.nn.Linear(width, size)
        self.activation = ACT2FN[activation]
        torch.nn.init.trunc_normal_(self.down.weight, std=NEAR, a=-2 * NEAR, b=2 * NEAR)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(zero)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Adapt a sublayer's output; the dtype stays."""
        inner = self.down(hidden.to(self.down.weight.dtype))
        return hidden + self.up(self.activation(inner)).to(hidden.dtype)


def insert(model: Any, width: int, activation: str) -> None:
    """Put a bottleneck after attention and feed-forward of every block, before the residual.

    Each becomes a part `bottleneck` of the sublayer whose output it adapts.

    Raises:
        ModelError: the sublayers of this base cannot be told.
    """
    size = model.config.get_text_config(decoder=True).hidden_size
    for pair in sublayers_of(model):
        for sublayer in pair:
            device = next(sublayer.parameters()).device
            sublayer.bottleneck = Bottleneck(size, width, activation).to(device)
            sublayer.register_forward_hook(_adapt)


def _adapt(sublayer: Any, inputs: Any, output: Any) -> Any:
    """The output of a sublayer, adapted; where it is a tuple, the first is the hidden state."""
    if isinstance(output, tuple):
        return (sublayer.bottleneck(output[0]), *output[1:])
    return sublayer.bottleneck(output)
