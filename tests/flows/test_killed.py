"""SIGKILL at any moment: the run is completed by running it again, and no reply that was
received is asked for again, by the server's own count."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.fakes import FakeOpenai, message_hash
from tests.support.plans import rows, write_rows
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.records import Call, Run

PLAN = """
name = "killed"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
max_in_flight = 4
[datagen]
shard = 15
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""
COMMAND = [sys.executable, "-m", "flows.cli", "generate", "plan.toml", "--json"]


def kept_now(store: Store) -> set[str]:
    """Hashes of the messages whose replies are in the warehouse, the spool included."""
    with Spool(store.path) as spool:
        spool.drain(store)
    return {message_hash(call.messages) for call in store.read(Call)}


def at_home(folder):
    """Processes that live in a folder: servers that outlived the runs that started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it ended meanwhile
    return found


def test_killed_three_times_then_finished(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    store.put_run(Run("another", "another", "hash", {}, "running", None, {}))
    write_rows(tmp_path / "prompts.jsonl", rows(0, 60))
    with FakeOpenai(lambda messages: "brown", latency_s=0.1) as server:
        (tmp_path / "plan.toml").write_text(PLAN.format(url=server.base_url))
        settled: dict[str, int] = {}
        for goal in (7, 22, 41):
            process = subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while sum(server.counts.values()) < goal and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.3)  # what was in flight has reached the server and is counted
            for asked, times in settled.items():
                assert server.counts[asked] == times
            settled = {asked: server.counts[asked] for asked in kept_now(store)}
        done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        for asked, times in settled.items():
            assert server.counts[asked] == times
        again_in_flight = sum(server.counts.values()) - 60
    result = json.loads(done.stdout)
    assert result["samples"] == 60
    assert len(store.read(Call)) == 60
    assert len(settled) >= 20
    assert 0 <= again_in_flight <= 3 * 4
    assert {run.run_id: run.state for run in store.read(Run)} == {
        "another": "killed",
        result["run_id"]: "completed",
    }
    assert at_home(tmp_path) == []
