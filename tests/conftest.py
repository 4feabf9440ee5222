"""Keep tests off the network and off the developer's Prefect; in CI, let none skip."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

LONGEST = ("flows", "train", "distill")
"""Folders of tests that take longest, longest first."""

HARDWARE = ("GPU", "FlashAttention", "oneDNN")
"""A reason to skip that names one of these holds in CI too; any other is a failure there."""

# Verbs run as Prefect flows only where the tests say so, whatever the developer has configured.
os.environ.pop("PREFECT_API_URL", None)
_PREFECT = tempfile.TemporaryDirectory(prefix="stillhouse-prefect-")
os.environ["PREFECT_HOME"] = _PREFECT.name


def pytest_configure(config: pytest.Config) -> None:
    """One thread for each worker, so that they do not fight for cores; Ctrl-C as in a terminal."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else children ignore it too
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest folders go first, so that all workers end at about the same time."""
    items.sort(key=lambda item: (*LONGEST, item.path.parent.name).index(item.path.parent.name))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI (`STILLHOUSE_CI=1`), turn a skip into a failure unless hardware is its reason."""
    if not os.environ.get("STILLHOUSE_CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(word in reason for word in HARDWARE):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: only hardware is a reason to skip in CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips as a whole."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Prefect server for the tests that ask for it; its database."""
    from flows.runtime import prefect_server

    home = tmp_path_factory.mktemp("prefect")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for this server, not for those of `serve`
            patch.setenv("PREFECT__SERVER_EPHEMERAL", "1")  # no services: schedules are not kept
            patch.setenv("PREFECT_UI_ENABLED", "0")
            stack.enter_context(prefect_server.server(home))
        yield home / "runs" / ".prefect" / "prefect.db"


@pytest.fixture
def prefect_configured(prefect_server: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Verbs of this test and of its child processes are flows of the session's server."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", str(PREFECT_API_AUTH_STRING.value()))
    return prefect_server


@pytest.fixture
def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs a distribution as pip leaves it: a module and its metadata on the path."""
    from flows.cli.parts import render_part

    def install(
        name: str, version: str, code: str | None = None, points: str = "brief = {module}:Brief"
    ) -> Path:
        site = tmp_path / f"site-{name}-{version}"
        module = re.sub(r"\W", "_", f"{name}_{version}").lower()
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code or render_part("scorer", "brief"))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = points.format(module=module)
        (info / "entry_points.txt").write_text(f"[stillhouse.scorer]\n{points}\n")
        monkeypatch.syspath_prepend(str(site))
        return site

    return install


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
