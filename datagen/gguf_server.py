"""Serve a GGUF model behind an OpenAI-compatible API, in a child process.

`python -m datagen.gguf_server` is the child: it loads the model with xllamacpp, prints
its address, and lives until its standard input closes. The kernel closes that when the
parent ends, however it ends, so no server outlives a killed run. `GgufServer` is the
parent's end.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import logging
import os
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from warehouse.errors import TeacherUnusable
from warehouse.processors import usable_processors

KEY_ENV = "STILLHOUSE_GGUF_KEY"
BUSY = 0.5
"""Share of the processors that other processes use, from which on it is told."""
_BUSY_S = 0.2
_WAITS = {"GOMP_SPINCOUNT": "5000"}
"""llama.cpp's threads wait for one another after every operation. Where they spin for long meanwhile,
and another process has the processor of one of them, all others burn theirs for nothing; where they
sleep at once, a fifth of the rate is lost on an idle machine. So they spin for some microseconds."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    url: str
    key: str


class GgufServer:
    """Starts the child when its address is first wanted, and again if it has died."""

    def __init__(
        self, model: Path, alias: str, slots: int, context: int, start_timeout_s: float
    ) -> None:
        self.options = (model, alias, slots, context, start_timeout_s)
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as a server that has not been started."""
        return GgufServer, self.options

    @staticmethod
    def require() -> None:
        """Raise TeacherUnusable where xllamacpp is not installed."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise TeacherUnusable(
                "a local GGUF teacher needs xllamacpp, which is not installed; "
                'pip install "stillhouse[embedded]"'
            )

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._child.process.pid if self._child else None

    def address(self) -> tuple[str, str]:
        """URL (without /v1) and key of the running server.

        Raises:
            TeacherUnusable: xllamacpp is missing, or the model cannot be served.
        """
        with self._lock:
            if self._child is None or self._child.process.poll() is not None:
                self._stop()
                self._child = self._start()
            return self._child.url, self._child.key

    def died(self, within_s: float = 2.0) -> bool:
        """Whether the child has ended; one that was killed takes a moment to be gone."""
        with self._lock:
            try:
                return self._child is None or self._child.process.wait(within_s) is not None
            except subprocess.TimeoutExpired:
                return False

    def stop(self) -> None:
        """End the child. Safe to call twice."""
        with self._lock:
            self._stop()

    def _start(self) -> _Child:
        model, alias, slots, context, timeout_s = self.options
        self.require()
        _tell_busy(model.name)
        key = secrets.token_urlsafe(24)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (kept open as long as the child lives)
        command = [sys.executable, "-P", "-m", "datagen.gguf_server", str(model.resolve()), alias]
        homes = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [*command, str(slots), str(context)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={
                **({} if "OMP_WAIT_POLICY" in os.environ else _WAITS),
                **os.environ,
                KEY_ENV: key,
                "PYTHONPATH": os.pathsep.join(filter(None, homes)),
            },
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        atexit.register(self.stop)
        self._child = _Child(process, errors, "", key)
        deadline = time.monotonic() + timeout_s
        url = _first_line(process, deadline)
        while not (url and _healthy(url)):
            if process.poll() is not None or time.monotonic() > deadline:
                why = "ended" if process.poll() is not None else f"was not ready in {timeout_s:g} s"
                last_line = _last_line(errors)
                self._stop()
                raise TeacherUnusable(f"the server of {model.name} {why}: {last_line}")
            time.sleep(0.05)
        return _Child(process, errors, url, key)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        atexit.unregister(self.stop)
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            child.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.errors.close()


def _tell_busy(name: str) -> None:
    """Say that others use this machine: replies then come later than the estimate says."""
    processors = usable_processors()
    own = psutil.Process()
    own.cpu_percent()  # from here on
    used = psutil.cpu_percent(interval=_BUSY_S) / 100 * (os.cpu_count() or 1)
    used -= own.cpu_percent() / 100
    if used >= BUSY * processors:
        log.warning(
            "this machine is busy: other processes use %.1f of its %d processors, so %s answers more "
            "slowly than it could; wait for them, or let it go on",
            min(used, processors),
            processors,
            name,
        )


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> str:
    """The child's first line; empty if it ended or the deadline passed before one came."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    line = process.stdout.readline().decode().strip() if ready else ""
    if ready and not line:
        process.wait()
    return line


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it printed nothing"


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m datagen.gguf_server", description=main.__doc__)
    parser.add_argument("model", help="path of the .gguf file")
    parser.add_argument("alias", help="name the server gives the model")
    parser.add_argument("slots", type=int, help="requests answered side by side")
    parser.add_argument("context", type=int, help="context of one slot in tokens")
    options = parser.parse_args()

    import xllamacpp

    address = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints goes to stderr
    settings = xllamacpp.CommonParams()
    settings.model.path = options.model
    settings.model_alias = {options.alias}
    settings.n_parallel = options.slots
    settings.n_ctx = options.context * options.slots
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0  # the kernel picks a free one
    settings.api_keys = [os.environ.pop(KEY_ENV)]
    server = xllamacpp.Server(settings)
    print(server.listening_address, file=address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
