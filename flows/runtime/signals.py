"""Handle Ctrl-C and SIGTERM: finish in-flight requests, and end a training at a checkpoint."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def awaited(stop: Callable[[], None]) -> Iterator[None]:
    """Within a coroutine of the main thread: the first signal calls `stop`, the next one cancels.

    Elsewhere nothing changes: who owns the main thread handles signals.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    announced = False

    def signalled() -> None:
        nonlocal announced
        if announced:
            task.cancel()
        announced = True
        stop()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, signalled)
    except (ValueError, RuntimeError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number in SIGNALS:
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
        if announced or not stop():
            raise KeyboardInterrupt
        announced = True

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, signalled)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
