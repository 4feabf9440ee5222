"""Prefect's servers: the user's, where one is configured; else one beside the warehouse.

`prepare` is called before Prefect is imported, since it reads its settings once. A run
is content with the temporary server that Prefect starts by itself. A schedule is not
(that server has no scheduler), so `server` runs a whole one for as long as it is served.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warehouse.errors import StageError

START_S = 180.0
_CHILD = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
import uvicorn
uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1",
            port=int(sys.argv[1]), log_level="error")
"""


def prepare(home: Path) -> None:
    """Give Prefect's server a database beside the warehouse, unless the user has a server.

    Runs on one warehouse follow each other, so its database is never fought over; the
    default one of the user's home would be, by any two runs at once.
    """
    if has_own_server():
        return
    folder = home / "runs" / ".prefect"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    )


def has_own_server() -> bool:
    """Whether PREFECT_API_URL is set, in the environment or in the active Prefect profile."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))


@contextmanager
def server() -> Iterator[str | None]:
    """A Prefect server with its scheduler on a free loopback port; yields its address.

    Where the user has a server, none is started and None is yielded. The child lives
    until its standard input closes, so none outlives a process that is killed.

    Raises:
        StageError: the server did not come up.
    """
    if has_own_server():
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(child, f"{address}/api/health")
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            yield address
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


def _wait_for(child: subprocess.Popen[bytes], url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise StageError(
        f"Prefect's server did not come up within {START_S:.0f} s; start one yourself with "
        "`prefect server start` and set PREFECT_API_URL"
    )
