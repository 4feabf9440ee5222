"""IA3: rescaled activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from train.config import SftConfig
from train.methods.peft_layers import ALL_LINEAR, names_in, refuse_unknown, with_adapter
from train.methods.tuner import Setting, Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Ia3(Tuner):
    """A learned factor per channel of keys, values and the feed-forward's inner layer.

    (Liu et al. 2022, section 3.3.) The factors start at 1, so training starts at the
    base's own answers; with so few weights it wants a high learning rate.
    """

    mergeable: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2
    source: ClassVar[str] = "Liu et al. 2022 (few-shot PEFT), section 3.3"

    targets: str = ""
    """Layers whose output is rescaled, by names parted by commas; left out, what PEFT knows to be
    keys, values and feed-forward of this base."""
    feedforward: str = ""
    """Those of `targets` whose input is rescaled instead: the feed-forward's last layers."""

    def faults(self, config: SftConfig) -> list[str]:
        """Feed-forward layers are some of the targets."""
        faults = super().faults(config)
        targets = names_in(self.targets)
        stray = set() if targets == ALL_LINEAR else {*names_in(self.feedforward)} - {*targets}
        if stray:
            faults.append(
                f"feedforward names '{min(stray)}', which is not one of targets; add it there"
            )
        return faults

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Add a factor to every target; the base's weights stay frozen.

        Raises:
            ModelError: the model has no such layers, or PEFT does not know this base.
        """
        from peft import IA3Config

        config = IA3Config(
            task_type="CAUSAL_LM",
            target_modules=names_in(self.targets) or None,
            feedforward_modules=names_in(self.feedforward) if self.targets else None,
        )
        if self.targets:
            refuse_unknown(model, names_in(self.feedforward), "ia3")
        return with_adapter(model, config, "ia3", self.targets)  # type: ignore[no-any-return]
