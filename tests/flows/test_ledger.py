"""What became of every prompt and of every call: failures, totals, refusals, prompts too dear."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

import datagen.engine
from datagen.openai import options
from quality.review.decisions import accept
from tests.flows.test_budget import write
from tests.flows.test_teacher import colour
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai, Fault
from tests.support.plans import rows, write_rows
from warehouse.db.store import Store
from warehouse.records import Call, Failure, Run, Sample

TOO_LONG = Fault(400, '{"error": {"message": "maximum context length is 9 tokens"}}')


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.001)


def generate(folder, *words):
    return distill(folder, "generate", "plan.toml", "--json", *words)


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def test_a_run_without_any_reply_fails_and_tells_the_commonest_reason(tmp_path):
    faults = {0: Fault(413, "the prompt is too long"), 1: TOO_LONG}

    def fault_for(messages):
        return faults[int(re.search(r"(\d+)\?", messages[-1]["content"])[1]) % 4 == 0]

    with FakeOpenai(colour, fault_for=fault_for) as server:
        write(tmp_path, server, number=8)
        first = generate(tmp_path)
        asked = server.asked
        again = generate(tmp_path)
        assert server.asked == asked == 8
    for done in (first, again):
        assert done.returncode == 2 and done.stdout == ""
        assert "no reply to any of 8 prompts: 6 x m: HTTP 413: the prompt is too long" in (
            last_line(done)
        )
    assert [run.state for run in Store(tmp_path / "w.duckdb").read(Run)] == ["failed"]


def test_a_fault_that_lasts_is_no_success_either(tmp_path):
    with FakeOpenai(fault_for=lambda messages: Fault(500, "worker crashed")) as server:
        write(tmp_path, server, number=3)
        done = generate(tmp_path)
        assert server.asked <= 8 + 3
    assert done.returncode == 2
    assert "8 times the same answer and no good reply: HTTP 500: worker crashed" in last_line(done)


def test_refused_prompts_are_not_estimated_again_and_are_shown_with_their_question(tmp_path):
    def fault_for(messages):
        return TOO_LONG if "hare 8?" in messages[-1]["content"] else None

    with FakeOpenai(colour, fault_for=fault_for) as server:
        write(tmp_path, server, number=12)
        done = generate(tmp_path)
        assert (done.returncode, json.loads(done.stdout)["failures"]) == (0, 1)
        assert "1 prompt got no reply, 1 x m: HTTP 400: maximum context" in done.stderr
        checked = distill(tmp_path, "check", "plan.toml")
        assert "12 prompts, 11 already paid for, 1 refused before, 0 to ask" in checked.stdout
        again = generate(tmp_path)
        assert (again.returncode, server.asked) == (0, 12)
        assert "1 prompt got no reply" in again.stderr
    [shown] = json.loads(
        distill(tmp_path, "show", "failures", "--warehouse", "w.duckdb", "--json").stdout
    )
    assert shown["question"] == "What colour is hare 8?"
    assert "maximum context length" in shown["error"]
    text = distill(tmp_path, "show", "failures", "--warehouse", "w.duckdb").stdout
    assert "What colour is hare 8?" in text


def test_a_run_that_failed_and_was_repeated_keeps_all_its_calls_in_the_totals(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, number=30)
        server.fault_for = lambda messages: Fault(401) if server.asked > 12 else None
        one = ("--set", "teacher.max_in_flight=1")
        failed = generate(tmp_path, *one)
        assert failed.returncode == 2 and "the key was refused" in failed.stderr
        server.fault_for = lambda messages: None
        done = generate(tmp_path, *one)
    assert json.loads(done.stdout)["calls_made"] == 18  # of this command
    [run] = json.loads(distill(tmp_path, "runs", "--warehouse", "w.duckdb", "--json").stdout)
    assert (run["state"], run["calls_made"]) == ("completed", 30)
    [row] = json.loads(
        distill(tmp_path, "runs", "--warehouse", "w.duckdb", "--cost", "--json").stdout
    )
    assert row["calls"] == 30


def test_a_prompt_too_dear_for_the_budget_is_set_aside_with_its_price(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, "budget_usd = 0.1", number=6)
        long = {"prompt": "What colour is otter 0? " + "Think hard. " * 2000, "reference": "brown"}
        write_rows(tmp_path / "prompts.jsonl", [long, *rows(1, 5)])
        done = generate(tmp_path)
        assert (done.returncode, json.loads(done.stdout)["calls_made"]) == (0, 5), done.stderr
        assert "1 prompt got no reply, 1 x the request can cost 0.24" in done.stderr
        assert "more than budget_usd = 0.1" in done.stderr
        richer = generate(tmp_path, "--set", "datagen.budget_usd=1")
        assert json.loads(richer.stdout)["calls_made"] == 1
        poorer = generate(tmp_path, "--set", "datagen.budget_usd=0.001", "--set", "teacher.model=n")
    assert poorer.returncode == 3
    assert "6 x the request can cost" in last_line(poorer)
    assert "--set datagen.budget_usd=0.49288" in last_line(poorer)


def test_what_costs_more_than_is_left_waits_and_what_is_cheaper_goes_on(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, "budget_usd = 0.1", number=6)
        long = {"prompt": "What colour is otter 0? " + "Think hard. " * 750, "reference": "brown"}
        cheap = rows(1, 5)
        write_rows(tmp_path / "prompts.jsonl", [*cheap[:3], long, *cheap[3:]])
        server.say = lambda messages: {
            "choices": [{"message": {"content": "brown"}}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 1},
        }
        done = generate(tmp_path, "--set", "teacher.max_in_flight=1")
        assert server.asked == 5
    assert done.returncode == 3 and "budget_usd = 0.1 is reached" in last_line(done)
    assert len(Store(tmp_path / "w.duckdb").read(Call)) == 5


def test_a_reply_that_the_warehouse_refuses_fails_its_prompt_alone(tmp_path, monkeypatch):
    to_call = datagen.engine.to_call

    def half_a_character(reply, *more):
        call = to_call(reply, *more)
        return replace(call, text="\ud83d") if "newt" in str(reply.request.messages) else call

    monkeypatch.setattr(datagen.engine, "to_call", half_a_character)
    with FakeOpenai(colour) as server:
        write(tmp_path, server, number=10)
        done = generate(tmp_path)
        result = json.loads(done.stdout)
        assert (result["samples"], result["failures"]) == (9, 1)
        assert generate(tmp_path).returncode == 0
        assert server.asked == 10  # what was paid for is not asked again
    store = Store(tmp_path / "w.duckdb")
    assert len(store.read(Call)) == 9
    [failure] = store.read(Failure)
    shown = distill(tmp_path, "show", "failures", "--warehouse", "w.duckdb").stdout
    assert "What colour is newt 3?" in shown and "it is kept in" in shown
    assert failure.permanent


def test_replies_of_which_none_can_be_trained_on_are_no_success(tmp_path):
    with FakeOpenai(lambda messages: "") as server:
        write(tmp_path, server, number=3)
        for _ in range(2):
            done = generate(tmp_path)
            assert (done.returncode, server.asked) == (2, 3)
            assert "none of 3 replies can be trained on: 3 x the reply is empty" in last_line(done)


def test_replies_that_cannot_be_trained_on_are_counted(tmp_path):
    def answer(messages):
        return "" if re.search(r"[02468]\?", messages[-1]["content"]) else "brown"

    with FakeOpenai(answer) as server:
        write(tmp_path, server, number=4)
        done = generate(tmp_path)
    assert done.returncode == 0
    assert "2 of 4 replies cannot be trained on: 2 x the reply is empty" in done.stderr


def test_replies_that_the_gate_may_keep_are_no_failure(tmp_path):
    message = {"role": "assistant", "content": "brown and"}
    cut = {"choices": [{"message": message, "finish_reason": "length"}]}
    with FakeOpenai(lambda messages: cut) as server:
        write(tmp_path, server, number=3)
        assert generate(tmp_path).returncode == 2
        kept = generate(tmp_path, "--set", "datagen.on_length=keep")
        assert (kept.returncode, server.asked) == (0, 3)
        assert "cannot be trained on" not in kept.stderr


def test_replies_that_a_human_accepted_are_no_failure(tmp_path):
    with FakeOpenai(lambda messages: "") as server:
        write(tmp_path, server, number=1)
        assert generate(tmp_path).returncode == 2
        store = Store(tmp_path / "w.duckdb")
        [sample] = store.read(Sample)
        store.insert([accept(sample)])
        assert generate(tmp_path).returncode == 0
