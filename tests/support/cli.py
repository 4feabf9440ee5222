"""Run the command line in this process, as `python -m flows.cli` would in one of its own.

A process of its own costs 10 to 50 CPU seconds, most of it imports. Start one only for what a
process alone can show: signals, kills, locks between processes, start-up, a pure stdout.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

KEY = "sk-secret-4711"
"""The key that plans of the tests read from `MY_KEY`."""


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def distill(
    folder: Path, *words: object, input: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `distill WORDS` in a folder, through `main` and its handling of errors.

    Args:
        folder: The working directory.
        words: The command line; anything else than text is turned into it.
        input: What stands on stdin.
        environment: Variables for this command. The command's own changes do not outlive it.

    Raises:
        Exception: a bug; in a process of its own it would be a traceback.
    """
    from flows.cli import main

    argv = ["distill", *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    with (
        _working_in(folder),
        mock.patch.dict(os.environ, {"MY_KEY": KEY, **environment}),
        mock.patch.multiple(sys, argv=argv, stdin=io.StringIO(input)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())
