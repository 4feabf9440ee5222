"""AdaLoRA: ranks that training allots."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from train.config import SftConfig
from train.methods.peft_layers import names_in, with_adapter
from train.methods.tuner import Setting, Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Adalora(Tuner):
    """Updates P E Q with diagonal E, whose least important entries are dropped in training.

    (Zhang et al. 2023, sections 3.1 and 3.2.) Every target starts with `start_rank` entries;
    after a warm-up the budget falls to `rank` on average, and goes where the loss is most
    sensitive, smoothed over steps. A penalty keeps P and Q orthogonal; the losses that
    are told while training contain it.
    """

    mergeable: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2
    source: ClassVar[str] = "Zhang et al. 2023, sections 3.1 and 3.2"

    rank: Annotated[int, Field(ge=1)] = 8
    """Entries per target on average in the end."""
    start_rank: Annotated[int, Field(ge=2)] = 12
    """Entries of every target at the start."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """The update is scaled by alpha / start_rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the update's inputs that is zeroed while training."""
    targets: str = "all-linear"
    """Which layers: "all-linear" (all but the output layer) or names parted by commas."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps before the budget falls."""
    settled: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the steps after it has fallen."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the penalty."""

    def faults(self, config: SftConfig) -> list[str]:
        """There must be something to drop, and time to do it."""
        faults = super().faults(config)
        if self.start_rank <= self.rank:
            faults.append(
                f"start_rank = {self.start_rank} leaves nothing to drop to rank = {self.rank}; "
                "raise it, or use lora"
            )
        if config.packing:
            faults.append(
                "its budget goes by the number of steps, which packing changes; set packing = false"
            )
        if self.warmup + self.settled >= 1:
            faults.append("warmup and settled leave no steps between them; lower one")
        return faults

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Add P, E and Q to every target, with the budget's steps taken from the setting.

        Raises:
            ModelError: the model has no layer of a name in `targets`.
        """
        from peft import AdaLoraConfig

        config = AdaLoraConfig(
            task_type="CAUSAL_LM",
            target_r=self.rank,
            init_r=self.start_rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names_in(self.targets),
            total_step=setting.steps,
            tinit=int(self.warmup * setting.steps),
            tfinal=int(self.settled * setting.steps),
            orth_reg_weight=0.0,  # PEFT adds it only to a loss that the model computes itself
        )
        return with_adapter(model, config, "adalora", self.targets)  # type: ignore[no-any-return]

    def after_step(self, model: Any, step: int) -> None:
        """Update the importances, and drop what the budget does not hold."""
        model.base_model.update_and_allocate(step)

    def penalty(self, model: Any) -> Any:
        """How far P and Q are from orthogonal: the Frobenius norm, mean over all of them."""
        import torch

        norms = []
        for name, matrix in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                gram = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix
                norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram)).to(gram)))
        return self.orthogonality * torch.stack(norms).mean()

    def state(self, model: Any) -> dict[str, Any]:
        """The smoothed importances."""
        allocator = model.base_model.rankallocator
        averages = {"mean": allocator.exp_avg_ipt, "spread": allocator.exp_avg_unc}
        return {f"{of}/{name}": t for of, named in averages.items() for name, t in named.items()}

    def resume(self, model: Any, state: dict[str, Any]) -> None:
        """Go on with these importances, and with what was dropped."""
        model.peft_config["default"].rank_pattern = _pattern(model)
        allocator = model.base_model.rankallocator
        averages = {"mean": allocator.exp_avg_ipt, "spread": allocator.exp_avg_unc}
        for key, tensor in state.items():
            of, _, name = key.partition("/")
            parameter = model.base_model.model.get_parameter(name)
            averages[of][name] = tensor.to(parameter.device)
            allocator.ipt[name] = tensor.to(parameter.device)

    def save(self, model: Any, folder: Path, base: str) -> None:
        """Write the entries that are not dropped."""
        model.peft_config["default"].rank_pattern = _pattern(model)
        with warnings.catch_warnings():  # PEFT takes a target without entries for a torn one
            warnings.filterwarnings("ignore", ".* LoRA tensor.* have invalid shape")
            super().save(model, folder, base)

    def restore(self, model: PreTrainedModel, folder: Path) -> Any:
        """The base with what was learned."""
        with warnings.catch_warnings():  # and this pattern for that of another method
            warnings.filterwarnings("ignore", "The following rank_pattern keys")
            return super().restore(model, folder)


def _pattern(model: Any) -> dict[str, list[bool]]:
    """Which entries of every E are kept, as its weights tell: those that are not zero."""
    return {
        name: (entries != 0).flatten().tolist()
        for name, entries in model.base_model.model.named_parameters()
        if ".lora_E." in name
    }
