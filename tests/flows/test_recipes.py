"""Every recipe through `distill generate`, with a server that answers each step, now and then badly."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from datagen.openai import options
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai
from tests.support.recipe_replies import (
    CASES,
    REFUSAL,
    case_of,
    malformed_reply,
    never,
    now_and_then_malformed,
)
from warehouse import catalog
from warehouse.db.store import Store
from warehouse.records import Call, Sample

PLAN = """
name = "every"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
input_usd_per_million = 1.0
output_usd_per_million = 1.0
[datagen]
sampling = {{ temperature = 0.7, max_tokens = 512 }}
[[datagen.recipe]]
use = "{recipe}"
{options}
"""
BAD = ("refused", "truncated", "invalid")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.001)


def generate(folder) -> dict:
    done = distill(folder, "generate", "plan.toml", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def samples_of(folder) -> dict[str, Sample]:
    return {sample.sample_id: sample for sample in Store(folder / "w.duckdb").read(Sample)}


def test_every_recipe_has_a_case_and_every_case_a_recipe():
    assert sorted(CASES) == catalog.names("recipe")


@pytest.mark.parametrize("name", catalog.names("recipe"))
def test_a_recipe_copes_with_bad_replies_and_pays_for_none_twice(tmp_path, name):
    case = case_of(name)
    case.write_files(tmp_path)
    is_asked = case.say is not never
    with FakeOpenai(now_and_then_malformed(case.say)) as server:
        plan = PLAN.format(url=server.base_url, recipe=name, options=case.options)
        (tmp_path / "plan.toml").write_text(plan)
        first = generate(tmp_path)
        samples, asked = samples_of(tmp_path), server.asked
        again = generate(tmp_path)
        assert (again["calls_made"], server.asked) == (0, asked)
        assert samples_of(tmp_path) == samples and again["recipes"] == first["recipes"]
    calls = Store(tmp_path / "w.duckdb").read(Call)
    assert all(call.messages for call in calls)
    assert any(malformed_reply(call.messages) is not None for call in calls) or not is_asked
    assert first["calls_made"] == asked and first["failures"] == 0
    assert len(calls) == (asked if is_asked else len(samples))

    by_status = Counter(sample.status for sample in samples.values())
    assert by_status["ok"] > 0 and by_status.total() > by_status["ok"]
    assert all(s.status_reason for s in samples.values() if s.status != "ok")
    learned = [s for s in samples.values() if s.status == "ok"]
    assert all(s.completion.strip() and s.question for s in learned)
    assert not [s for s in learned if REFUSAL in json.dumps([s.messages, s.completion])]
    assert {i for s in samples.values() for i in s.call_ids} <= {call.call_id for call in calls}

    [tally] = first["recipes"]
    assert tally["recipe"] == name and tally["ok"] > 0
    assert tally["examples"] == first["samples"] == len(samples)
    assert tally["ok"] + tally["duplicate"] == by_status["ok"]
    assert {status: tally[status] for status in BAD} == {
        status: by_status[status] for status in BAD
    }
    reasons = Counter(s.status_reason for s in samples.values() if s.status != "ok")
    assert tally["reasons"] == {why: reasons[why] for why in tally["reasons"]}
    assert len(tally["reasons"]) == min(len(reasons), 5)
    assert tally["calls"] == len(calls)  # those of `prepare` included
    assert (tally["failed"], tally["unanswered"], tally["unfinished"]) == (0, 0, 0)


def test_self_instruct_says_why_its_rounds_ended(tmp_path):
    case = case_of("self_instruct")
    case.write_files(tmp_path)
    known = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["prompt"]
    with FakeOpenai(lambda messages: json.dumps({"instructions": [known]})) as server:
        plan = PLAN.format(url=server.base_url, recipe="self_instruct", options=case.options)
        (tmp_path / "plan.toml").write_text(plan)
        done = distill(tmp_path, "generate", "plan.toml", "--json")
        fewer = distill(
            tmp_path, "generate", "plan.toml", "--json", "--set", "datagen.recipe.0.max_calls=4"
        )
    assert done.returncode == 2 and "none of " in done.stderr  # every sample is invalid
    assert (
        "  target = 8 is not met: nothing joined the pool in 3 rounds in a row; give more seed tasks, "
        "a stronger teacher or a higher max_similarity" in done.stderr
    )
    assert "target = 8 is not met: max_calls = 4 is reached; raise it to go on" in fewer.stderr
