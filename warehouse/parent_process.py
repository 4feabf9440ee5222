"""End a child process when its parent ends, however it ends."""

from __future__ import annotations

import os
import threading


def end_with_parent() -> None:
    """End this process once its standard input closes.

    The parent starts it with `stdin=subprocess.PIPE` and writes nothing: the kernel closes the pipe
    when the parent ends, also by SIGKILL. Processes that this one starts inherit the pipe.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread must not hold as Python ends
        pass
    os._exit(1)
