"""What a tuner is: one parameter-efficient method, attached to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Tuner(ABC):
    """One file in train/tuners; dataclass fields are its options."""

    mergeable: ClassVar[bool]
    learning_rate: ClassVar[float]  # the default that learns with this method

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the trainable parameters; the base's weights stay frozen."""

    def trainer_settings(self) -> dict[str, Any]:
        """Trainer arguments this method insists on."""
        return {}
