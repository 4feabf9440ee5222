"""Who follows a training: told of the audit before it starts, then of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """How training stands after an optimiser step. `memory` is the most used so far, in bytes."""

    done: int
    total: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    memory: int


@dataclass(frozen=True)
class Watch:
    """Two callbacks. Calling it tells a step, so it stands wherever a function of a step does."""

    step: Callable[[Step], None] = lambda step: None
    audited: Callable[[dict[str, Any]], None] = lambda figures: None
    """Told once, before the first step or before the refusal, in one process of several."""

    def __call__(self, step: Step) -> None:
        self.step(step)


class Enough(Exception):
    """Raised in `audited` by who wanted the audit alone: nothing is trained, nothing is left."""


def tell_audited(watch: Callable[[Step], None], figures: dict[str, Any]) -> None:
    """Tell the audit's figures to a watch that wants them; a plain function does not."""
    if isinstance(watch, Watch):
        watch.audited(figures)
