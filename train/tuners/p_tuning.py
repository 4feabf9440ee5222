"""P-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from train.methods.tuner import Setting
from train.methods.virtual_tokens import VirtualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PTuning(VirtualTokens):
    """Input embeddings that a small encoder makes in training (Liu et al. 2021, section 2.2).

    The encoder lets the virtual tokens depend on one another. The paper puts them anywhere
    in the input, here they stand before it; what the encoder makes is added to the
    embeddings of real text, so training starts there.
    """

    learning_rate: ClassVar[float] = 1e-3
    source: ClassVar[str] = "Liu et al. 2021 (GPT Understands, Too), section 2.2"

    init_text: str = ""
    """What the prompt starts as; left out, the shortest training rows."""
    encoder: Literal["lstm", "mlp"] = "lstm"
    """A bidirectional LSTM with an MLP, as in the paper, or an MLP alone."""
    hidden: Annotated[int, Field(ge=1)] = 256
    """Size of the encoder."""

    def attach(self, model: PreTrainedModel, setting: Setting) -> PreTrainedModel:
        """Put the prompt before the frozen base.

        Raises:
            ModelError: there is no text to start from.
        """
        from peft import PromptEncoderConfig

        from train.methods.prompt_learning import FromStart, add_virtual_tokens, embeddings

        start = embeddings(model, self.start_ids(setting, self.init_text))
        config = PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.length,
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.hidden,
        )
        student: Any = add_virtual_tokens(model, config)
        encoder = student.prompt_encoder["default"]
        student.prompt_encoder["default"] = FromStart(encoder, encoder.mlp_head[-1], start)
        return student  # type: ignore[no-any-return]
