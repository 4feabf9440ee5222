"""Start-up: what is imported, flows only on a configured server, and two starts at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from flows.runtime import prefect_flow, prefect_server
from flows.runtime.prefect_flow import run_flow, run_shard
from tests.support.plans import scripted, write_plan
from warehouse.errors import DataError, ServerError, TransientError


def test_parts_and_the_name_of_the_toxicity_model_import_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "from warehouse import catalog\n"
        "for kind in catalog.KINDS:\n"
        "    for name in catalog.names(kind):\n"
        "        catalog.part_class(kind, name)\n"
        "assert 'alt-profanity-check' in catalog.build('scorer', 'toxicity').note\n"
        "heavy = {'torch', 'transformers', 'prefect', 'datasets', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "STILLHOUSE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_on_a_configured_server_a_verb_is_a_flow_and_a_shard_is_a_task(prefect_configured):
    from prefect.context import TaskRunContext

    def verb(plan_path):
        return run_shard(lambda: (TaskRunContext.get().task.name, plan_path))

    assert run_flow("stillhouse-verb", verb, "plan.toml") == ("shard", "plan.toml")
    with sqlite3.connect(prefect_configured) as database:
        states = database.execute(
            "SELECT flow_run.state_type FROM flow_run JOIN flow ON flow.id = flow_run.flow_id "
            "WHERE flow.name = 'stillhouse-verb'"
        ).fetchall()
    assert states == [("COMPLETED",)]


@pytest.mark.parametrize("configured", [False, True])
def test_a_shard_is_tried_again_after_transient_errors_only(configured, request, monkeypatch):
    if configured:
        request.getfixturevalue("prefect_configured")
    monkeypatch.setattr(prefect_flow, "RETRY_DELAY_S", 0)
    errors = [TransientError("busy"), TransientError("busy"), DataError("malformed"), None]

    def job():
        if error := errors.pop(0):
            raise error

    with pytest.raises(DataError, match="malformed"):
        run_flow("stillhouse-verb", lambda: run_shard(job))
    assert errors == [None]


def test_a_configured_server_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.cli import app

    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"))
    address = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    with temporary_settings({PREFECT_API_URL: address}):  # Prefect read the environment before
        result = CliRunner().invoke(app, ["generate", str(plan)])
    assert isinstance(result.exception, ServerError)
    assert result.exception.exit_code == 2
    message = str(result.exception)
    assert address in message and "unset PREFECT_API_URL" in message and "\n" not in message
    assert not (tmp_path / "asked.log").exists()


def test_the_active_profile_of_prefect_configures_a_server_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert not prefect_server.is_configured()
    (tmp_path / "profiles.toml").write_text(
        'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://prefect:4200/api"\n'
        "[profiles.alone]\n"
    )
    assert prefect_server.is_configured()
    monkeypatch.setenv("PREFECT_PROFILE", "alone")
    assert not prefect_server.is_configured()


def test_two_servers_never_migrate_one_database_at_once(tmp_path, monkeypatch):
    starting, overlaps = [], []

    @contextmanager
    def start(folder):
        starting.append(folder)
        yield None, prefect_server.Address("http://127.0.0.1:9", "distill:token")

    def wait(child, url, log):
        time.sleep(0.2)  # the migrations
        overlaps.append(len(starting))
        starting.clear()

    monkeypatch.setattr(prefect_server, "_server_process", start)
    monkeypatch.setattr(prefect_server, "_wait_for", wait)

    def serve():
        with prefect_server.server(tmp_path):
            pass

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [1, 1]


def test_two_runs_that_start_at_once_in_a_new_folder_both_work(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"))
    command = [sys.executable, "-P", "-m", "flows.cli", "generate", str(plan)]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    for run in runs:
        _, error = run.communicate(timeout=120)
        assert run.returncode == 0, error
    assert len((tmp_path / "asked.log").read_text().splitlines()) == 24


@pytest.mark.parametrize("fails", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_server_that_is_lost_during_a_run_takes_neither_result_nor_error(
    tmp_path, monkeypatch, capsys, fails
):
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    monkeypatch.setenv("PREFECT__SERVER_EPHEMERAL", "1")
    monkeypatch.setenv("PREFECT_UI_ENABLED", "0")
    processes = []
    popen = subprocess.Popen

    def noted(*args, **kwargs):
        processes.append(popen(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr("flows.runtime.prefect_server.subprocess.Popen", noted)

    def verb():
        processes[0].kill()
        processes[0].wait()
        if fails:
            raise DataError("malformed")
        return run_shard(lambda: "done")

    with (
        prefect_server.server(tmp_path) as address,
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
    ):
        assert address is not None
        monkeypatch.setenv("PREFECT_API_URL", f"{address.url}/api")
        if fails:
            with pytest.raises(DataError, match="malformed"):
                run_flow("stillhouse-verb", verb)
        else:
            assert run_flow("stillhouse-verb", verb) == "done"
    assert "Prefect's server was lost during the run" in capsys.readouterr().err
