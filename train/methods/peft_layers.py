"""Share what the tuners that change a base's layers through PEFT need."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from warehouse.errors import ModelError, first_line

ALL_LINEAR = "all-linear"
"""Every linear layer but the output layer."""


def names_in(targets: str) -> str | list[str]:
    """Names parted by commas as PEFT takes them."""
    named = [name.strip() for name in targets.split(",") if name.strip()]
    return ALL_LINEAR if named == [ALL_LINEAR] else named


def with_adapter(model: Any, config: Any, tuner: str, targets: str) -> Any:
    """A base with the adapter of a PEFT configuration, the base's weights frozen.

    Raises:
        ModelError: the targets are not layers of this base, or not such as the method takes.
    """
    from peft import get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    refuse_unknown(model, names_in(targets), tuner)
    refuse_tied(model, names_in(targets), tuner)
    layer_names = linear_names(model)
    try:
        adapted = get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{tuner}: targets = '{targets}' does not fit this base ({first_line(error)}); "
            "use names of its linear layers"
        ) from error
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise ModelError(
            f"{tuner}: targets = '{targets}' names the output layer, which a training here leaves as "
            f"it is; allowed: {', '.join(layer_names)}"
        )
    return adapted


def refuse_unknown(model: Any, named: str | Sequence[str], tuner: str) -> None:
    """See that each target names a layer: PEFT passes over one that does not, if another does.

    Raises:
        ModelError: one names none; the message says which names there are.
    """
    if isinstance(named, str):
        return
    layers = [name for name, _ in model.named_modules() if name]
    for target in named:
        if not any(f".{layer}".endswith(f".{target}") for layer in layers):
            layer_names = linear_names(model)
            close = get_close_matches(target, layer_names, n=1, cutoff=0.6)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ModelError(
                f"{tuner}: no layer of this base is called '{target}'{hint} "
                f"(there are {', '.join(layer_names)})"
            )


def refuse_tied(model: Any, named: str | Sequence[str], tuner: str) -> None:
    """See that no target shares its weights with the output layer.

    An update of the input embeddings would be merged into the output layer too, so the merged
    model would answer otherwise than the adapter.

    Raises:
        ModelError: a target does; the message says which names are allowed.
    """
    inputs, output = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(named, str) or output is None or output.weight is not inputs.weight:
        return
    tied = [name for name, module in model.named_modules() if module in (inputs, output)]
    for target in named:
        if any(f".{layer}".endswith(f".{target}") for layer in tied):
            raise ModelError(
                f"{tuner}: targets names '{target}', and this base uses the same weights as input "
                "embeddings and as output layer (tied), so they cannot be adapted; allowed: "
                f"{', '.join(linear_names(model))}"
            )


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of a base's linear layers but the output layer, in its order."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    names = (
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D) and module is not output
    )
    return list(dict.fromkeys(names))
