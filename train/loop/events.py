"""Resume a training, and stop it before its last step: at a signal, or early.

Importing this loads transformers; the rest of the room imports it late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from train.loop.callbacks import Step, TrainingCallbacks, best_eval, evals_since
from train.model.memory import memory_used
from warehouse.errors import Stopped


class StopCallback(TrainerCallback):
    """Adds held-out losses and resumed steps for the callbacks, and stops training.

    Early stopping reads the trainer's own history, which checkpoints keep: a resumed training
    stops where it would have stopped.
    """

    def __init__(self, callbacks: Callable[[Step], None], patience: int | None) -> None:
        self._callbacks, self._patience = callbacks, patience
        # A plain function receives each step once.
        self._takes_all = isinstance(callbacks, TrainingCallbacks)
        self._should_stop = (
            callbacks.stop if isinstance(callbacks, TrainingCallbacks) else lambda: False
        )
        self._held_out: float | None = None
        self._last_step: Step | None = None
        self._stop_message = ""

    def step(self, step: Step) -> None:
        """Pass a step on with the last held-out loss."""
        self._last_step = replace(step, held_out_loss=self._held_out)
        self._callbacks(self._last_step)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        evals = _evals_of(state.log_history)
        self._held_out = evals[-1]["held_out_loss"] if evals else None
        if not (self._takes_all and state.global_step and state.is_world_process_zero):
            return
        last = [entry for entry in state.log_history if "loss" in entry][-1]
        rate, memory = last["learning_rate"], memory_used()
        self.step(Step(state.global_step, state.max_steps, last["loss"], rate, 0.0, memory,
                       resumed=True))  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and self._should_stop():
            control.should_save = control.should_training_stop = True
            self._stop_message = f"stopped at step {state.global_step} of {state.max_steps}"

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            control.should_training_stop = True  # every later loss would be as well
            control.should_save = False
            self._stop_message = ""  # no checkpoint to resume from

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        evals = _evals_of(state.log_history)
        self._held_out = evals[-1]["held_out_loss"]
        best = best_eval(evals)
        if self._patience and best and evals_since(evals, best[0]) >= self._patience:
            control.should_training_stop = True
            self._stop_message = ""  # training is complete
        if self._takes_all and self._last_step is not None:
            self.step(self._last_step)

    def ended(self) -> None:
        """Finish.

        Raises:
            Stopped: a callback stopped training before its last step; a checkpoint is saved.
        """
        if self._stop_message:
            raise Stopped(f"{self._stop_message}; a checkpoint is kept")


def _evals_of(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [
        {"step": entry["step"], "held_out_loss": entry["eval_loss"]}
        for entry in history
        if "eval_loss" in entry
    ]
