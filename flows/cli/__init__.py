"""Define the command `distill`; each module of this folder holds a group of verbs."""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback

import typer

from flows.cli import data, parts, plan, results, schedule, student, warehouse
from flows.cli.options import DEBUG, LOG_FORMAT, app
from flows.cli.usage import describe_usage_error
from warehouse.errors import Outcome, StillhouseError
from warehouse.extras import missing_module_error
from warehouse.part_origins import part_error

__all__ = ["app", "data", "main", "parts", "plan", "results", "schedule", "student", "warehouse"]

_GC_THRESHOLD = 50_000
"""Objects between two garbage collections. Imports leave objects that live until the end, and
Python's default of 700 spends a twentieth of a short command on looking through them."""
_FULL_OR_CLOSED = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
)  # fmt: skip


def main() -> None:
    """Entry point: a foreseen error is one line and its exit code; a bug keeps its traceback."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        exit_code = app(prog_name="distill", standalone_mode=False)
        sys.exit(exit_code if isinstance(exit_code, int) else 0)
    except typer.Abort:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout has what it wanted, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        foreseen = _describe(error)
        if foreseen is None:
            raise
        line, exit_code = foreseen
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        if line and os.environ.get(LOG_FORMAT) == "json":
            from flows.runtime.progress import log

            log(line, "error", exit_code=exit_code)
        elif line:
            print(f"distill: {line}", file=sys.stderr)
        sys.exit(exit_code)


def _describe(error: Exception) -> tuple[str, int] | None:
    """The line that a user reads about an error, and the exit code; None for a bug."""
    if isinstance(error, typer.TyperException):
        return describe_usage_error(error), 2
    if isinstance(error, (StillhouseError, Outcome)):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in _FULL_OR_CLOSED:
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"{error.strerror}{where}; free disk space or fix the permissions, then rerun; "
            "received replies are saved"
        ), 2
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; name another path", 2
    foreseen = part_error(error) or missing_module_error(error)
    if foreseen is None:
        return None
    return f"{foreseen}; `distill --debug VERB ...` shows the traceback", foreseen.exit_code
