"""Define the tuner interface: a fine-tuning method, attached to a model, saved and restored."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from train.config import SftConfig
from train.dataset import TrainingRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Setting:
    """What a method may start from: the rows it will be trained on, and for how many steps."""

    tokenizer: Any
    rows: Sequence[TrainingRow]
    steps: int


class Tuner(ABC):
    """One file in train/tuners; dataclass fields are its options.

    As it stands here a tuner attaches a PEFT adapter. A method that no library has
    derives from `train.methods.own_weights.OwnWeights`.
    """

    mergeable: ClassVar[bool]  # whether what was learned can be folded into the base's weights
    source: ClassVar[str]  # where it was published, section and all
    prompt_learning: ClassVar[bool] = False  # adds virtual tokens to each sequence

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """The default that learns with this method."""

    @abstractmethod
    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Add the trainable parameters; whatever is not trained is frozen.

        Raises:
            ModelError: the method does not fit this model, in one line.
        """

    @property
    def virtual_tokens(self) -> int:
        """Positions of the base's context that the method takes."""
        return 0

    def ready(self) -> None:  # noqa: B027
        """See that what the method needs is installed, before anything is spent.

        Raises:
            ModelError: it is not; the message says what to install.
        """

    def loading(self, training: bool) -> dict[str, Any]:
        """Arguments of `from_pretrained` that the base has to be loaded with."""
        return {}

    def loaded(self, model: Any) -> Any:
        """The base as the method needs it, once it is loaded so."""
        return model

    def trainer_settings(self) -> dict[str, Any]:
        """Trainer arguments this method insists on."""
        return {}

    def faults(self, config: SftConfig) -> list[str]:
        """Why this method cannot be trained with these options, one line each."""
        faults = []
        if self.prompt_learning and config.packing:
            faults.append(
                "packing mixes rows under virtual tokens, which stand before a sequence and not "
                "before a row; set packing = false"
            )
        return faults

    def after_step(self, model: Any, step: int) -> None:  # noqa: B027
        """Called after each optimiser step, with gradients still there; steps start at 1."""

    def penalty(self, model: Any) -> Any:
        """What is added to the loss of each forward pass."""
        return 0.0

    def state(self, model: Any) -> dict[str, Any]:
        """Tensors by name that a checkpoint keeps beside the trained weights."""
        return {}

    def resume(self, model: Any, state: dict[str, Any]) -> None:  # noqa: B027
        """Take up what `state` gave before training was cut off."""

    def save(self, model: Any, folder: Path, base: str) -> None:
        """Write what was learned as safetensors, naming the base as the plan does."""
        self._write(model, folder, base)

    def _write(self, model: Any, folder: Path, base: str, **options: Any) -> None:
        model.save_pretrained(folder, safe_serialization=True, **options)
        (folder / "README.md").unlink(missing_ok=True)  # a model card that nobody filled in
        config_file = folder / "adapter_config.json"
        config = json.loads(config_file.read_text())
        config["base_model_name_or_path"] = base
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def restore(self, model: PreTrainedModel, folder: Path) -> Any:
        """The base with what was learned, as `save` wrote it."""
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(folder))

    def merged(self, model: Any) -> Any:
        """A plain model of the base's architecture that says what `model` says.

        Only for a tuner that is `mergeable`.
        """
        return model.merge_and_unload()
