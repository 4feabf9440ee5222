"""LoRA on a 4-bit base."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from train.config import SftConfig
from train.model.device import has_bfloat16
from train.tuners.lora import TAKEN_FROM_THE_BASE, Lora
from warehouse.errors import MissingExtraError


@dataclass(frozen=True)
class Qlora(Lora):
    """LoRA beside weights that are kept in 4 bits: NF4, its scales quantised once more.

    (Dettmers et al. 2023, section 3.) The base takes about a quarter of the memory of
    bfloat16, in training and when the student answers. The update belongs to the
    quantised base; a merged student has the quantised weights, written out as floats.
    """

    source: ClassVar[str] = "Dettmers et al. 2023, section 3"

    def ready(self) -> None:
        """See that the weights can be quantised here.

        Raises:
            MissingExtraError: bitsandbytes is not installed.
        """
        if find_spec("bitsandbytes") is None:
            raise MissingExtraError(
                "qlora needs bitsandbytes; pip install 'stillhouse[qlora]', or use the tuner lora"
            )

    def loading(self, training: bool) -> dict[str, Any]:
        """4-bit NF4 with double quantisation, computing in what the device has."""
        self.ready()
        import torch
        from transformers import BitsAndBytesConfig

        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16 if has_bfloat16() else torch.float32,
            )
        }

    def loaded(self, model: Any) -> Any:
        """Computing in the model's own precision, and without bitsandbytes' packed kernel for
        answers on some CPUs: it answers in bfloat16, passes no gradient on, and leaves weights that
        cannot be written out."""
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
                module.compute_dtype = model.dtype
        return model

    def faults(self, config: SftConfig) -> list[str]:
        """A start that is taken from the weights needs weights that can be changed."""
        faults = super().faults(config)
        if self.init in TAKEN_FROM_THE_BASE:
            faults.append(
                f"init = '{self.init}' takes a part out of weights that are quantised; "
                "use init = 'default' or 'gaussian'"
            )
        return faults

    def merged(self, model: Any) -> Any:
        """The base dequantised, with the update merged into it, in float32.

        It says what the 4-bit student says, up to rounding in the compute dtype: on a CPU
        logits differ by less than 1e-3.
        """
        import torch
        from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

        config = model.peft_config["default"]
        weights = get_peft_model_state_dict(model)
        base = model.unload().dequantize(dtype=torch.float32).float()
        plain = get_peft_model(base, config)
        set_peft_model_state_dict(plain, weights)
        return plain.merge_and_unload()
