"""Low-rank adaptation."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from train.config import SftConfig
from train.methods.peft_layers import names_in, with_adapter
from train.methods.tuner import Setting, Tuner
from warehouse.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Start = Literal["default", "gaussian", "pissa", "olora"]

TAKEN_FROM_THE_BASE = ("pissa", "olora")
"""Starts that move a part of each base weight into B A, and change the base at attach."""


@dataclass(frozen=True)
class Lora(Tuner):
    """A low-rank update beside each chosen weight matrix (Hu et al. 2021, section 4.1).

    W x becomes W x + (alpha / rank) B A x with B of shape (out, rank) and A of shape
    (rank, in). Training starts at the base's own answers, whatever the start. A student
    is kept as an update of the untouched base: of the start that "pissa" (Meng et al.
    2024, section 3) and "olora" (Büyükakyüz 2024, section 3) take from the base's weights,
    only the change is kept, in 2 x rank rows.
    """

    mergeable: ClassVar[bool] = True
    source: ClassVar[str] = "Hu et al. 2021, section 4.1"

    rank: Annotated[int, Field(ge=1)] = 16
    """Rows of A: how much the update can express."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the update's inputs that is zeroed while training."""
    targets: str = "all-linear"
    """Which layers: "all-linear" (all but the output layer) or names parted by commas."""
    init: Start = "default"
    """How A and B start: "default" and "gaussian" with B = 0, "pissa" with the largest singular
    vectors of the weight, "olora" with an orthonormal basis of it."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank), which stays stable at high ranks (Kalajdzievski 2023, section 3)."""
    dora: bool = False
    """Learn the length of each weight column beside its direction (Liu et al. 2024, section 4)."""

    @property
    def learning_rate(self) -> float:
        """Lower where the base's own largest directions are moved."""
        return 2e-4 if self.init in TAKEN_FROM_THE_BASE else 1e-3

    def faults(self, config: SftConfig) -> list[str]:
        """A start that is taken from the base goes with neither DoRA's lengths nor dropout."""
        faults = super().faults(config)
        if self.dora and self.init in TAKEN_FROM_THE_BASE:
            faults.append(
                f"init = '{self.init}' changes the weights whose lengths dora keeps, and could "
                "not be saved as an update of the base; use init = 'default' or dora = false"
            )
        if self.dropout and self.init in TAKEN_FROM_THE_BASE:
            faults.append(
                f"init = '{self.init}' makes a part of the base's weights the update, which dropout "
                "would drop in training; set dropout = 0.0"
            )
        return faults

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Add A and B to every target; the base's weights stay frozen.

        Raises:
            ModelError: the model has no layer of a name in `targets`, or the start wants a
                rank that a layer does not have.
        """
        from peft import LoraConfig, get_peft_model_state_dict

        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names_in(self.targets),
            init_lora_weights=True if self.init == "default" else self.init,
            use_rslora=self.rslora,
            use_dora=self.dora,
        )
        adapted = with_adapter(model, config, self._name, self.targets)
        if self.init in TAKEN_FROM_THE_BASE:
            start = get_peft_model_state_dict(adapted)
            smallest = min(min(tensor.shape) for tensor in start.values())
            if smallest < self.rank:
                raise ModelError(
                    f"{self._name}: init = '{self.init}' takes at most rank {smallest} from a layer "
                    f"of this base, not {self.rank}; lower the rank"
                )
            adapted.start = {name: tensor.detach().cpu().clone() for name, tensor in start.items()}
        return adapted  # type: ignore[no-any-return]

    def save(self, model: Any, folder: Path, base: str) -> None:
        """Write A and B; where they started from the base's weights, what they add to it."""
        start = getattr(model, "start", None)
        if start is None:
            return self._write(model, folder, base)
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory() as beginning, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*changes the base weights")  # it is converted here
            save_file(start, str(Path(beginning) / "adapter_model.safetensors"))
            self._write(model, folder, base, path_initial_model_for_weight_conversion=beginning)

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()
