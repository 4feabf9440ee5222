"""Options of a chat teacher: keys, checks of its address, its identity."""

from __future__ import annotations

import logging
import pickle

import pytest

from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask
from tests.support.fakes import FakeOpenai, Fault
from warehouse.errors import TeacherUnusable

KEY = "sk-very-secret-key-0001"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_unusable_teacher_stops_at_once_and_never_tells_the_key(status, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    fault = Fault(status, f'{{"error": {{"message": "bad key {KEY}"}}}}')
    with FakeOpenai(fault_for=lambda messages: fault) as server:
        teacher = OpenaiChat(
            model="fake-7b", base_url=server.base_url, api_key_env="MY_KEY", max_in_flight=1
        )
        with pytest.raises(TeacherUnusable) as caught:
            ask(teacher, "q1", "q2")
    message = str(caught.value)
    assert "fake-7b" in message
    assert server.base_url in message
    assert "\n" not in message
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.asked == 1
    assert KEY not in message
    assert KEY not in caplog.text
    assert KEY not in repr(teacher)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_the_key_is_kept_out_of_raw_and_failures(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    leaky = Fault(400, f"you sent {KEY}")
    with FakeOpenai(lambda messages: {"debug": f"key={KEY}"}) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, api_key_env="MY_KEY")
        [reply] = ask(teacher, "q")
        server.faults.append(leaky)
        [failed] = ask(teacher, "q")
    assert reply.raw["debug"] == "key=[redacted]"
    assert KEY not in str(failed.error)
    assert "you sent" in str(failed.error)


def test_a_key_from_a_file_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    (tmp_path / "keys.env").write_text(f"MY_KEY={KEY}\n")
    with FakeOpenai() as server:
        teacher = OpenaiChat(
            model="fake",
            base_url=server.base_url,
            api_key_env="MY_KEY",
            env_file=str(tmp_path / "keys.env"),
        )
        ask(teacher, "q")
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(teacher)


def test_a_key_that_is_not_set_is_one_line(monkeypatch):
    monkeypatch.delenv("MISSING_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    named = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1", api_key_env="MISSING_KEY")
    with pytest.raises(TeacherUnusable, match="MISSING_KEY is not set"):
        ask(named, "q")
    with pytest.raises(TeacherUnusable, match="OPENAI_API_KEY is not set"):
        OpenaiChat(model="m").check()


def test_no_key_is_needed_elsewhere(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeOpenai() as server:
        ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert server.headers[0]["Authorization"] == "Bearer not-needed"


def test_check_asks_for_the_models_only():
    with FakeOpenai(models=["fake"]) as server:
        assert OpenaiChat(model="fake", base_url=server.base_url).check() == [
            f"fake at {server.base_url}"
        ]
        with pytest.raises(TeacherUnusable, match=r"not among the 1 model .* \(fake\)"):
            OpenaiChat(model="fakr", base_url=server.base_url).check()
        assert server.asked == 0
    with pytest.raises(TeacherUnusable, match="no teacher answers"):
        OpenaiChat(model="fake", base_url=server.base_url).check()


@pytest.mark.parametrize(
    ("model", "listed"),
    [("llama3", "llama3:latest"), ("gemini-2.5-flash", "models/gemini-2.5-flash")],
)
def test_check_knows_a_model_under_the_name_that_its_server_lists(model, listed):
    with FakeOpenai(models=["other", listed]) as server:
        assert OpenaiChat(model=model, base_url=server.base_url).check()


def test_identity_is_model_url_and_body():
    here = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1")
    assert here.identity == OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1/").identity
    assert here.identity != OpenaiChat(model="m", base_url="http://127.0.0.1:2/v1").identity
    assert here.identity != OpenaiChat(model="n", base_url="http://127.0.0.1:1/v1").identity
    body = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1", extra_body={"a": 1})
    assert body.identity != here.identity
    assert OpenaiChat(model="m", identity_name="mine").identity == "mine"


@pytest.mark.parametrize(
    "options",
    [
        {"model": " "}, {"model": "m", "base_url": "localhost"}, {"model": "m", "max_tries": 0},
        {"model": "m", "max_in_flight": 0}, {"model": "m", "timeout_s": 0},
        {"model": "m", "input_usd_per_million": 1.0},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError):
        OpenaiChat(**options)


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/completions/", "/completions?a=b"])
def test_a_base_url_that_is_a_whole_endpoint_is_refused_with_the_right_one(path):
    with pytest.raises(ValueError, match=r"ends before .*completions: http://127\.0\.0\.1:1/v1$"):
        OpenaiChat(model="m", base_url=f"http://127.0.0.1:1/v1{path}")
