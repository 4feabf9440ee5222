"""Fine-tuning of chosen layers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from train.config import SftConfig
from train.methods.decoder_blocks import blocks_of
from train.methods.tuner import Setting
from train.tuners.full import Full
from warehouse.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD = "head"
RUN = re.compile(r"(first|last):([1-9]\d*)")
INDEX = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Partial(Full):
    """Train some decoder blocks, or the output layer; the rest stays frozen.

    Where the output layer shares its weights with the input embeddings and "head" is
    trained, the two are parted first: what goes in stays as the base has it.
    """

    learning_rate: ClassVar[float] = 5e-4
    source: ClassVar[str] = "Howard & Ruder 2018, section 3.3"

    layers: str = "last:2"
    """Parted by commas: "last:2", "first:1", a block's index (-1 is the last), "head", or a
    part of a parameter's name, such as "norm"."""

    def faults(self, config: SftConfig) -> list[str]:
        """Nothing chosen is nothing trained."""
        faults = super().faults(config)
        if not self._chosen():
            faults.append("layers chooses nothing; use for example 'last:2' or 'head'")
        return faults

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Make the chosen weights trainable, and freeze the others.

        Raises:
            ModelError: `layers` names something that this base does not have.
        """
        model = self.rebuild(model)
        model.requires_grad_(False)
        for word in self._chosen():
            parameters = self._parameters(model, word)
            if not parameters:
                parts = {part for name, _ in model.named_parameters() for part in name.split(".")}
                words = sorted(part for part in parts if not part.isdigit())
                close = get_close_matches(word, [*words, HEAD], n=1, cutoff=0.6)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise ModelError(
                    f"partial: '{word}' of layers = '{self.layers}' is not in this base{hint} (it "
                    f"has blocks 0 to {len(blocks_of(model)) - 1}, 'head', and parameters with "
                    f"{', '.join(words)} in their names)"
                )
            for parameter in parameters:
                parameter.requires_grad_(True)
        return model

    def rebuild(self, model: Any) -> Any:
        """Part a tied output layer from the input embeddings, if it is to be trained."""
        import torch

        head, inputs = model.get_output_embeddings(), model.get_input_embeddings()
        if HEAD in self._chosen() and head.weight is inputs.weight:
            head.weight = torch.nn.Parameter(inputs.weight.detach().clone())
            model.config.tie_word_embeddings = False
        return model

    def _chosen(self) -> list[str]:
        return [word.strip() for word in self.layers.split(",") if word.strip()]

    @staticmethod
    def _parameters(model: Any, word: str) -> list[Any]:
        """The parameters that a word chooses."""
        if word == HEAD:
            return list(model.get_output_embeddings().parameters())
        if (run := RUN.fullmatch(word)) or INDEX.fullmatch(word):
            blocks = [block for _, block in blocks_of(model)]
            if run:
                number = int(run[2])
                chosen = blocks[:number] if run[1] == "first" else blocks[-number:]
            else:
                index = int(word)
                chosen = [blocks[index]] if -len(blocks) <= index < len(blocks) else []
            return [parameter for block in chosen for parameter in block.parameters()]
        return [parameter for name, parameter in model.named_parameters() if word in name]
