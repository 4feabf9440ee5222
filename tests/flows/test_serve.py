"""A plan on a schedule: a real Prefect server, a real scheduler, a run of its own accord."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil

from tests.support.cli import distill
from tests.support.plans import write_plan
from warehouse.db.store import Store
from warehouse.records import Run


def _listening(pid: int) -> list[int]:
    children = psutil.Process(pid).children(recursive=True)
    found = [one for child in children for one in child.net_connections() if one.status == "LISTEN"]
    return sorted({one.laddr.port for one in found})


def _ui_settings(port: int) -> dict[str, str] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ui-settings", timeout=5) as reply:
            found: dict[str, str] = json.load(reply)
            return found
    except OSError:
        return None  # another server than the dashboard's


def _status(url: str, **headers: str) -> int:
    """The status of a POST with an empty JSON object."""
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_served_plan_runs_by_itself_and_nothing_is_left_behind(tmp_path):
    plan = write_plan(
        tmp_path, '[teacher]\nuse = "scripted"\ndefault = "brown"\n', prompts=8, held_out=4
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", str(plan), "--cron", "* * * * *"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    store = Store(tmp_path / "w.duckdb")
    try:
        deadline = time.monotonic() + 200
        states: list[str] = []
        while "completed" not in states and time.monotonic() < deadline:
            time.sleep(1)
            assert process.poll() is None, process.communicate()
            states = [run.state for run in store.read(Run)]
        # the dashboard asks the address it came from, not Prefect's default port
        ports = _listening(process.pid)
        settings = [_ui_settings(port) for port in ports]
        found = [(one["api_url"], one["auth"]) for one in settings if one]
        assert found == [("/api", "BASIC")]
        port = next(port for port, one in zip(ports, settings, strict=True) if one)
        asked = f"http://127.0.0.1:{port}/api/deployments/filter"
        assert _status(asked) == 401
        assert _status(asked, Origin="http://evil.example") == 403
        assert _status(asked, Host=f"evil.example:{port}") == 403
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert "completed" in states, err
    assert "Traceback" not in err
    address = err.partition("dashboard at ")[2].partition(";")[0]
    assert "its password is distill:" in err
    try:
        urllib.request.urlopen(address, timeout=5)
    except OSError:
        gone = True
    assert gone


def test_a_schedule_that_is_none_is_one_line(tmp_path):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=8, held_out=4)
    done = distill(tmp_path, "serve", plan, "--cron", "every day")
    assert done.returncode == 2
    assert "'every day' is no cron schedule" in done.stderr
    assert "Traceback" not in done.stderr
