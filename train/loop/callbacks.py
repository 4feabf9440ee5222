"""Define the callbacks of a training: the audit before it, then each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """Progress after an optimiser step; `memory` is the peak so far, in bytes.

    A `TrainingCallbacks` gets a step again after an evaluation on held-out rows, and once more
    when an interrupted training resumes after it.
    """

    done: int
    total: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    memory: int
    held_out_loss: float | None = None
    """Loss at the last evaluation on held-out rows."""
    resumed: bool = False
    """Whether training resumes after this step of an interrupted run."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Four callbacks; it is itself callable with a step."""

    step: Callable[[Step], None] = lambda step: None
    audited: Callable[[dict[str, Any]], None] = lambda figures: None
    """Called once, before the first step or the refusal, in the first process only."""
    stop: Callable[[], bool] = lambda: False
    """Called after each step: whether to write a checkpoint and stop. Single process only."""
    drawn: Callable[[int, int], None] = lambda done, total: None
    """Called with the generated replies that an objective needs before training, and their total;
    of several processes, the first one's share."""

    def __call__(self, step: Step) -> None:
        self.step(step)


def report_generated(callbacks: Callable[[Step], None], done: int, total: int) -> None:
    """Report how many replies are generated, if there is a callback for it."""
    if isinstance(callbacks, TrainingCallbacks):
        callbacks.drawn(done, total)


class StopAfterAudit(Exception):
    """Raised in `audited` to stop after the audit; generated replies are saved for the training."""


def report_audit(callbacks: Callable[[Step], None], figures: dict[str, Any]) -> None:
    """Report the figures of the audit, if there is a callback for them."""
    if isinstance(callbacks, TrainingCallbacks):
        callbacks.audited(figures)


def best_eval(losses: Sequence[dict[str, float]]) -> tuple[int, float] | None:
    """The (first) step with the lowest loss on held-out rows, and that loss.

    Its weights are what early stopping keeps. None where no rows were held out.
    """
    evals = [entry for entry in losses if "held_out_loss" in entry]
    if not evals:
        return None
    best = min(evals, key=lambda entry: entry["held_out_loss"])
    return int(best["step"]), best["held_out_loss"]


def evals_since(losses: Sequence[dict[str, float]], step: int) -> int:
    """The number of evaluations on held-out rows after a step."""
    return sum("held_out_loss" in entry and entry["step"] > step for entry in losses)
