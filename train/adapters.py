"""What the tuners that change a base's layers through PEFT share."""

from __future__ import annotations

from typing import Any

from warehouse.errors import StageError

ALL_LINEAR = "all-linear"
"""Every linear layer but the output layer."""


def names_in(targets: str) -> str | list[str]:
    """Names parted by commas as PEFT takes them."""
    named = [name.strip() for name in targets.split(",") if name.strip()]
    return ALL_LINEAR if named == [ALL_LINEAR] else named


def with_adapter(model: Any, config: Any, tuner: str, targets: str) -> Any:
    """A base with the adapter of a PEFT configuration, the base's weights frozen.

    Raises:
        StageError: the targets are not layers of this base, or not such as the method takes.
    """
    from peft import get_peft_model

    try:
        return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise StageError(
            f"{tuner}: targets = '{targets}' does not fit this base ({reason}); "
            "use names of its linear layers"
        ) from error
