"""What a plan will cost, what it may cost, and what it did cost, from the command line."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.flows.test_teacher import colour
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai
from tests.support.plans import rows, write_rows
from warehouse.db.store import Store
from warehouse.records import Call

PLAN = """
name = "priced"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
input_usd_per_million = 10.0
output_usd_per_million = 20.0
[datagen]
sampling = {{ max_tokens = 50, temperature = {temperature} }}
{more}
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
n = {n}
"""


def write(folder, server, more="", n=1, temperature=0.0, number=40):
    write_rows(folder / "prompts.jsonl", rows(0, number))
    text = PLAN.format(url=server.base_url, more=more, n=n, temperature=temperature)
    (folder / "plan.toml").write_text(text)


def test_an_estimate_a_budget_that_stops_and_the_command_that_goes_on(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, "budget_usd = 0.01")
        checked = distill(tmp_path, "check", "plan.toml")
        assert checked.returncode == 0, checked.stderr
        assert "40 prompts, 0 already paid for, 40 to ask" in checked.stdout
        assert "USD (m, price given)" in checked.stdout
        assert server.asked == 0
        done = distill(tmp_path, "generate", "plan.toml", "--json")
        stops = 0
        while done.returncode == 3:
            stops += 1
            assert "budget_usd = " in done.stderr and "is reached" in done.stderr
            assert server.in_flight == 0
            calls = Store(tmp_path / "w.duckdb").read(Call)
            cap = float(done.stderr.partition("budget_usd = ")[2].split()[0])
            assert sum(call.cost_usd for call in calls) <= cap
            assert len(calls) == server.asked  # every reply that was paid for is kept
            words = shlex.split(done.stderr.partition("resume with: ")[2])
            done = distill(tmp_path, *words[1:], "--json")
        assert done.returncode == 0, done.stderr
        assert stops >= 1
        assert server.asked == 40
    again = distill(tmp_path, "check", "plan.toml", "--set", "evaluate.benchmarks=[]")
    assert again.returncode == 2
    assert "no teacher answers" in again.stderr  # the server is gone, and check says so
    assert "40 prompts, 40 already paid for, 0 to ask" in again.stdout
    ledger = json.loads(
        distill(tmp_path, "runs", "--warehouse", "w.duckdb", "--cost", "--json").stdout
    )
    [row] = ledger
    calls = Store(tmp_path / "w.duckdb").read(Call)
    cost = sum(10e-6 * call.prompt_tokens + 20e-6 * call.completion_tokens for call in calls)
    assert (row["calls"], row["recipe"], row["retries"]) == (40, "imitation", 0)
    assert row["cost_usd"] == pytest.approx(cost)
    shown = distill(tmp_path, "runs", "--warehouse", "w.duckdb", "--cost").stdout
    assert f"in all: {cost:.4f} USD" in shown
    assert f"m@{server.base_url}" in shown


@pytest.mark.parametrize("cap", ["budget_tokens = 5", "budget_tokens = 0", "budget_usd = 0.000001"])
def test_the_command_that_resumes_has_room_for_the_request_that_did_not_fit(tmp_path, cap):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, cap)
        plan = tmp_path / "plan.toml"
        plan.write_text(plan.read_text().replace("max_tokens = 50", "max_tokens = 4000"))
        done = distill(tmp_path, "generate", "plan.toml")
        assert done.returncode == 3 and server.asked == 0
        (words,) = [
            shlex.split(line.partition("resume with: ")[2])
            for line in done.stderr.splitlines()
            if "resume with: " in line
        ]
        distill(tmp_path, *words[1:])
        assert server.asked > 0


def test_a_budget_of_tokens_and_one_that_can_not_be_kept(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, "budget_tokens = 1200")
        done = distill(tmp_path, "generate", "plan.toml")
        assert done.returncode == 3
        assert "budget_tokens = 1200 is reached" in done.stderr
        assert "--set datagen.budget_tokens=2400" in done.stderr
        calls = Store(tmp_path / "w.duckdb").read(Call)
        used = sum(call.prompt_tokens + call.completion_tokens for call in calls)
        assert 0 < used <= 1200
        asked = server.asked
        free = ("--set", "datagen.budget_tokens=1", "--set", "datagen.budget_usd=1")
        unset = (tmp_path / "plan.toml").read_text().replace("put_usd_per_million = ", "put_x = ")
        (tmp_path / "plan.toml").write_text(
            "\n".join(line for line in unset.splitlines() if "_x" not in line)
        )
        unknown = distill(tmp_path, "generate", "plan.toml", *free)
        assert unknown.returncode == 2
        assert "budget_usd = 1 cannot be enforced: the price of 'm' is not known" in unknown.stderr
        assert server.asked == asked


def test_what_was_cut_off_is_asked_once_more_with_a_larger_limit(tmp_path):
    def say(messages):
        long = "hare" in messages[-1]["content"]
        limit = server.bodies[-1]["max_tokens"]
        cut = long and limit < 200
        message = {"role": "assistant", "content": "brown" if not cut else "bro"}
        usage = {"prompt_tokens": 9, "completion_tokens": 50 if cut else 120 if long else 1}
        choice = {"message": message, "finish_reason": "length" if cut else "stop"}
        return {"choices": [choice], "usage": usage}

    with FakeOpenai(say) as server:
        write(tmp_path, server)
        command = ("generate", "plan.toml", "--json")
        longer = ("--set", "datagen.on_length=retry")
        first = json.loads(distill(tmp_path, *command).stdout)
        assert (first["calls_made"], server.asked) == (40, 40)
        second = json.loads(distill(tmp_path, *command, *longer).stdout)
        assert (second["calls_made"], server.asked) == (4, 44)  # the four that were cut off
        assert {body["max_tokens"] for body in server.bodies[40:]} == {200}
        third = json.loads(distill(tmp_path, *command, *longer).stdout)
        assert (third["calls_made"], third["samples"], server.asked) == (0, 40, 44)
        larger = ("--set", "datagen.sampling.max_tokens=130")
        fourth = json.loads(distill(tmp_path, *command, *larger).stdout)
        assert (fourth["calls_made"], server.asked) == (0, 44)
    samples = Store(tmp_path / "w.duckdb").query(
        "SELECT status, count(DISTINCT sample_id) AS n FROM samples GROUP BY ALL ORDER BY ALL"
    )
    assert samples.rows() == [("ok", 40), ("truncated", 4)]


def test_several_replies_per_prompt_are_distinct_calls(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, n=3, temperature=0.7, number=10)
        made = json.loads(distill(tmp_path, "generate", "plan.toml", "--json").stdout)
        assert (made["calls_made"], server.asked, made["samples"]) == (30, 30, 30)
        assert len({(json.dumps(b["messages"]), b.get("seed")) for b in server.bodies}) == 30
        fewer = ("--set", "datagen.recipe.0.n=2")
        less = json.loads(distill(tmp_path, "generate", "plan.toml", "--json", *fewer).stdout)
        assert (less["calls_made"], less["samples"], server.asked) == (0, 20, 30)
        cold = distill(tmp_path, "generate", "plan.toml", "--set", "datagen.sampling.temperature=0")
        assert cold.returncode == 2
        assert (
            "asks the same question 3 times" in cold.stderr and "set a temperature" in cold.stderr
        )


def test_two_recipes_that_send_the_same_request_pay_once(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server, number=10)
        second = '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
        with (tmp_path / "plan.toml").open("a") as plan:
            plan.write(f"{second}student_sees_passage = false\n")
        made = json.loads(distill(tmp_path, "generate", "plan.toml", "--json").stdout)
    assert (made["calls_made"], made["samples"], server.asked) == (10, 20, 10)
