"""Lock a warehouse for one run. The kernel releases the lock when its holder dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from warehouse.errors import WarehouseError


@contextmanager
def exclusive(warehouse: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the run lock of a warehouse; a second run waits, and says so once."""
    try:
        warehouse.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(f"{warehouse.parent} cannot be created: {error.strerror}") from None
    lock = FileLock(f"{warehouse}.lock")
    holder = Path(f"{warehouse}.lock.pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = holder.read_text() if holder.exists() else "unknown"
        on_wait(f"another run (process {pid}) is using {warehouse.name}; waiting for it to end")
        lock.acquire()
    except OSError as error:
        raise WarehouseError(f"{lock.lock_file} cannot be written: {error.strerror}") from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()
