"""Correct the positions of PEFT's prompt learning. Importing this loads torch and PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM

from warehouse.errors import ModelError, first_line


class Prompted(PeftModelForCausalLM):  # type: ignore[misc]
    """A base with virtual tokens before its input.

    PEFT drops the position ids where the virtual tokens are embeddings, so padding on the
    left would stand between them and the row: a batch would not say what single rows say.
    """

    def _adjust_prompt_learning_kwargs(
        self, peft_config: Any, *, kwargs: dict[str, Any], **options: Any
    ) -> None:
        positions = kwargs.pop("position_ids", None)
        super()._adjust_prompt_learning_kwargs(peft_config, kwargs=kwargs, **options)
        if positions is None:
            return
        number = peft_config.num_virtual_tokens
        kwargs["position_ids"] = positions + number
        cache = kwargs.get("past_key_values")
        embedded = peft_config.peft_type != "PREFIX_TUNING"
        if embedded and (cache is None or not cache.get_seq_length()):
            first = torch.arange(number, device=positions.device).expand(len(positions), -1)
            kwargs["position_ids"] = torch.cat([first, positions + number], dim=1)


class FromStart(torch.nn.Module):
    """An encoder of virtual tokens that begins at given values and learns what to add.

    The values are kept and the encoder's last layer starts at zero, so that what was
    given is met exactly, which inverting an encoder could not do. What the encoder gives
    is multiplied by `share`. `start` has one row per virtual token.
    """

    def __init__(
        self, encoder: Any, last: torch.nn.Linear, start: torch.Tensor, share: float = 1.0
    ) -> None:
        super().__init__()
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        self.encoder, self.share = encoder, share
        self.register_buffer("start", start.float())

    @property
    def embedding(self) -> Any:
        """The encoder's input, by which PEFT knows where it is."""
        return self.encoder.embedding

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Indices (batch, length) to values (batch, length, size)."""
        return self.start + self.share * self.encoder(tokens)


def add_virtual_tokens(model: Any, config: Any) -> Prompted:
    """A frozen base with the virtual tokens of a PEFT configuration, to be trained.

    Raises:
        ModelError: PEFT cannot tell the shapes of this base.
    """
    model.requires_grad_(False)
    try:
        return Prompted(model, config)
    except (ValueError, AttributeError, KeyError) as error:
        raise ModelError(f"virtual tokens do not fit this base ({first_line(error)})") from error


def restore_virtual_tokens(model: Any, folder: Path) -> Prompted:
    """A base with the virtual tokens that were saved."""
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    prompted_model = Prompted(model, config)
    prompted_model.load_adapter(str(folder), adapter_name="default", is_trainable=False)
    return prompted_model


def embeddings(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Input embeddings of tokens, float32, (tokens, size)."""
    with torch.no_grad():
        table = model.get_input_embeddings()
        return table(torch.tensor(ids, device=table.weight.device)).float()


def key_values(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Keys and values that the base computes for tokens at positions 0 to n - 1.

    They are as they stand in its cache: with rotary positions applied, and with as many
    heads as the base keeps keys for. Shape (tokens, layers x 2 x heads x head size), float32.

    Raises:
        ModelError: the base does not keep the same keys and values in every layer.
    """
    from peft.tuners.cartridge.utils import prompt_embeddings_from_past_key_values

    inputs = torch.tensor([list(ids)], device=model.device)
    try:
        with torch.no_grad():
            cache = model(input_ids=inputs, use_cache=True, logits_to_keep=1).past_key_values
        values = prompt_embeddings_from_past_key_values(cache, num_virtual_tokens=len(ids))
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"this base has no keys and values of one shape in every layer ({first_line(error)}); "
            "use prompt instead"
        ) from error
    return values.float()
