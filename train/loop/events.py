"""Resume a training, and stop it before its last step: at a signal, or early.

Importing this loads transformers; the rest of the room imports it late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from train.loop.callbacks import Step, TrainingCallbacks, best_eval, looks_since
from train.model.memory import memory_used
from warehouse.errors import Stopped


class StopCallback(TrainerCallback):
    """Adds to the steps that the callbacks receive what they do not know themselves, and ends training.

    What early stopping has seen it reads from the trainer's own history, which a checkpoint
    keeps: a training that goes on stops where it would have stopped.
    """

    def __init__(self, callbacks: Callable[[Step], None], patience: int | None) -> None:
        self._callbacks, self._patience = callbacks, patience
        self._more = isinstance(
            callbacks, TrainingCallbacks
        )  # a plain function is told of each step taken, once
        self._asked = callbacks.stop if isinstance(callbacks, TrainingCallbacks) else lambda: False
        self._held_out: float | None = None
        self._told: Step | None = None
        self._stopped = ""

    def step(self, step: Step) -> None:
        """A step was taken."""
        self._told = replace(step, held_out_loss=self._held_out)
        self._callbacks(self._told)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        looks = _looks(state.log_history)
        self._held_out = looks[-1]["held_out_loss"] if looks else None
        if not (self._more and state.global_step and state.is_world_process_zero):
            return
        last = [entry for entry in state.log_history if "loss" in entry][-1]
        rate, memory = last["learning_rate"], memory_used()
        self.step(Step(state.global_step, state.max_steps, last["loss"], rate, 0.0, memory,
                       resumed=True))  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and self._asked():
            control.should_save = control.should_training_stop = True
            self._stopped = f"stopped at step {state.global_step} of {state.max_steps}"

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            control.should_training_stop = True  # it would be as wrong at every later step
            control.should_save = False
            self._stopped = ""  # there is no checkpoint to go on from

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        looks = _looks(state.log_history)
        self._held_out = looks[-1]["held_out_loss"]
        best = best_eval(looks)
        if self._patience and best and looks_since(looks, best[0]) >= self._patience:
            control.should_training_stop = True
            self._stopped = ""  # it would have ended here
        if self._more and self._told is not None:
            self.step(self._told)

    def ended(self) -> None:
        """Training is over.

        Raises:
            Stopped: it was asked to end before its last step; there is a checkpoint of it.
        """
        if self._stopped:
            raise Stopped(f"{self._stopped}; a checkpoint is kept")


def _looks(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [
        {"step": entry["step"], "held_out_loss": entry["eval_loss"]}
        for entry in history
        if "eval_loss" in entry
    ]
