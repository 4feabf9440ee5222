"""Bottleneck adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from train.methods.own_weights import OwnWeights
from train.methods.tuner import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Adapter(OwnWeights):
    """A small two-layer network after attention and after feed-forward in every block.

    (Houlsby et al. 2019, section 2.1.) Each has 2 x width x size + width + size weights
    and starts as the identity; the base stays frozen. It cannot be folded into the
    base, so a student is a little slower.
    """

    mergeable: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3
    source: ClassVar[str] = "Houlsby et al. 2019, section 2.1"

    width: Annotated[int, Field(ge=1)] = 64
    """Size of the bottleneck: how much the adapter can express."""
    activation: Literal["relu", "gelu", "silu"] = "gelu"
    """The nonlinearity between the two projections."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Insert the adapters; only they are trained.

        Raises:
            ModelError: the sublayers of this base cannot be told.
        """
        model.requires_grad_(False)
        self.rebuild(model)
        return model

    def rebuild(self, model: Any) -> Any:
        """Insert the adapters as they start."""
        from train.methods.bottleneck import insert

        insert(model, self.width, self.activation)
        return model
