"""A user's own endpoint, from the command line: every stage, the key kept out of sight, two runs
at once, an interrupt, a dead teacher, and nothing that leaves the machine."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.support.cli import KEY, distill
from tests.support.fakes import FakeOpenai, Fault
from tests.support.plans import COLOURS, rows, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.records import Call, Run

SMALL = """
name = "mine"
warehouse = "w.duckdb"
teacher = {{ use = "openai_chat", model = "m", base_url = "{url}", api_key_env = "MY_KEY" }}
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""


def colour(messages):
    """The colour that the passage names."""
    asked = messages[-1]["content"]
    return next((word for word in COLOURS if f"is {word}." in asked), "brown")


@pytest.fixture
def folder(tmp_path):
    write_rows(tmp_path / "prompts.jsonl", rows(0, 40))
    return tmp_path


def test_every_stage_with_a_users_endpoint_and_the_key_appears_nowhere(tmp_path):
    with FakeOpenai(colour) as server:
        teacher = (
            'teacher = { use = "openai_chat", model = "m", '
            f'base_url = "{server.base_url}", api_key_env = "MY_KEY" }}'
        )
        plan = write_plan(tmp_path, teacher)
        chat = {"messages": [{"role": "user", "content": "Is the sky blue."}], "reference": "blue"}
        with (tmp_path / "prompts.jsonl").open("a") as file:
            file.write(json.dumps(chat) + "\n")
        done = distill(tmp_path, "run", str(plan), "--json", "-v")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["calls_made"] == server.asked == 25 + 12
        assert set(result["contestants"]) == {"teacher", "base", "student"}
        assert result["contestants"]["teacher"]["exact_match"] == 1.0
        assert all(h["Authorization"] == f"Bearer {KEY}" for h in server.headers)
    assert KEY not in done.stdout + done.stderr
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file


def test_two_runs_at_once_ask_everything_once(folder):
    with FakeOpenai(colour, latency_s=0.5) as server:
        (folder / "plan.toml").write_text(SMALL.format(url=server.base_url))
        command = [sys.executable, "-m", "flows.cli", "generate", "plan.toml", "--json"]
        command += ["--set", "teacher.max_in_flight=2"]  # ten seconds, so that they meet
        environment = {**os.environ, "MY_KEY": KEY}
        both = [
            subprocess.Popen(
                command, cwd=folder, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]  # fmt: skip
        told = [process.communicate(timeout=300) for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        assert set(server.counts.values()) == {1}
        assert server.asked == 40
    assert sorted(json.loads(out)["calls_made"] for out, _ in told) == [0, 40]
    assert sum("waiting" in err for _, err in told) == 1
    assert len(Store(folder / "w.duckdb").read(Call)) == 40


def interrupted(folder, server, goal, signals):
    """Run `generate` with four in flight until `goal` requests arrived, then send the signals."""
    (folder / "plan.toml").write_text(SMALL.format(url=server.base_url))
    with (folder / "said").open("w") as said, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "generate", "plan.toml",
             "--set", "teacher.max_in_flight=4"],
            cwd=folder, stdout=out, stderr=said, env={**os.environ, "MY_KEY": KEY},
        )  # fmt: skip
    give_up = time.monotonic() + 120
    while server.asked < goal and time.monotonic() < give_up:
        time.sleep(0.02)
    for number in signals:
        process.send_signal(number)
        while (
            "stopping after" not in (folder / "said").read_text()
        ):  # two at once may arrive as one
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
    process.wait(timeout=60)
    err = (folder / "said").read_text()
    assert process.returncode == 3, err
    assert "resume with: distill generate plan.toml --set teacher.max_in_flight=4" in err
    assert "Traceback" not in err
    assert (folder / "out").read_text() == ""
    store = Store(folder / "w.duckdb")
    assert [run.state for run in store.read(Run)] == ["stopped"]
    return err, store.read(Call)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_awaits_what_is_paid_for_exits_3_and_names_what_resumes(folder, number):
    with FakeOpenai(colour, latency_s=2.0) as server:  # long enough that no wave ends meanwhile
        err, calls = interrupted(folder, server, 12, [number])
        assert "4 replies in flight" in err
        assert len(calls) == server.asked == 12


def test_a_second_interrupt_leaves_what_is_on_its_way(folder):
    with FakeOpenai(colour, latency_s=300.0) as server:
        err, calls = interrupted(folder, server, 4, [signal.SIGINT, signal.SIGINT])
        assert "4 replies in flight" in err and "stopped at once" in err
        assert err.count("Ctrl-C again") == 1
        assert (len(calls), server.asked) == (0, 4)


def test_a_terminal_that_is_closed_loses_no_reply(folder):
    with FakeOpenai(colour, latency_s=2.0) as server:
        (folder / "plan.toml").write_text(SMALL.format(url=server.base_url))
        process, terminal = pty.fork()
        if process == 0:  # the child owns the terminal, as a shell's command does
            os.chdir(folder)
            os.environ["MY_KEY"] = KEY
            signal.signal(
                signal.SIGHUP, signal.SIG_DFL
            )  # as it is, where the tests run under nohup
            command = ["generate", "plan.toml", "--set", "teacher.max_in_flight=4"]
            os.execv(sys.executable, [sys.executable, "-m", "flows.cli", *command])
        give_up = time.monotonic() + 120
        while server.asked < 8:
            assert time.monotonic() < give_up
            time.sleep(0.02)
            if select.select([terminal], [], [], 0)[0]:
                os.read(terminal, 65536)  # else a full terminal would hold the child up
        os.close(terminal)
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 3
        store = Store(folder / "w.duckdb")
        assert len(store.read(Call)) == server.asked == 8
    assert [run.state for run in store.read(Run)] == ["stopped"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(401), "the key was refused"),
        (Fault(404), "no such model or path"),
        (None, "no teacher"),
    ],
)
def test_a_teacher_that_can_not_be_used_is_one_line(folder, fault, told):
    with FakeOpenai(colour, fault_for=lambda messages: fault) as server:
        url = server.base_url if fault else "http://127.0.0.1:9/v1"
        (folder / "plan.toml").write_text(SMALL.format(url=url))
        done = distill(folder, "generate", "plan.toml")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("distill:")]) == 1
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_a_missing_key_is_one_line(folder):
    (folder / "plan.toml").write_text(SMALL.format(url="http://127.0.0.1:9/v1"))
    done = distill(folder, "generate", "plan.toml", MY_KEY="")
    assert done.returncode == 2
    assert "MY_KEY" in done.stderr


WATCH = """
import os, socket
_connect, _lookup = socket.socket.connect, socket.getaddrinfo
def _note(host):
    if str(host) not in ("127.0.0.1", "localhost", "::1", "None", "b'127.0.0.1'", "b'localhost'"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{host}\\n")
def _connecting(self, address):
    if isinstance(address, tuple):
        _note(address[0])
    return _connect(self, address)
def _looking_up(host, *rest, **more):
    _note(host)
    return _lookup(host, *rest, **more)
socket.socket.connect, socket.getaddrinfo = _connecting, _looking_up
"""


def test_nothing_leaves_the_machine_unasked(tmp_path):
    """Every process of a whole run is watched: no name is looked up, nothing is connected to."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched.txt"
    with FakeOpenai(colour) as server:
        teacher = (
            f'teacher = {{ use = "openai_chat", model = "m", base_url = "{server.base_url}" }}'
        )
        plan = write_plan(tmp_path, teacher, prompts=10, held_out=4)
        path = os.pathsep.join([str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")])
        unset = {name: "" for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY")}
        environment = {k: v for k, v in os.environ.items() if k not in unset}
        environment |= {"PYTHONPATH": path, "WATCHED": str(watched)}
        probe = "import socket\ntry:\n    socket.getaddrinfo('example.invalid', 80)\nexcept OSError:\n    pass"
        subprocess.run([sys.executable, "-c", probe], env=environment, check=True)
        assert watched.read_text() == "example.invalid\n"  # the watch works
        watched.unlink()
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "run", str(plan)],
            env=environment, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not watched.exists(), watched.read_text()


def test_a_prompt_that_was_rejected_is_not_asked_again_until_its_limit_changes(folder):
    def reject(messages):
        return Fault(400) if "hare 8?" in messages[-1]["content"] else None

    with FakeOpenai(colour, fault_for=reject) as server:
        (folder / "plan.toml").write_text(SMALL.format(url=server.base_url))
        first = json.loads(distill(folder, "generate", "plan.toml", "--json").stdout)
        again = json.loads(distill(folder, "generate", "plan.toml", "--json").stdout)
        smaller = ("--set", "datagen.sampling.max_tokens=64")
        changed = json.loads(distill(folder, "generate", "plan.toml", "--json", *smaller).stdout)
        asked = server.asked
    assert (first["samples"], first["failures"], first["calls_made"]) == (39, 1, 39)
    assert (again["samples"], again["failures"], again["calls_made"]) == (39, 0, 0)
    assert (changed["samples"], changed["failures"], changed["calls_made"]) == (39, 1, 0)
    assert asked == 41
