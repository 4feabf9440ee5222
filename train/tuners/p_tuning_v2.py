"""P-tuning v2: deep prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from train.methods.tuner import Setting
from train.methods.virtual_tokens import VirtualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PTuningV2(VirtualTokens):
    """Learned prompts in every layer, from a random start (Liu et al. 2022, section 3).

    The form is that of `prefix`: keys and values before the sequence. What differs is
    where it starts, at random instead of at real text, and that no MLP stands before them.
    """

    learning_rate: ClassVar[float] = 3e-2
    source: ClassVar[str] = "Liu et al. 2022 (P-Tuning v2), section 3"
    in_cache: ClassVar[bool] = True

    spread: Annotated[float, Field(gt=0)] = 0.2
    """Standard deviation of the start; equal prompts would stay equal, so it is not zero."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Put the prompts before the frozen base.

        Raises:
            ModelError: the shapes of this base cannot be told.
        """
        import torch
        from peft import PrefixTuningConfig

        from train.methods.prompt_learning import add_virtual_tokens

        config = PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=self.length, prefix_projection=False
        )
        student: Any = add_virtual_tokens(model, config)
        torch.nn.init.normal_(student.prompt_encoder["default"].embedding.weight, std=self.spread)
        return student  # type: ignore[no-any-return]
