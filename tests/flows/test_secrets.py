"""Secrets of a plan reach the server and nothing else: no file, no output, no record."""

from __future__ import annotations

import json

import pytest

from datagen.openai.options import OpenaiApi
from tests.support.cli import KEY, distill
from tests.support.fakes import FakeOpenai, Fault
from tests.support.plans import write_plan
from warehouse.db.store import Store
from warehouse.records import Call, Sample
from warehouse.secrets import EnvReference

SECRETS = {"TEAM_TOKEN": "Bearer team/hunter2-4711", "BODY_TOKEN": 'body"hunter3-4711'}
TEACHER = """
[teacher]
use = "openai_chat"
model = "fake"
base_url = "{url}"
api_key_env = "MY_KEY"
max_tries = 1
headers = {{ X-Team-Token = {{ env = "TEAM_TOKEN" }}, X-Title = "colour-of-otters" }}
extra_body = {{ access = {{ token = {{ env = "BODY_TOKEN" }} }}, mode = "plain" }}
"""


def test_secrets_reach_the_server_and_nothing_else(tmp_path):
    def say(messages):  # a server that sends back whatever it knows
        known = f"{KEY} team/hunter2-4711 {SECRETS['BODY_TOKEN']} colour-of-otters"
        text = known if "otter" in messages[-1]["content"] else "brown"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        return {"choices": [choice], "debug": known}

    def fault_for(messages):
        refused = f'{{"error": {{"message": "{KEY} team\\/hunter2-4711 is wrong"}}}}'
        return Fault(400, refused) if "heron" in messages[-1]["content"] else None

    with FakeOpenai(say, fault_for=fault_for) as server:
        plan = write_plan(tmp_path, TEACHER.format(url=server.base_url), prompts=4)
        verbs = [
            ("check", plan),
            ("generate", plan, "--json"),
            ("curate", plan),
            ("show", "failures"),
        ]
        done = [distill(tmp_path, *verb, **SECRETS) for verb in verbs]
        done.append(distill(tmp_path, "runs", "--json", "--warehouse", plan))
        assert [one.returncode for one in done[:2]] == [0, 0], done
        sent = [{name.lower(): value for name, value in one.items()} for one in server.headers]
        assert {one["x-team-token"] for one in sent} == {SECRETS["TEAM_TOKEN"]}
        assert server.bodies[0]["access"] == {"token": SECRETS["BODY_TOKEN"]}

    everything = "".join(one.stdout + one.stderr for one in done).encode()
    everything += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    store = Store(tmp_path / "w.duckdb")
    everything += json.dumps([repr(call) for call in store.read(Call)]).encode()
    for secret in (KEY, "hunter2", "hunter3"):
        assert secret.encode() not in everything
    assert b"TEAM_TOKEN" in everything  # the plan in the warehouse says where the value is

    said = {sample.question: sample for sample in store.read(Sample)}
    otter = said["What colour is otter 0?"]
    assert otter.completion == "[redacted] [redacted] [redacted] colour-of-otters"
    assert (otter.status, "[redacted]" in (otter.status_reason or "")) == ("ok", True)
    badger = said["What colour is badger 2?"]
    assert (badger.completion, badger.status_reason) == ("brown", None)


@pytest.mark.parametrize(
    "override",
    [
        "teacher.headers={Authorization='Bearer sk-hunter2-4711'}",
        "teacher.api_key_env=sk-hunter2-4711",
        "teacher.base_url='https://me:sk-hunter2-4711@host/v1'",
        "teacher.extra_body={api_key='sk-hunter2-4711'}",
    ],
)
def test_a_literal_secret_ends_every_verb_before_anything_is_written(tmp_path, override):
    plan = write_plan(tmp_path, TEACHER.format(url="http://127.0.0.1:9/v1"), prompts=4)
    for verb in ("check", "generate"):
        done = distill(tmp_path, verb, plan, "--set", override, **SECRETS)
        assert done.returncode == 2
        assert "hunter2" not in done.stdout + done.stderr
        assert "teacher." in done.stderr
    assert not (tmp_path / "w.duckdb").exists()


def test_a_variable_that_is_not_set_is_one_line(tmp_path):
    with FakeOpenai() as server:
        plan = write_plan(tmp_path, TEACHER.format(url=server.base_url), prompts=4)
        done = distill(tmp_path, "generate", plan, TEAM_TOKEN="x")
        assert (done.returncode, server.asked) == (2, 0)
    assert "environment variable BODY_TOKEN is not set" in done.stderr


def test_a_header_is_no_part_of_the_identity_and_a_reference_does_not_hold_its_value(monkeypatch):
    monkeypatch.setenv("TOKEN", "first-value")
    url = "http://host/v1"
    literal = OpenaiApi("m", url, headers={"Authorization": "Bearer first-value"})
    by_reference = OpenaiApi("m", url, headers={"Authorization": EnvReference("TOKEN")})
    assert literal.identity == by_reference.identity == "m@http://host/v1"
    body = OpenaiApi("m", url, extra_body={"token": {"env": "TOKEN"}})
    before = body.identity
    monkeypatch.setenv("TOKEN", "second-value")
    assert body.identity == before
    assert "value" not in before + repr(body) + repr(by_reference)


def test_replies_under_an_address_with_credentials_are_still_found():
    teacher = OpenaiApi("m", "https://host/v1")
    teacher.adopt_identity(["m@https://me:pw@host/v1"])
    assert teacher.identity == "m@https://me:pw@host/v1"
