import asyncio
import hashlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from datagen import gguf_server
from datagen.gguf_server import GgufServer
from datagen.teacher import Request, Sampling
from datagen.teachers.local_gguf import LocalGguf
from warehouse.errors import TeacherUnusable
from warehouse.inputs import assets

MODEL = "smollm2-135m-instruct"


@pytest.fixture
def model():
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    if not assets.is_cached(MODEL):
        pytest.skip(f"{MODEL} is not in the cache")
    return str(assets.path(MODEL))


def ask(teacher, *questions, max_tokens=8):
    requests = [
        Request.of(teacher.identity, [{"role": "user", "content": text}], Sampling(0.0, max_tokens))
        for text in questions
    ]

    async def collect():
        return [reply async for reply in teacher.answer(requests)]

    return asyncio.run(collect())


def gone(pid, within_s=20.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_real_answer_and_the_end_of_the_child(model):
    teacher = LocalGguf(MODEL, slots=2, context=256)
    try:
        replies = ask(teacher, "What is water made of?", "What is the sun?")
        texts = {reply.request.messages[0]["content"]: reply.text for reply in replies}
        assert texts["What is water made of?"].startswith("Water is ")
        assert len(texts) == 2 and all(texts.values())
        assert all(reply.cost_usd == 0.0 and reply.usage.prompt_tokens > 0 for reply in replies)
        pid = teacher._server.pid
        [rejected] = ask(teacher, "word " * 300)
        assert type(rejected.error).__name__ == "PromptRejected"
        assert teacher._server.pid == pid
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        [again] = ask(teacher, "What is water made of?")
        assert again.text == texts["What is water made of?"]
        assert teacher._server.pid != pid
        pid = teacher._server.pid
    finally:
        teacher.close()
        teacher.close()
    assert gone(pid)


def test_the_child_dies_when_its_parent_is_killed(model):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from datagen.gguf_server import GgufServer\n"
        "server = GgufServer(Path(sys.argv[1]), 'x', 1, 128, 120.0)\n"
        "server.address()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, model], stdout=subprocess.PIPE, text=True
    )
    try:
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    assert gone(pid)


def test_a_file_that_is_no_model_gives_the_last_line(tmp_path):
    pytest.importorskip("xllamacpp")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    teacher = LocalGguf(str(broken))
    with pytest.raises(TeacherUnusable, match=r"the server of broken.gguf ended: \S") as caught:
        ask(teacher, "q")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_ready_in_time_is_stopped(model):
    from pathlib import Path

    server = GgufServer(Path(model), "x", 1, 128, 0.01)
    with pytest.raises(TeacherUnusable, match=r"was not ready in 0.01 s"):
        server.address()
    assert server.pid is None


def test_without_xllamacpp_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "m.gguf").write_bytes(b"x")
    teacher = LocalGguf(str(tmp_path / "m.gguf"))
    for use in (teacher.check, lambda: ask(teacher, "q")):
        with pytest.raises(TeacherUnusable, match=r'pip install "stillhouse\[embedded\]"'):
            use()


def test_identity_is_the_file_not_its_place(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"weights")
    wanted = "local_gguf:" + hashlib.sha256(b"weights").hexdigest()
    assert LocalGguf(str(tmp_path / "a.gguf")).identity == wanted
    assert LocalGguf(str(tmp_path / "b.gguf"), slots=2).identity == wanted
    assert LocalGguf(MODEL).identity == f"local_gguf:{assets.entry(MODEL).sha256}"


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(TeacherUnusable, match=f"no model 'nope'.*{MODEL}"):
        _ = LocalGguf("nope").identity


def test_nothing_to_ask_starts_nothing(tmp_path):
    teacher = LocalGguf(str(tmp_path / "absent.gguf"))
    assert asyncio.run(_all(teacher)) == []
    teacher.close()


async def _all(teacher):
    return [reply async for reply in teacher.answer([])]


def test_it_can_be_pickled(tmp_path):
    teacher = LocalGguf(str(tmp_path / "m.gguf"))
    (tmp_path / "m.gguf").write_bytes(b"x")
    assert teacher._server.pid is None
    assert pickle.loads(pickle.dumps(teacher)) == teacher


def test_its_threads_soon_sleep_while_they_wait_unless_the_user_says_otherwise(model, monkeypatch):
    def environment(server):
        server.address()
        with open(f"/proc/{server.pid}/environ") as file:
            return dict(entry.partition("=")[::2] for entry in file.read().split("\0"))

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    server = LocalGguf(MODEL, slots=1, context=64)._server
    try:
        assert environment(server)["GOMP_SPINCOUNT"] == "5000"
        for name, value in (("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")):
            server.stop()
            monkeypatch.setenv(name, value)
            assert environment(server)[name] == value
        monkeypatch.delenv("GOMP_SPINCOUNT")
        server.stop()
        assert "GOMP_SPINCOUNT" not in environment(server)
    finally:
        server.stop()


@pytest.mark.parametrize(("used", "told"), [(10.0, False), (95.0, True)])
def test_a_busy_machine_is_told(monkeypatch, caplog, used, told):
    monkeypatch.setattr(gguf_server.psutil, "cpu_percent", lambda interval: used)
    monkeypatch.setattr(gguf_server.psutil.Process, "cpu_percent", lambda self: 0.0)
    monkeypatch.setattr(gguf_server.logging.getLogger("datagen"), "propagate", True)
    gguf_server._tell_busy("a.gguf")
    assert {record.levelname for record in caplog.records} == ({"WARNING"} if told else set())
    assert ("so a.gguf answers more slowly" in caplog.text) == told
