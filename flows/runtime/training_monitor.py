"""A training as it is seen while it runs: the audit before it, a bar, artifacts in Prefect."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError, PrefectException
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.report.report import printable, render_training
from distill.report.training_section import saw
from flows.runtime.progress import TrainingBar, console, say, training
from train.loop.callbacks import Step, TrainingCallbacks, best_eval, looks_since
from train.loop.sft import TrainingResult

EVERY_S = 5.0
"""Seconds between two updates of an artifact."""

TIMEOUT_S = 5.0
"""Longest that a training waits for Prefect's server."""

SHOWN = 1200
"""Characters of an example's prompt, and of its supervised text, that a terminal shows."""


class Monitor:
    """Follows one training: `callbacks` go to it, `figures` are what its audit found, `ending` is
    why it ended where that needs words."""

    def __init__(self, bar: TrainingBar, artifacts: Artifacts) -> None:
        self._bar, self._artifacts = bar, artifacts
        self.figures: dict[str, Any] = {}
        self.ending = ""
        self.callbacks = TrainingCallbacks(
            self._step, self._audited, lambda: self._stopping, bar.drawn
        )
        self._last: Step | None = None
        self._stopping = False

    def _step(self, step: Step) -> None:
        self._last = step
        if step.resumed:
            say(f"training goes on from step {step.done} of {step.total}")
        self._bar.step(step)
        self._artifacts.step(step)

    def _audited(self, figures: dict[str, Any]) -> None:
        self.figures = dict(figures)
        print_audit(self.figures, console)
        self._artifacts.publish(self.figures, [])

    def stop(self) -> bool:
        """Let training end after this step, with a checkpoint; whether there is anything to keep."""
        if self._last is None:
            return False
        self._stopping = True
        say("stopping after this step, with a checkpoint; Ctrl-C again leaves at once")
        return True

    def done(self, result: TrainingResult) -> None:
        """The training is over."""
        if self._last is not None and result.audit["held_out_rows"]:
            best = best_eval(result.losses)
            self._bar.step(replace(self._last, held_out_loss=best[1] if best else None))
            self.ending = ending(result.losses, self._last.total)
        self._artifacts.publish(result.audit, result.losses)


@contextmanager
def monitored(label: str, total: int, name: str) -> Iterator[Monitor]:
    """Follow a training of about `total` steps; `name` names its artifacts."""
    with training(label, total) as bar:
        monitor = Monitor(bar, Artifacts(name))
        yield monitor
    if monitor.ending:
        say(monitor.ending)


class Artifacts:
    """A training in Prefect: how far it is, and in Markdown its audit and losses.

    Outside of a flow run there are none; where the server does not take one, no further
    one is sent, and the run goes on.
    """

    def __init__(self, name: str) -> None:
        self._key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self._progress: UUID | None = None
        self._sent_at = -EVERY_S
        try:
            get_run_context()
            self._on = True
        except MissingContextError:
            self._on = False

    def step(self, step: Step) -> None:
        """A step was taken; the server is told now and then, and of the last one."""
        if time.monotonic() - self._sent_at < EVERY_S and step.done < step.total:
            return
        share = 100.0 * step.done / max(1, step.total)
        description = f"step {step.done} of {step.total}, loss {step.loss:.3f}"
        description += "" if step.held_out_loss is None else f", held-out {step.held_out_loss:.3f}"
        description += f", {step.tokens_per_s:,.0f} tok/s" if step.tokens_per_s else ""
        if self._progress is None:
            key = f"{self._key}-progress"
            self._progress = self._send(create_progress_artifact, share, key, description)
        else:
            self._send(update_progress_artifact, self._progress, share, description)
        self._sent_at = time.monotonic()

    def publish(self, audit: dict[str, Any], losses: list[dict[str, float]]) -> None:
        """What the trainer saw, and once it has trained how the loss fell."""
        self.page("training", render_training(audit, losses))

    def page(self, what: str, text: str) -> None:
        """A page of Markdown."""
        self._send(create_markdown_artifact, text, f"{self._key}-{what}")

    def _send(self, send: Callable[..., Any], *values: Any) -> Any:
        if not self._on:
            return None
        waiting = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
        try:
            with temporary_settings(waiting):
                return send(*values)
        except (httpx.HTTPError, PrefectException) as error:
            self._on = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            say(f"note: Prefect's server takes no artifacts ({reason}); the run goes on")
            return None


def ending(losses: Sequence[dict[str, float]], total: int) -> str:
    """Why a training with early stopping ended, and which step's weights it keeps."""
    best = best_eval(losses)
    if best is None:
        return f"held-out rows were never looked at in {total} steps; the last weights are kept"
    step, loss = best
    done, looks = int(losses[-1]["step"]), looks_since(losses, step)
    kept = f"the weights of step {step} are kept"
    if done == total:
        return f"held-out loss {loss:.4g} at step {step} of {total} was the lowest; {kept}"
    after = f"{looks} evaluation{'s' if looks > 1 else ''}"
    return (
        f"stopped early at step {done} of {total}: held-out loss {loss:.4g} at step {step} was not "
        f"beaten for {after}; {kept}"
    )


def print_audit(figures: dict[str, Any], to: Console) -> None:
    """What the trainer sees: a line for each figure, and the first rows with their supervised span."""
    seen = saw(figures)
    table = Table(title="What the trainer sees", title_justify="left", box=None, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", overflow="fold")
    rows = ", ".join(f"{count:,} {bound}" for bound, count in seen.lengths)
    for label, text in [*seen.lines, ("rows by tokens", rows or "none")]:
        table.add_row(Text(label), Text(printable(text)))
    to.print(table, soft_wrap=False)
    for number, (before, supervised) in enumerate(seen.examples, start=1):
        to.print(Text(f"row {number} as the model sees it; it learns what is ⟦marked⟧", "bold"))
        marked = Text(f"⟦{_cut(supervised)}⟧", "black on yellow")
        to.print(Text.assemble(_cut(before), marked), soft_wrap=True)


def _cut(text: str) -> str:
    """The ends of a long text."""
    plain = printable(text)
    if len(plain) <= SHOWN:
        return plain
    half = SHOWN // 2
    return f"{plain[:half]} … {len(plain) - 2 * half:,} characters … {plain[-half:]}"
