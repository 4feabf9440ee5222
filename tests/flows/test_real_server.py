"""A Prefect server with PostgreSQL, as `make server` starts it: two served plans and a worker."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from warehouse.db.store import Store
from warehouse.records import Call

ROOT = Path(__file__).parents[2]
PREFECT = Path(sys.executable).with_name("prefect")
LOGIN = "tester:s3cret"
ENDED = json.dumps(
    {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}}
).encode()
"""Runs that have ended; those that are scheduled are many."""


def plan_in(folder, name):
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"prompt": "What colour is it?"}\n')
    (folder / "plan.toml").write_text(
        f'name = "{name}"\nwarehouse = "w.duckdb"\n[teacher]\nuse = "scripted"\ndefault = "brown"\n'
        '[[datagen.recipe]]\nuse = "imitation"\nprompts = "rows.jsonl"\n'
        '[quality]\nscorers = ["style"]\n[schedule]\ninterval = "20s"\n'
    )
    return folder / "plan.toml"


@pytest.fixture
def server():
    """Its address and where it keeps its data."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    home = Path(tempfile.mkdtemp(prefix="stillhouse-", dir="/tmp"))  # a socket's path is short
    home.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "DATA": str(home / "data"), "PORT": str(port), "PREFECT": str(PREFECT),
        "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
    }  # fmt: skip
    log = (home / "log").open("w")
    process = subprocess.Popen(
        [ROOT / "examples" / "server" / "start.sh"], env=environment, stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5)
                break
            except OSError:
                assert process.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        assert not list((home / "data").glob(".s.PGSQL*"))  # PostgreSQL has ended, too
        shutil.rmtree(home)


def flow_runs(url):
    token = base64.b64encode(LOGIN.encode()).decode()
    request = urllib.request.Request(
        f"{url}/flow_runs/filter", ENDED,
        {"Content-Type": "application/json", "Authorization": f"Basic {token}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def test_two_served_plans_and_a_worker(server, tmp_path):
    environment = {**os.environ, "PREFECT_API_URL": server, "PREFECT_API_AUTH_STRING": LOGIN}

    def run(*command, env=environment):
        return subprocess.run(
            [str(word) for word in command], cwd=tmp_path, env=env, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    distill = (sys.executable, "-m", "flows.cli")
    plans = {name: plan_in(tmp_path / name, name) for name in ("one", "two", "pooled")}
    refused = run(
        *distill, "serve", plans["one"], env={**environment, "PREFECT_API_AUTH_STRING": "x:y"}
    )
    assert refused.returncode == 2 and "set PREFECT_API_AUTH_STRING" in refused.stderr
    missing = run(*distill, "deploy", plans["pooled"], "--pool", "here")
    assert missing.returncode == 2 and "work-pool create" in missing.stderr
    assert run(PREFECT, "work-pool", "create", "--type", "process", "here").returncode == 0
    deployed = run(*distill, "deploy", plans["pooled"], "--pool", "here")
    assert deployed.returncode == 0, deployed.stderr
    assert LOGIN not in deployed.stdout + deployed.stderr

    with ExitStack() as stack:
        processes = []
        for words in (
            (*distill, "serve", plans["one"], plans["two"]),
            (PREFECT, "worker", "start", "--pool", "here"),
        ):
            log = stack.enter_context((tmp_path / f"log{len(processes)}").open("w"))
            process = subprocess.Popen(
                [str(word) for word in words], cwd=tmp_path, env=environment, stdout=log, stderr=log
            )
            processes.append(process)
        try:
            deadline = time.monotonic() + 240
            states: dict[str, set[str]] = {}
            while time.monotonic() < deadline:
                time.sleep(2)
                for found in flow_runs(server):
                    if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
                        name = found["name"].partition(",")[0]
                        states.setdefault(name, set()).add(found["state_name"])
                if all({"Completed", "NothingNew"} <= states.get(name, set()) for name in plans):
                    break
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(timeout=60)
    logs = "\n".join((tmp_path / f"log{n}").read_text() for n in range(2))
    assert set(states) == set(plans), logs
    for name, plan in plans.items():
        assert {"Completed", "NothingNew"} <= states[name], logs
        assert not {"Failed", "Crashed"} & states[name], logs
        assert len(Store(plan.parent / "w.duckdb").read(Call)) == 1
    assert LOGIN not in logs
