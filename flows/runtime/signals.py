"""Handle Ctrl-C, SIGTERM and a closed terminal: finish in-flight requests, and end a training at
a checkpoint."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_heard = False
"""Whether a signal came since `interrupted` was entered."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _handled() -> dict[signal.Signals, Any]:
    """The signals to handle with their present handlers; a SIGHUP that `nohup` ignores stays so."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    if handlers[signal.SIGHUP] is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    return handlers


def _hear(number: int) -> None:
    if number == signal.SIGHUP:
        leave_closed_terminal()


def leave_closed_terminal() -> None:
    """Write to nowhere what would go to the terminal: it can only fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):  # isatty() is false once it is closed
            os.dup2(nowhere, stream)
    os.close(nowhere)


@contextmanager
def awaited(stop: Callable[[], None]) -> Iterator[None]:
    """Within a coroutine of the main thread: the first signal calls `stop`, the next one cancels.

    Elsewhere nothing changes: who owns the main thread handles signals.
    """
    raise_if_swallowed()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    announced = False

    def signalled(number: int) -> None:
        nonlocal announced
        _hear(number)
        if announced:
            task.cancel()
            return
        announced = True
        stop()

    before = _handled()
    try:
        for number in before:
            loop.add_signal_handler(number, signalled, number)
    except (ValueError, RuntimeError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number in before:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


@contextmanager
def finished(stop: Callable[[], bool]) -> Iterator[None]:
    """In the main thread: the first signal calls `stop`, the next one interrupts.

    `stop` says whether the work will end by itself; where it will not, the first one interrupts.
    """
    announced = False

    def signalled(number: int, frame: FrameType | None) -> None:
        nonlocal announced
        _hear(number)
        if announced or not stop():
            raise KeyboardInterrupt
        announced = True

    with _handle_signals(_handled(), signalled):
        yield


@contextmanager
def interrupted() -> Iterator[None]:
    """In the main thread: every signal raises KeyboardInterrupt, as Ctrl-C does, and is remembered."""
    global _heard

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _heard
        _hear(number)
        _heard = True
        raise KeyboardInterrupt

    _heard = False
    with _handle_signals(_handled(), interrupt):
        yield


def raise_if_swallowed() -> None:
    """Raise KeyboardInterrupt again where a library caught it.

    DuckDB does so while it imports pandas for the first time, which takes half a second.
    """
    if _heard:
        raise KeyboardInterrupt


@contextmanager
def _handle_signals(
    before: dict[signal.Signals, Any], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals, then restore their handlers; outside of the main thread nothing changes."""
    try:
        for number in before:
            signal.signal(number, handler)
    except ValueError:  # not in the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, before[number])
