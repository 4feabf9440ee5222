"""Define the callbacks of a training: the audit before it, then each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """How training stands after an optimiser step. `memory` is the most used so far, in bytes.

    A `TrainingCallbacks` is told a step again when held-out rows were looked at after it, and the last one
    that was taken before a training was cut off.
    """

    done: int
    total: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    memory: int
    held_out_loss: float | None = None
    """Loss on the rows that are not trained on, when they were last looked at."""
    resumed: bool = False
    """The step was taken before training was cut off; it goes on from there."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Four callbacks. Calling it tells a step, so it stands wherever a function of a step does."""

    step: Callable[[Step], None] = lambda step: None
    audited: Callable[[dict[str, Any]], None] = lambda figures: None
    """Told once, before the first step or before the refusal, in one process of several."""
    stop: Callable[[], bool] = lambda: False
    """Asked after each step: whether to write a checkpoint and end here. In one process only."""
    drawn: Callable[[int, int], None] = lambda done, total: None
    """Told how many of the answers are drawn that an objective needs before the audit, and of how
    many; in one process of several, of its share."""

    def __call__(self, step: Step) -> None:
        self.step(step)


def tell_drawn(callbacks: Callable[[Step], None], done: int, total: int) -> None:
    """Report how many replies are drawn; a plain function is not told."""
    if isinstance(callbacks, TrainingCallbacks):
        callbacks.drawn(done, total)


class StopAfterAudit(Exception):
    """Raised in `audited` by who wanted the audit alone: nothing is trained. What an objective has
    drawn for it is there for the training."""


def tell_audited(callbacks: Callable[[Step], None], figures: dict[str, Any]) -> None:
    """Report the figures of the audit; a plain function is not told."""
    if isinstance(callbacks, TrainingCallbacks):
        callbacks.audited(figures)


def best_eval(losses: Sequence[dict[str, float]]) -> tuple[int, float] | None:
    """The step after which the loss on held-out rows was lowest, and that loss; the first of equals.

    Its weights are what early stopping keeps. None where no rows were held out.
    """
    looks = [at for at in losses if "held_out_loss" in at]
    if not looks:
        return None
    best = min(looks, key=lambda at: at["held_out_loss"])
    return int(best["step"]), best["held_out_loss"]


def looks_since(losses: Sequence[dict[str, float]], step: int) -> int:
    """How often held-out rows were looked at after a step."""
    return sum("held_out_loss" in at and at["step"] > step for at in losses)
