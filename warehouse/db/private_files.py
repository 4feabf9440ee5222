"""Create files that their owner alone can read: the warehouse, its log, and what waits to enter it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_umask = 0


@contextmanager
def private_files() -> Iterator[None]:
    """Give every file that is created within the mode 0600; may be entered by several threads.

    DuckDB creates its files itself, so there is no other way to its write-ahead log than the umask
    of the process. Files that exist keep the mode that their owner gave them.
    """
    global _inside, _umask
    with _lock:
        if not _inside:
            _umask = os.umask(0o077)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                os.umask(_umask)
