"""Place and initialise the virtual tokens of the prompt-learning tuners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from train.config import SftConfig
from train.dataset import TrainingRow, encode, token_ids
from train.methods.tuner import Setting, Tuner
from warehouse.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class VirtualTokens(Tuner):
    """A tuner that leaves the base's weights alone and learns what stands before a sequence.

    A student's file holds the learned vectors only: an encoder that made them in training
    is thrown away. Nothing can be folded into the base.
    """

    mergeable: ClassVar[bool] = False
    prompt_learning: ClassVar[bool] = True
    in_cache: ClassVar[bool] = False  # key-values of every layer, not embeddings of the input

    length: Annotated[int, Field(ge=1)] = 32
    """Virtual tokens; each takes one position of the base's context."""

    @property
    def virtual_tokens(self) -> int:
        """Positions of the context that this method takes."""
        return self.length

    def faults(self, config: SftConfig) -> list[str]:
        """Key-values cannot be recomputed."""
        faults = super().faults(config)
        if self.in_cache and config.gradient_checkpointing:
            faults.append(
                "gradient_checkpointing recomputes a block without the key-values before it; "
                "set gradient_checkpointing = false"
            )
        return faults

    def restore(self, model: PreTrainedModel, folder: Path) -> Any:
        """The base behind the learned vectors."""
        from train.methods.prompt_learning import restore_virtual_tokens

        return restore_virtual_tokens(model, folder)

    def start_ids(self, setting: Setting, text: str) -> list[int]:
        """As many real tokens as there are virtual ones, to start from.

        Those of `text`, or of the shortest training rows as they are trained on, one after
        another: the student then starts as the base that is shown these as examples.

        Raises:
            TrainingError: there is nothing to start from.
        """
        ids = token_ids(setting.tokenizer, text) if text else []
        if not text:
            for row in sorted(setting.rows, key=_size):
                ids += encode(row, setting.tokenizer).input_ids
                if len(ids) >= self.length:
                    break
        if not ids:
            raise TrainingError("virtual tokens have nothing to start from; give an init_text")
        return (ids * (self.length // len(ids) + 1))[: self.length]


def _size(row: TrainingRow) -> int:
    return sum(len(message["content"]) for message in (*row["prompt"], *row["completion"]))
