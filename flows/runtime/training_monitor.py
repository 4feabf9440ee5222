"""Show a training while it runs: its audit, a progress bar, artifacts in Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.report.report import printable
from distill.report.training_section import summarize_audit
from flows.runtime.artifacts import Artifacts
from flows.runtime.progress import TrainingBar, console, say, training
from train.loop.callbacks import Step, TrainingCallbacks, best_eval, evals_since
from train.loop.sft import TrainingResult
from warehouse.wording import format_count

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
            say(f"training resumes at step {step.done} of {step.total}")
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
        say("stopping after this step, with a checkpoint; Ctrl-C again stops at once")
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


def ending(losses: Sequence[dict[str, float]], total: int) -> str:
    """Why a training with early stopping ended, and which step's weights it keeps."""
    best = best_eval(losses)
    if best is None:
        return f"held-out rows were never evaluated in {total} steps; the last weights are kept"
    step, loss = best
    done, evals = int(losses[-1]["step"]), evals_since(losses, step)
    kept = f"the weights of step {step} are kept"
    if done == total:
        return f"held-out loss {loss:.4g} at step {step} of {total} was the lowest; {kept}"
    after = format_count(evals, "evaluation")
    return (
        f"stopped early at step {done} of {total}: held-out loss {loss:.4g} at step {step} was not "
        f"beaten for {after}; {kept}"
    )


def print_audit(figures: dict[str, Any], to: Console) -> None:
    """What the trainer sees: a line for each figure, and the first rows with their supervised span."""
    description = summarize_audit(figures)
    table = Table(title="What the trainer sees", title_justify="left", box=None, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", overflow="fold")
    rows = ", ".join(f"{count:,} {bound}" for bound, count in description.lengths)
    for label, text in [*description.lines, ("rows by tokens", rows or "none")]:
        table.add_row(Text(label), Text(printable(text)))
    to.print(table, soft_wrap=False)
    for number, (before, supervised) in enumerate(description.examples, start=1):
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
