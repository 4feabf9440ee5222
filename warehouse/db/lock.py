"""Lock a warehouse for one run. The kernel releases the lock when its holder dies.

Beside the lock stands who holds it: its process, and whether it is a tick of a schedule, which
another tick may cancel.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from warehouse.errors import Skipped, WarehouseError

_TICK = "tick"


@contextmanager
def exclusive(
    warehouse: Path,
    on_wait: Callable[[str], None],
    overlap: Literal["skip", "wait", "cancel"] = "wait",
    tick: bool = False,
) -> Iterator[None]:
    """Hold the run lock of a warehouse.

    Args:
        warehouse: Its file.
        on_wait: Told once that another run is waited for.
        overlap: What happens where another run holds it: `wait` for its end, `skip` this one, or
            `cancel` the other, where that is a tick of a schedule on this machine, and wait for its
            end.
        tick: Whether this run is a tick of a schedule.

    Raises:
        Skipped: another run holds it, and `overlap` is "skip".
    """
    try:
        warehouse.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(f"{warehouse.parent} cannot be created: {error.strerror}") from None
    lock = FileLock(f"{warehouse}.lock")
    holder = Path(f"{warehouse}.lock.pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid, *rest = (holder.read_text() if holder.exists() else "unknown").split(" ")
        other = f"another run (process {pid}) is using {warehouse.name}"
        if overlap == "skip":
            raise Skipped(f"{other}; this one is left out") from None
        if overlap == "cancel" and rest == [_TICK, socket.gethostname()]:
            on_wait(f"{other}; it is told to stop")
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        else:
            on_wait(f"{other}; waiting for it to end")
        lock.acquire()
    except OSError as error:
        raise WarehouseError(f"{lock.lock_file} cannot be written: {error.strerror}") from None
    try:
        what = f" {_TICK} {socket.gethostname()}" if tick else ""
        holder.write_text(f"{os.getpid()}{what}")
        yield
    finally:
        holder.unlink(missing_ok=True)  # a process of this number may be another one tomorrow
        lock.release()
