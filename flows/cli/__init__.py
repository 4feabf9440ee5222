"""Define the command `distill`; each module of this folder holds a group of verbs."""

from __future__ import annotations

import errno
import gc
import sys

from flows.cli import parts, plan, results, student, warehouse
from flows.cli.options import app
from warehouse.errors import Outcome, StillhouseError

__all__ = ["app", "main", "parts", "plan", "results", "student", "warehouse"]

_GC_THRESHOLD = 50_000
"""Objects between two garbage collections. Imports leave objects that live until the end, and
Python's default of 700 spends a twentieth of a short command on looking through them."""
_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main() -> None:
    """Entry point: a foreseen error is one line and its exit code; a bug keeps its traceback."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        app()
    except (StillhouseError, Outcome) as error:
        print(f"distill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _FULL_OR_CLOSED:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"distill: {error.strerror}{where}; free disk space or fix the permissions, then rerun; "
              "received replies are saved", file=sys.stderr)  # fmt: skip
        sys.exit(2)
