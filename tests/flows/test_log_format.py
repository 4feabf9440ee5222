"""`--log-format json`: each line of stderr is an object that names its run, without bars or secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.plans import write_plan
from warehouse.db.store import Store
from warehouse.records import Run


def lines_of(folder, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    return done, [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_names_its_run_and_what_was_counted(tmp_path):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\ndefault = "brown"\n', prompts=8)
    done, lines = lines_of(tmp_path, "--log-format", "json", "tick", str(plan), "--stage", "curate")
    assert done.returncode == 0, done.stderr
    [run] = Store(tmp_path / "w.duckdb").read(Run)
    ending = lines[-1]
    assert ending["run_id"] == run.run_id and ending["message"].startswith("tick: ")
    [asked] = [line for line in lines if line["message"] == "asking the teacher"]
    assert (asked["done"], asked["total"], asked["level"]) == (8, 8, "info")
    assert all({"time", "level", "run_id", "message"} <= line.keys() for line in lines)


def test_an_error_is_a_line_of_json_without_its_key(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'name = "x"\n[teacher]\nuse = "openai_chat"\nmodel = "m"\n'
        'base_url = "http://user:hunter2hunter2@127.0.0.1:9/v1"\n'
        '[[datagen.recipe]]\nuse = "imitation"\nprompts = "none.jsonl"\n'
    )
    done, lines = lines_of(tmp_path, "tick", str(plan), STILLHOUSE_LOG_FORMAT="json")
    assert done.returncode == 2
    assert (lines[-1]["level"], lines[-1]["exit_code"]) == ("error", 2)
    assert "hunter2" not in done.stderr


def test_another_format_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--log-format", "yaml", "runs"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "allowed: text, json" in done.stderr
