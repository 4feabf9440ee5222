"""Start a Prefect server for schedules, and find and check the one that the user configured.

The temporary server that Prefect would start by itself outlives a run that is killed, has no
scheduler, and obeys whoever reaches its port. The one here ends with the run, however the run
ends, and takes requests with its own token only, to a loopback name and from no foreign page.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from warehouse.errors import ServerError

START_S = 180.0
"""Seconds that a server may take to start, migrations of its database included."""

ANSWER_S = 2.0
"""Seconds until a configured server must answer; Prefect's client tries to connect four times."""

_PROCESS = "flows.runtime.prefect_process"


class Address(NamedTuple):
    """Where a started server listens, and what unlocks it."""

    url: str
    password: str
    """What its dashboard asks for: user and password of the API, with a colon between them."""


def is_configured() -> bool:
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


def require_answer() -> None:
    """Ask the configured server for its health, with the user's credentials.

    Raises:
        ServerError: it does not answer, or refuses.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": ANSWER_S}, sync_client=True) as client,
    ):
        error = client.api_healthcheck()
        if error is not None:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ServerError(
                f"Prefect's server at {client.api_url} does not answer ({reason}); start it with "
                "`prefect server start`, or unset PREFECT_API_URL (in the environment or in "
                "Prefect's profile) to run without a server"
            )
        try:  # its health is told to everybody
            client.request("POST", "/flows/count", json={})
        except httpx.HTTPStatusError as refused:
            status = refused.response.status_code
            raise ServerError(
                f"Prefect's server at {client.api_url} refuses the request (HTTP {status}); "
                "set PREFECT_API_AUTH_STRING to its user:password, or PREFECT_API_KEY"
            ) from None


@contextmanager
def server(home: Path) -> Iterator[Address | None]:
    """A Prefect server with scheduler and dashboard on a free loopback port; yields its address.

    Within the block Prefect's clients here, and in processes started here, know its token.

    Where the user has a server, none is started and None is yielded. The database is beside
    the warehouse, not in the user's home, where all runs of all projects would share it.

    Args:
        home: Folder of the warehouse.

    Raises:
        ServerError: the server did not start, or the configured one does not answer.
    """
    if is_configured():
        require_answer()
        yield None
        return
    folder = home / "runs" / ".prefect"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # its database and log hold what flows were given and printed
    with ExitStack() as stack:
        with FileLock(folder / "start.lock"):  # two servers would both migrate a new database
            child, address = stack.enter_context(_server_process(folder))
            _wait_for(child, f"{address.url}/api/health", folder / "server.log")
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        client = {
            PREFECT_API_URL: f"{address.url}/api",
            PREFECT_API_AUTH_STRING: address.password,
        }
        with temporary_settings(client):
            yield address


@contextmanager
def _server_process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Address]]:
    """A server's process and its address; it ends with the block."""
    from flows.runtime.loopback import HOST, listen

    with listen() as listening:  # inherited: nobody else can take the port in between
        address = Address(
            f"http://{HOST}:{listening.getsockname()[1]}", f"distill:{secrets.token_urlsafe(24)}"
        )
        environment = {
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
            "PREFECT_SERVER_UI_API_URL": "/api",  # the port differs at every start
            **os.environ,
            "PREFECT_SERVER_API_AUTH_STRING": address.password,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address.url,
        }
        with (folder / "server.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", _PROCESS, str(listening.fileno())],
                env=environment,
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
    try:
        yield child, address
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
