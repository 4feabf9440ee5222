"""Prompt tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from train.methods.tuner import Setting
from train.methods.virtual_tokens import VirtualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PromptTuner(VirtualTokens):
    """Learned input embeddings before every sequence (Lester et al. 2021, section 2).

    They start as the embeddings of real text, which the paper finds to matter most for
    small models (section 3.2).
    """

    learning_rate: ClassVar[float] = 3e-2
    source: ClassVar[str] = "Lester et al. 2021, sections 2 and 3.2"

    init_text: str = ""
    """What the prompt starts as; left out, the shortest training rows."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Put the prompt before the frozen base.

        Raises:
            ModelError: there is no text to start from.
        """
        import torch
        from peft import PromptTuningConfig

        from train.methods.prompt_learning import add_virtual_tokens, embeddings

        start = embeddings(model, self.start_ids(setting, self.init_text))
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=self.length)
        student: Any = add_virtual_tokens(model, config)
        with torch.no_grad():
            student.prompt_encoder["default"].embedding.weight.copy_(start)
        return student  # type: ignore[no-any-return]
