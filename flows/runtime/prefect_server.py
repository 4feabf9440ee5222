"""Prefect's servers: the user's, where one is configured; else one beside the warehouse.

The temporary server that Prefect would start by itself outlives a run that is killed, and
has no scheduler. The one here lives until its standard input closes, which the kernel does
when the run ends, however it ends.
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

from warehouse.errors import ServerError

START_S = 180.0
_CHILD = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
import uvicorn
uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1",
            port=int(sys.argv[1]), log_level="error")
"""


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
def server(home: Path, scheduler: bool = False) -> Iterator[str | None]:
    """A Prefect server on a free loopback port; yields its address.

    Where the user has a server, none is started and None is yielded. Its database lies
    beside the warehouse: runs on one warehouse follow each other, so it is never fought
    over; the default one of the user's home would be, by any two runs at once.

    Args:
        home: Folder of the warehouse.
        scheduler: Whether schedules are to be kept; the dashboard comes with it.

    Raises:
        ServerError: the server did not come up.
    """
    if has_own_server():
        yield None
        return
    folder = home / "runs" / ".prefect"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ}
    environment.setdefault(
        "PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    )
    environment.setdefault("PREFECT_SERVER_UI_API_URL", "/api")  # the port differs at every start
    if not scheduler:
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, str(port)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
    address = f"http://127.0.0.1:{port}"
    try:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        _wait_for(child, f"{address}/api/health", folder / "server.log")
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            yield address
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


def _wait_for(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    why = "ended" if child.poll() is not None else f"was not ready within {START_S:.0f} s"
    raise ServerError(
        f"Prefect's server {why}, see {log}; or start one with `prefect server start` and set "
        "PREFECT_API_URL"
    )
