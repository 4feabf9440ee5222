"""The command line: help, one-line errors, exit codes, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import distill
from tests.support.plans import IMITATION, rows, write_rows

VERBS = [
    "init",
    "check",
    "run",
    "generate",
    "curate",
    "review",
    "train",
    "evaluate",
    "export",
    "data",
    "chat",
    "report",
    "runs",
    "show",
    "sql",
    "list",
    "new",
    "schema",
    "assets",
    "serve",
    "tick",
    "status",
    "students",
    "rollback",
    "deploy",
]
GOLDEN = Path(__file__).parents[1] / "golden" / "cli_help.txt"
PLAN = f"""
name = "cli"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "blue"
{IMITATION}"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    write_rows(tmp_path / "prompts.jsonl", rows(0, 5))
    return tmp_path


def test_the_help_is_the_golden_one():
    """Of the command and of every verb; `UPDATE_GOLDEN=1` rewrites it."""
    from typer.testing import CliRunner

    from flows.cli import app

    plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    told = []
    for words in ([], *([verb] for verb in VERBS)):
        result = CliRunner().invoke(app, [*words, "--help"], prog_name="distill", env=plain)
        assert result.exit_code == 0
        told.append("\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n")
    text = "\n".join(told)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_version_is_the_distribution_s():
    from importlib import metadata

    from typer.testing import CliRunner

    from flows.cli import app

    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, metadata.version("stillhouse") + "\n")


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['distill', '--help']\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'prefect', 'duckdb', 'polars', 'transformers', 'openai'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_check_imports_neither_torch_nor_prefect(folder):
    code = (
        "import sys; sys.argv = ['distill', 'check', 'plan.toml']\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules and 'prefect' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 prompts" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "nowhere.toml"), "no plan file"),
        (("check", "plan.toml", "--set", "teacher.use=scriptd"), "did you mean 'scripted'"),
        (("train", "plan.toml"), "[train]"),
        (("sql", "SELECT 1", "--warehouse", "none.duckdb"), "no warehouse"),
        (("report", "x", "--warehouse", "none.duckdb"), "no warehouse"),
        (("list", "teachr"), "did you mean 'teacher'"),
        (("init", "plan.toml"), "already exists"),
        (("curate", "plan.toml"), "distill generate"),
    ],
)
def test_a_foreseen_error_is_told_without_traceback_and_exits_2(folder, words, told):
    done = distill(folder, *words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_malformed_prompts_file_names_the_line(folder):
    with (folder / "prompts.jsonl").open("a") as file:
        file.write('{"promt": "x"}\n')
    done = distill(folder, "generate", "plan.toml")
    assert done.returncode == 2
    assert "line 6" in done.stderr


def test_generate_alone_needs_only_four_keys_and_prints_json_alone(folder):
    done = distill(folder, "generate", "plan.toml", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["calls_made"], result["samples"]) == (5, 5)
    rows_ = json.loads(
        distill(
            folder, "sql", "SELECT count(*) AS n FROM calls", "--warehouse", "plan.toml", "--json"
        ).stdout
    )
    assert rows_ == [{"n": 5}]
    listed = json.loads(distill(folder, "runs", "--warehouse", "w.duckdb", "--json").stdout)
    assert [run["state"] for run in listed] == ["completed"]
    writing = distill(folder, "sql", "DELETE FROM calls", "--warehouse", "w.duckdb")
    assert writing.returncode == 2


def test_a_warehouse_of_a_newer_version_is_left_alone(folder):
    import duckdb

    with duckdb.connect(str(folder / "w.duckdb")) as db:
        db.execute("CREATE TABLE schema_version (version INTEGER)")
        db.execute("INSERT INTO schema_version VALUES (99)")
    before = (folder / "w.duckdb").read_bytes()
    done = distill(folder, "generate", "plan.toml")
    assert done.returncode == 2
    assert "newer version" in done.stderr
    assert (folder / "w.duckdb").read_bytes() == before


def test_init_into_a_folder_and_runs_without_a_warehouse(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from flows.cli import app

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "mine/"])
    assert done.stdout == "wrote mine/plan.toml; next: distill check mine/plan.toml\n"
    assert (tmp_path / "mine" / "plan.toml").is_file()
    lost = CliRunner().invoke(app, ["runs", "--warehouse", "nope.duckdb"])
    assert "no warehouse" in str(lost.exception) and "--warehouse" in str(lost.exception)
