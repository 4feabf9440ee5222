"""Count the processors that this process may use."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """Those it is bound to, as in a container, where the system tells; else all of the machine."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
