"""Progress bars on stderr: what, how many, rate, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from datagen.limits import Budget
from datagen.teacher import Reply

if TYPE_CHECKING:
    from train.watch import Step

console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed  # all of it: steps may come in one lump
        speed = task.completed / elapsed if elapsed else 0.0
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="dim")


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for `total` steps; yields `advance(n)`. Nothing is shown for nothing to do."""
    if total <= 0:
        yield lambda n: None
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda n: progress.advance(task, n)


@contextmanager
def training(label: str, total: int) -> Iterator[Callable[[Step], None]]:
    """A bar for a training of about `total` steps; yields what is told of each step."""
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=len(label))),
        BarColumn(bar_width=10),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(total)) + 1)),
        TextColumn("{task.fields[told]}", style="dim", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("left", table_column=Column(min_width=4)),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, told="")

        def watch(step: Step) -> None:
            told = f"loss {step.loss:.3f}, lr {step.learning_rate:.1e}, "
            told += f"{step.tokens_per_s:,.0f} tok/s, {step.memory / 1e9:.1f} GB"
            progress.update(task, completed=step.done, total=step.total, told=told)

        yield watch


class Meter:
    """Counts for the bar of an `asking` stage: done, reused, failed, rates, cost."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress, self._task = progress, task
        self._started = time.monotonic()
        self._reused = self._failed = self._replies = self._tokens = 0
        self._priced = False

    def skip(self, done: int, reused: int) -> None:
        """Requests that need no asking; `reused` of them are paid for already."""
        self._reused += reused
        self._show(done, None)

    def more(self, number: int) -> None:
        """There is more to do than was known at first."""
        if self._progress is not None and self._task is not None:
            total = self._progress.tasks[0].total or 0
            self._progress.update(self._task, total=total + number)

    def replied(self, reply: Reply, budget: Budget) -> None:
        """One reply has come and is kept."""
        self._failed += reply.error is not None
        self._replies += 1
        self._priced = self._priced or reply.cost_usd is not None
        self._tokens += reply.usage.prompt_tokens + reply.usage.completion_tokens
        self._show(1, budget)

    def _show(self, done: int, budget: Budget | None) -> None:
        if self._progress is None or self._task is None:
            return
        spent_s = max(time.monotonic() - self._started, 1e-6)
        told = [f"{self._replies / spent_s:.1f}/s", f"{self._tokens / spent_s:,.0f} tok/s"]
        if budget is not None:
            told += [f"{budget.in_flight} in flight"]
            told += [f"${budget.spent_usd:.4f}"] * self._priced
        told += [f"{self._reused} reused"] * bool(self._reused)
        told += [f"{self._failed} failed"] * bool(self._failed)
        self._progress.update(self._task, advance=done, told=", ".join(told))


@contextmanager
def meter(label: str, total: int) -> Iterator[Meter]:
    """A bar for `total` requests to a teacher."""
    if total <= 0:
        yield Meter(None, None)
        return
    width = 2 * len(f"{total:d}") + 1  # in a narrow terminal the counts are not what is cut
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=len(label))),
        BarColumn(bar_width=10),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=width)),
        TextColumn("{task.fields[told]}", style="dim", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("left", table_column=Column(min_width=4)),
    )
    with Progress(*columns, console=console) as progress:
        yield Meter(progress, progress.add_task(label, total=total, told=""))


def say(text: str) -> None:
    """One plain line on stderr; markup in it is shown as it is."""
    console.print(text, markup=False)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def tell_logs() -> None:
    """Let the user read what a teacher tells on the way, such as the state of a batch."""
    log = logging.getLogger("datagen")
    if not any(isinstance(handler, _Said) for handler in log.handlers):
        log.addHandler(_Said())
    log.setLevel(logging.INFO)
    log.propagate = False
