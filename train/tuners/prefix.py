"""Prefix tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from train.methods.tuner import Setting
from train.methods.virtual_tokens import VirtualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prefix(VirtualTokens):
    """Learned keys and values before every sequence, in every layer (Li & Liang 2021, section 4.1).

    They start as those that the base computes for real text (section 7.4), so training
    starts at the base that is shown this text. With `reparametrise` an MLP makes them in
    training (section 4.3); what it makes is added to that start.
    """

    learning_rate: ClassVar[float] = 2e-2
    source: ClassVar[str] = "Li & Liang 2021, sections 4 and 7.4"
    in_cache: ClassVar[bool] = True

    init_text: str = ""
    """What the prefix starts as; left out, the shortest training rows."""
    reparametrise: bool = False
    """Let an MLP make the keys and values in training."""
    hidden: Annotated[int, Field(ge=1)] = 512
    """Size of that MLP."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Put the prefix before the frozen base.

        Raises:
            ModelError: this base has no keys and values of one shape, or there is no text.
        """
        from peft import PrefixTuningConfig

        from train.methods.prompt_learning import FromStart, add_virtual_tokens, key_values

        start = key_values(model, self.start_ids(setting, self.init_text))
        config = PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.length,
            prefix_projection=self.reparametrise,
            encoder_hidden_size=self.hidden,
        )
        student: Any = add_virtual_tokens(model, config)
        encoder = student.prompt_encoder["default"]
        if self.reparametrise:
            # the mean over the MLP's inner values: Adam moves each weight as far as it would move a
            # key, and their sum would move `hidden` times as far at the same learning rate
            student.prompt_encoder["default"] = FromStart(
                encoder, encoder.transform[-1], start, share=1 / self.hidden
            )
        else:
            encoder.load_prompt_embeddings(start)
        return student  # type: ignore[no-any-return]
