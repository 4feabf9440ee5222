"""Low-rank adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from train.tuner import Setting, Tuner
from warehouse.errors import StageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lora(Tuner):
    """A low-rank update beside each chosen weight matrix (Hu et al. 2021, section 4.1).

    W x becomes W x + (alpha / rank) B A x with B of shape (out, rank) and A of shape
    (rank, in). B starts at zero, so training starts at the base's own answers.
    """

    mergeable: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    source: ClassVar[str] = "Hu et al. 2021, section 4.1"

    rank: Annotated[int, Field(ge=1)] = 16
    """Rows of A: how much the update can express."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the update's inputs that is zeroed while training."""
    targets: str = "all-linear"
    """Which layers: "all-linear" (all but the output layer) or names parted by commas."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Add A and B to every target; the base's weights stay frozen.

        Raises:
            StageError: the model has no layer of a name in `targets`.
        """
        from peft import LoraConfig, get_peft_model

        named = [name.strip() for name in self.targets.split(",") if name.strip()]
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear" if named == ["all-linear"] else named,
        )
        try:
            adapted: Any = get_peft_model(model, config)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise StageError(
                f"lora: targets = '{self.targets}' does not fit this base ({reason}); "
                "use 'all-linear' or names of its linear layers"
            ) from error
        return adapted  # type: ignore[no-any-return]
