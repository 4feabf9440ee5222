"""No test reaches a network."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

# One Prefect database for the whole session, also for the commands that tests start: a new
# one takes twenty seconds to make.
_PREFECT = tempfile.TemporaryDirectory(prefix="stillhouse-prefect-")
os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = (
    f"sqlite+aiosqlite:///{_PREFECT.name}/prefect.db"
)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect server for all flows, also for those of commands that tests start: each
    would take ten seconds to start its own."""
    from flows.runtime import prefect_server

    with prefect_server.server(tmp_path_factory.mktemp("prefect")) as address:
        before = os.environ.get("PREFECT_API_URL")
        if address:
            os.environ["PREFECT_API_URL"] = f"{address}/api"
        yield
        if before is None:
            os.environ.pop("PREFECT_API_URL", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs flows shares the one server."""
    for item in items:
        if item.path.parent.name == "flows":
            item.add_marker(pytest.mark.usefixtures("prefect_server"))


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine, as a machine without network would."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse(address: Any) -> None:
        if not _is_local(address):
            raise OSError(101, f"a test tried to reach {address}: no network in tests")

    def guarded(self: socket.socket, address: Any) -> None:
        refuse(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        refuse(address)
        return connect_ex(self, address)

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local((name, 0)):
            raise socket.gaierror(socket.EAI_NONAME, f"no network in tests: {name}")
        return lookup(host, *args, **kwargs)

    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
