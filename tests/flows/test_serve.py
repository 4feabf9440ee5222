"""A plan on a schedule: a real Prefect server, a real scheduler, a run of its own accord."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cli import distill
from tests.support.plans import write_plan
from warehouse.db.store import Store
from warehouse.records import Run

ENDED = json.dumps(
    {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}}
).encode()
"""Runs that have ended; those that are scheduled are many."""


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


def _flow_runs(log: Path) -> list[dict[str, Any]]:
    """The flow runs that the private server of `serve` knows, by its address in the log."""
    found = re.search(r"dashboard at (\S+); its password is (\S+);", log.read_text())
    if found is None:
        return []
    token = base64.b64encode(found[2].encode()).decode()
    request = urllib.request.Request(
        f"{found[1]}/api/flow_runs/filter", ENDED,
        {"Content-Type": "application/json", "Authorization": f"Basic {token}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20) as reply:
        runs: list[dict[str, Any]] = json.load(reply)
    return runs


def test_two_plans_are_served_and_a_failed_tick_is_one_line(tmp_path):
    teacher = '[teacher]\nuse = "scripted"\ndefault = "brown"\n'
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    for name, text in (("good", teacher), ("bad", teacher)):
        (tmp_path / name / "rows.jsonl").write_text('{"prompt": "What colour is it?"}\n')
        (tmp_path / name / "plan.toml").write_text(
            f'name = "{name}"\n{text}[[datagen.recipe]]\nuse = "imitation"\nprompts = "rows.jsonl"\n'
            '[quality]\nscorers = ["style"]\n[schedule]\ninterval = "15s"\n'
        )
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "serve", "good/plan.toml", "bad/plan.toml"],
            cwd=tmp_path, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        states: dict[str, set[tuple[str, str]]] = {"good": set(), "bad": set()}
        while time.monotonic() < deadline:
            time.sleep(1)
            assert process.poll() is None, log.read_text()
            for run in _flow_runs(log):
                if run["state_type"] in ("COMPLETED", "FAILED"):
                    name = run["name"].partition(",")[0]
                    states[name].add((run["state_type"], run["state_name"]))
                    if name == "bad":
                        (tmp_path / "bad" / "rows.jsonl").write_text("no JSON\n")
            if len(states["good"]) > 1 and any(kind == "FAILED" for kind, _ in states["bad"]):
                break
    finally:
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(timeout=60)
    assert time.monotonic() - began < 30
    assert {("COMPLETED", "Completed"), ("COMPLETED", "NothingNew")} <= states["good"]
    assert ("FAILED", "Failed") in states["bad"]
    text = log.read_text()
    assert "Traceback" not in text, text
    assert "serving 'good' every 15s, 'bad' every 15s" in text
    assert "rows.jsonl line 1" in text  # why it failed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval", "often"], "'often' is no interval"),
        (["--cron", "* * * * *", "--interval", "5m"], "cannot be combined"),
        ([], "when is plan 'small' to run?"),
        (["--stage", "trian", "--interval", "5m"], "unknown --stage 'trian'"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line(tmp_path, words, told):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=8, held_out=4)
    done = distill(tmp_path, "serve", plan, *words)
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr


def test_two_plans_of_one_name_are_refused(tmp_path):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=8, held_out=4)
    other = tmp_path / "other.toml"
    other.write_text(plan.read_text())
    done = distill(tmp_path, "serve", plan, other, "--interval", "5m")
    assert done.returncode == 2 and "two plans have the name 'small'" in done.stderr


@pytest.mark.parametrize(
    "line",
    ['timezone = "Mars/Base"', 'interval = "soon"', 'cron = "0 3 * * *"\ninterval = "1h"',
     'stage = "everything"', 'overlap = "never"', "retrain_when = { rows = 5 }"],
)  # fmt: skip
def test_a_faulty_schedule_section_is_refused_with_its_key(tmp_path, line):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=8, held_out=4)
    plan.write_text(plan.read_text() + f"[schedule]\n{line}\n")
    done = distill(tmp_path, "tick", plan)
    assert done.returncode == 2 and "schedule" in done.stderr and "Traceback" not in done.stderr
