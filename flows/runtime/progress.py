"""Show progress bars on stderr: name, count, rate, time left; or log lines of JSON in their place."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from datagen.spending.limits import Budget
from datagen.teacher import Reply
from flows.runtime.signals import leave_closed_terminal
from warehouse.secrets import mask

if TYPE_CHECKING:
    from train.loop.callbacks import Step

Result = TypeVar("Result")


class _Stderr:
    """The standard error of the moment; what a closed terminal does not take goes nowhere.

    Between the close and its SIGHUP a bar may be drawn anew, which must not end the run.
    """

    def write(self, text: str) -> int:
        return self._unless_closed(lambda: sys.stderr.write(text)) or len(text)

    def flush(self) -> None:
        self._unless_closed(sys.stderr.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def _unless_closed(self, do: Callable[[], Result]) -> Result | None:
        try:
            return do()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            leave_closed_terminal()
            return None


console = Console(file=cast("IO[str]", _Stderr()), highlight=False, soft_wrap=True)

LOG_FORMAT = "STILLHOUSE_LOG_FORMAT"
"""Environment variable: "json" for a JSON object on each line of stderr, and no bars."""

_run_id: str | None = None
"""The run that was opened last in this process: log lines name it."""

LABEL = 28
"""Characters that a bar's label takes at most."""


class _Details(ProgressColumn):
    """The first of `details` that fit into the line; the most important come first."""

    def parts(self, task: Task) -> Sequence[str]:
        details: Sequence[str] = task.fields["details"]
        return details

    def render(self, task: Task) -> Text:
        counts = 2 * len(f"{task.total or 0:.0f}") + 1
        others = (len(task.description), _bar_width(), counts, len(_times(task)))
        room = console.width - sum(others) - len(others)
        return Text(fitting(self.parts(task), room), style="dim")


class _Rate(_Details):
    def parts(self, task: Task) -> Sequence[str]:
        elapsed = task.finished_time or task.elapsed  # all of it: steps may come in one lump
        speed = task.completed / elapsed if elapsed else 0.0
        return (f"{speed:,.1f}/s" if speed else "-/s",)


class _Times(ProgressColumn):
    """Time gone, then time left."""

    def render(self, task: Task) -> Text:
        return Text(_times(task), style="cyan")


def fitting(parts: Sequence[str], room: int) -> str:
    """As many of the parts as fit into so many characters, from the first on."""
    shown = ""
    for part in parts:
        longer = f"{shown}, {part}" if shown else part
        if len(longer) > room:
            break
        shown = longer
    return shown


def _times(task: Task) -> str:
    over = task.finished or task.stop_time is not None
    gone = task.finished_time if task.finished else task.elapsed
    return f"{_time(gone)}, {_time(0.0 if over else task.time_remaining)} left"


def _time(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))


def _bar_width() -> int:
    return 10 if console.width >= 100 else 4


@contextmanager
def _progress(label: str, total: int, details: ProgressColumn) -> Iterator[tuple[Progress, TaskID]]:
    """A bar that ends with the time gone and the time left, in a line of the terminal's width."""
    shown = label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"
    name, counts = TextColumn("{task.description}", markup=False), MofNCompleteColumn()
    columns = (name, BarColumn(_bar_width()), counts, details, _Times(Column(no_wrap=True)))
    with Progress(*columns, console=console, disable=is_json()) as progress:
        task = progress.add_task(shown, total=total, details=())
        started = time.monotonic()
        yield progress, task
        progress.stop_task(task)  # also where it ended before its last step
    if is_json():
        done, spent_s = progress.tasks[0], time.monotonic() - started
        figures = {"done": int(done.completed), "total": total, "seconds": round(spent_s, 3)}
        log(label.strip(), "info", **figures, details=list(done.fields["details"]))


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for `total` steps; yields `advance(n)`. Nothing is shown for nothing to do."""
    if total <= 0:
        yield lambda n: None
        return
    below = LABEL if console.width >= 80 else 0  # bars below each other begin alike
    with _progress(label.ljust(below), total, _Rate()) as (progress, task):
        yield lambda n: progress.advance(task, n)


class TrainingBar:
    """The bar of a training: first for the answers drawn for it, then for its steps."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._drawing = False

    def drawn(self, done: int, total: int) -> None:
        """Show how many answers of the untuned student are drawn."""
        self._drawing = True
        details = ["answers of the untuned student"]
        self._progress.update(self._task, completed=done, total=total, details=details)

    def step(self, step: Step) -> None:
        """A step was taken."""
        if self._drawing:
            self._progress.reset(self._task)  # the time left is that of steps
            self._drawing = False
        details = _parts(step)
        self._progress.update(self._task, completed=step.done, total=step.total, details=details)


@contextmanager
def training(label: str, total: int) -> Iterator[TrainingBar]:
    """A bar for a training of about `total` steps."""
    with _progress(label, total, _Details()) as (progress, task):
        yield TrainingBar(progress, task)


def _parts(step: Step) -> list[str]:
    return [
        f"loss {step.loss:.3f}",
        *([] if step.held_out_loss is None else [f"held-out {step.held_out_loss:.3f}"]),
        f"lr {step.learning_rate:.1e}",
        *([f"{step.tokens_per_s:,.0f} tok/s"] if step.tokens_per_s else []),
        f"{step.memory / 1e9:.1f} GB",
    ]


class Meter:
    """Counts for the bar of a stage that sends requests: done, reused, failed, rates, cost."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress, self._task = progress, task
        self._started = time.monotonic()
        self._reused = self._failed = self._replies = self._tokens = 0
        self._priced = False

    def skip(self, done: int, reused: int) -> None:
        """Count requests that need not be sent; replies to `reused` of them are already stored."""
        self._reused += reused
        self._show(done, None)

    def more(self, number: int) -> None:
        """Raise the total by so many requests."""
        if self._progress is not None and self._task is not None:
            total = self._progress.tasks[0].total or 0
            self._progress.update(self._task, total=total + number)

    def replied(self, reply: Reply, budget: Budget) -> None:
        """Count one reply, which is stored."""
        self._failed += reply.error is not None
        self._replies += 1
        self._priced = self._priced or reply.cost_usd is not None
        self._tokens += reply.usage.prompt_tokens + reply.usage.completion_tokens
        self._show(1, budget)

    def _show(self, done: int, budget: Budget | None) -> None:
        if self._progress is None or self._task is None:
            return
        details = [f"{self._failed} failed"] * bool(self._failed)
        if budget is not None:
            details += [f"${budget.spent_usd:.4f}"] * self._priced
        details += [f"{self._reused} reused"] * bool(self._reused)
        if self._replies:
            spent_s = max(time.monotonic() - self._started, 1e-6)
            details += [f"{self._replies / spent_s:.1f}/s", f"{self._tokens / spent_s:,.0f} tok/s"]
        if budget is not None:
            details += [f"{budget.in_flight} in flight"]
        self._progress.update(self._task, advance=done, details=details)


@contextmanager
def meter(label: str, total: int, grows: bool = False) -> Iterator[Meter]:
    """A bar for `total` requests to a teacher; where it `grows`, more of them become known later."""
    if total <= 0 and not grows:
        yield Meter(None, None)
        return
    with _progress(label, total, _Details()) as (progress, task):
        yield Meter(progress, task)


def say(text: str) -> None:
    """One plain line on stderr; markup in it is shown as it is."""
    if is_json():
        is_note = text.startswith("note: ")
        log(text.removeprefix("note: "), "warning" if is_note else "info")
    else:
        console.print(text, markup=False)


def is_json() -> bool:
    """Whether log lines of JSON are wanted, and no bars."""
    return os.environ.get(LOG_FORMAT) == "json"


def log(message: str, level: str, **figures: Any) -> None:
    """One line of JSON on stderr: time (UTC), level, run_id, message and figures; no secrets."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "run_id": _run_id,
        "message": mask(message),
        **figures,
    }
    console.file.write(json.dumps(line, ensure_ascii=False) + "\n")
    console.file.flush()


def name_run(run_id: str) -> None:
    """Let log lines from now on name this run."""
    global _run_id
    _run_id = run_id


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if is_json():
            log(record.getMessage(), record.levelname.lower())
        else:
            say(record.getMessage())


def show_teacher_logs() -> None:
    """Show log messages of the teachers, such as the state of a batch, as lines on stderr."""
    logger = logging.getLogger("datagen")
    if not any(isinstance(handler, _LineHandler) for handler in logger.handlers):
        logger.addHandler(_LineHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
