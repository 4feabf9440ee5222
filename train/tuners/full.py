"""Full fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from train.methods.own_weights import OwnWeights
from train.methods.tuner import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Full(OwnWeights):
    """Train every weight of the base.

    The weights are float32 while they are trained, also on a GPU: in bfloat16 most
    updates of a small learning rate round to nothing (Micikevicius et al. 2018, section 3.1).
    """

    mergeable: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-5
    source: ClassVar[str] = "Radford et al. 2018, section 3.2"

    def loading(self, training: bool) -> dict[str, Any]:
        """float32 for training."""
        import torch

        return {"dtype": torch.float32} if training else {}

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Make every weight trainable; a tied one stays tied."""
        model.requires_grad_(True)
        return model

    def merged(self, model: Any) -> Any:
        """The student itself: it has the base's architecture."""
        return model
