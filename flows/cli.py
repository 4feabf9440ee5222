"""The command `distill`. Its verbs stand in the files `verbs_*.py`."""

from __future__ import annotations

import errno
import sys

from flows import verbs_plan, verbs_results, verbs_student, verbs_warehouse
from flows.commandline import app
from warehouse.errors import StillhouseError

__all__ = ["app", "main", "verbs_plan", "verbs_results", "verbs_student", "verbs_warehouse"]

_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main() -> None:
    """Entry point: a foreseen error is one line and its exit code; a bug keeps its traceback."""
    try:
        app()
    except StillhouseError as error:
        print(f"distill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _FULL_OR_CLOSED:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"distill: {error.strerror}{where}; make room or mend the rights, then run again: "
              "what was received is kept", file=sys.stderr)  # fmt: skip
        sys.exit(2)


if __name__ == "__main__":
    main()
