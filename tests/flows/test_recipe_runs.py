"""Recipes of several calls through `distill generate`: replays, targets, rounds, budgets, kills."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

from datagen.openai import options
from datagen.recipes import pearl
from tests.datagen.test_recipe_pearl import ROWS, Teacher
from tests.support import steps
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai, Fault
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.records import Call, Failure, Round, Run, Sample, SeedRun, make_id

PLAN = """
name = "steps"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
max_in_flight = 4
input_usd_per_million = 1.0
output_usd_per_million = 1.0
[datagen]
shard = {shard}
{datagen}
[[datagen.recipe]]
use = "./steps.py:{recipe}"
{options}
"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.001)


def echo(messages) -> str:
    """A short reply that tells what was asked."""
    return f"{make_id(messages)[:12]} it is"


def write(folder, server, recipe="Chain", options="", datagen="", shard=4096) -> None:
    code = Path(steps.__file__).read_text()
    (folder / "steps.py").write_text(code)
    text = PLAN.format(
        url=server.base_url, recipe=recipe, options=options, datagen=datagen, shard=shard
    )
    (folder / "plan.toml").write_text(text)


def generate(folder, *words) -> dict:
    done = distill(folder, "generate", "plan.toml", "--json", *words)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def samples(folder) -> dict[str, tuple]:
    read = Store(folder / "w.duckdb").read(Sample)
    return {s.sample_id: (s.completion, s.status, s.status_reason, s.facts) for s in read}


def test_each_step_is_asked_once_and_an_edit_of_the_last_asks_the_last_alone(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, shard=4)
        first = generate(tmp_path)
        assert (first["calls_made"], first["samples"], server.asked) == (30, 10, 30)
        assert "chain: 10 seeds, 30 calls, 10 ok" in first["stderr"]
        again = generate(tmp_path)
        assert (again["calls_made"], again["calls_reused"], again["samples"]) == (0, 30, 10)
        edited = generate(tmp_path, "--set", 'datagen.recipe.0.last=" briefly"')
        assert (edited["calls_made"], edited["calls_reused"]) == (10, 20)
    store = Store(tmp_path / "w.duckdb")
    assert all(call.messages for call in store.read(Call))
    assert len(store.read(SeedRun)) == 20
    assert {s.facts["seed"] for s in store.read(Sample)} == set(range(10))


def test_the_summary_of_the_run_has_the_tally_of_each_recipe(tmp_path):
    with FakeOpenai(
        lambda messages: "" if "seed 3" in messages[-1]["content"] else echo(messages)
    ) as s:
        write(tmp_path, s)
        done = generate(tmp_path)
    assert "chain: 10 seeds, 28 calls, 9 ok, 1 invalid" in done["stderr"]
    assert "1 x the reply is empty" in done["stderr"]
    [run] = Store(tmp_path / "w.duckdb").read(Run)
    [tally] = run.summary["recipes"]
    assert (tally["seeds"], tally["calls"], tally["ok"], tally["invalid"]) == (10, 28, 9, 1)
    assert tally["reasons"] == {"the reply is empty": 1}


def test_a_target_starts_no_more_seeds_than_it_needs_and_says_when_it_is_not_met(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, options="target = 4\nseeds_wanted = 50")
        done = generate(tmp_path)
        assert server.asked == 12 and "4 ok of 4 wanted" in done["stderr"]
        assert "  target = 4 is reached" in done["stderr"]
        assert (done["target_met"], done["recipes"][0]["end"]) == (True, "target")
        more = generate(tmp_path, "--set", "datagen.recipe.0.target=6")
        assert more["calls_made"] == 6
        short = generate(
            tmp_path, "--set", "datagen.recipe.0.target=9", "--set", "datagen.recipe.0.max_calls=21"
        )
        assert short["calls_made"] == 3 and server.asked == 21
        assert "7 ok of 9 wanted" in short["stderr"]
        assert (
            "  target = 9 is not met: max_calls = 21 is reached; raise it to go on"
            in short["stderr"]
        )
        [tally] = short["recipes"]
        assert short["target_met"] is tally["target_met"] is False
        assert (tally["end"], tally["ok"], tally["target"]) == ("max_calls", 7, 9)
        few = generate(
            tmp_path,
            "--set",
            "datagen.recipe.0.target=9",
            "--set",
            "datagen.recipe.0.seeds_wanted=3",
        )
        assert "3 ok of 9 wanted" in few["stderr"]
        assert "  target = 9 is not met: there are no more seeds" in few["stderr"]
        assert (few["target_met"], few["recipes"][0]["end"]) == (False, "no_more_seeds")


def test_without_a_target_nothing_is_said_of_one(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        done = generate(tmp_path)
    [tally] = done["recipes"]
    assert "target_met" not in done and tally["target_met"] is None
    assert (tally["end"], tally["ended"]) == ("no_more_seeds", "there are no more seeds")
    assert "there are no more seeds" not in done["stderr"]


def test_a_target_that_the_budget_cuts_off_is_told(tmp_path):
    with FakeOpenai(echo) as server:
        options = "target = 9"
        write(tmp_path, server, options=options, datagen="budget_usd = 0.00085\nsampling = { max_tokens = 200 }")  # fmt: skip
        stopped = distill(tmp_path, "generate", "plan.toml")
    assert stopped.returncode == 3
    assert "  target = 9 is not met: the budget is reached; raise it to go on" in stopped.stderr
    [run] = Store(tmp_path / "w.duckdb").read(Run)
    [tally] = run.summary["recipes"]
    assert (tally["end"], tally["target_met"]) == ("budget", False)


def test_the_end_of_a_pool_is_told_with_its_reason(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, "Growing")
        done = generate(tmp_path)
    assert "  the pool gives no more seeds" in done["stderr"]
    [tally] = done["recipes"]
    assert (tally["end"], tally["ended"]) == ("no_more_rounds", "the pool gives no more seeds")


def test_surplus_is_kept_and_the_first_of_the_target_are_used(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, options="seeds_wanted = 10")
        generate(tmp_path)
        done = distill(
            tmp_path, "curate", "plan.toml", "--json", "--set", "datagen.recipe.0.target=4"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["kept"] == 4 and server.asked == 30


def test_a_recipe_with_a_hidden_input_stops_before_it_pays(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        code = (tmp_path / "steps.py").read_text()
        hidden = code.replace(
            'text = f"seed {seed.value}',
            "text = f\"{Path(__file__).with_name('now.txt').read_text()} seed {seed.value}",
        )
        assert hidden != code
        (tmp_path / "steps.py").write_text(hidden)
        (tmp_path / "now.txt").write_text("Monday")
        generate(tmp_path)
        (tmp_path / "now.txt").write_text("Tuesday")
        done = distill(tmp_path, "generate", "plan.toml")
        assert done.returncode == 2 and server.asked == 30
        assert "recipe 'chain' asks otherwise than it did before: seed " in done.stderr
        assert generate(tmp_path, "--set", "datagen.on_new_calls=ask")["calls_made"] == 30


def test_a_recipe_of_another_revision_may_ask_other_calls_about_finished_seeds(
    tmp_path, monkeypatch
):
    say = Teacher()
    with FakeOpenai(say) as server:
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
        plan = PLAN.format(url=server.base_url, recipe="", options='prompts = "rows.jsonl"', datagen="", shard=9)  # fmt: skip
        (tmp_path / "plan.toml").write_text(plan.replace('"./steps.py:"', '"pearl"'))
        generate(tmp_path)
        monkeypatch.setattr(pearl, "distinct_steps", lambda steps: list(steps)[:1])  # another plan
        stopped = distill(tmp_path, "generate", "plan.toml")
        assert stopped.returncode == 2 and "asks otherwise than it did before" in stopped.stderr
        monkeypatch.setattr(pearl.Pearl, "revision", 99)
        assert generate(tmp_path)["calls_made"] == 2  # the answers, from fewer results


def test_rounds_are_sealed(tmp_path):
    down = {"it": True}

    def fault_for(messages):
        lost = down["it"] and messages[-1]["content"].startswith("round 0 place 2")
        return Fault(400, '{"error": {"message": "too long"}}') if lost else None

    with FakeOpenai(echo, fault_for=fault_for) as server:
        write(tmp_path, server, "Growing")
        first = generate(tmp_path)
        assert first["samples"] == 11 and first["calls_made"] == 22
        assert "growing: 12 seeds, 22 calls, 11 ok, 1 unanswered" in first["stderr"]
        down["it"] = False
        store = Store(tmp_path / "w.duckdb")
        assert [(r.number, r.seeds, len(r.missing)) for r in store.read(Round)] == [
            (0, 4, 1), (1, 4, 0), (2, 4, 0),
        ]  # fmt: skip
        before = server.asked
        again = generate(tmp_path)
        assert (again["calls_made"], again["samples"]) == (0, 11)
        longer = generate(tmp_path, "--set", "datagen.recipe.0.rounds=4")
        assert server.asked == before + longer["calls_made"]


def test_what_may_not_join_the_pool_is_an_invalid_sample(tmp_path):
    with FakeOpenai(
        lambda m: "same" if m[-1]["content"].startswith("again") else echo(m)
    ) as server:
        write(tmp_path, server, "Growing", "rounds = 1")
        done = generate(tmp_path)
    assert "growing: 4 seeds, 8 calls, 1 ok, 3 invalid" in done["stderr"]
    assert sorted(s[1:3] for s in samples(tmp_path).values())[0] == ("invalid", "is there already")


def test_a_budget_stops_between_steps_and_a_larger_one_goes_on(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, datagen="budget_usd = 0.00085\nsampling = { max_tokens = 200 }")
        stopped = distill(tmp_path, "generate", "plan.toml")
        assert stopped.returncode == 3 and "budget_usd = 0.00085 is reached" in stopped.stderr
        asked = server.asked
        assert 0 < asked < 30
        done = generate(tmp_path, "--set", "datagen.budget_usd=1")
        assert (asked + done["calls_made"], server.asked) == (30, 30)
    assert len(samples(tmp_path)) == 10


def test_the_estimate_counts_next_calls_exactly_and_bounds_the_later_ones(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, options="seeds_wanted = 12")
        checked = distill(tmp_path, "check", "plan.toml")
        assert "recipe    chain: 12 seeds, 3 calls each" in checked.stdout
        assert (
            "12 prompts, 0 already paid for, 12 to ask, then 24 calls that follow" in checked.stdout
        )
        generate(tmp_path, "--set", "datagen.recipe.0.target=9")
        checked = distill(tmp_path, "check", "plan.toml")
        assert (
            "30 prompts, 27 already paid for, 3 to ask, then 6 calls that follow" in checked.stdout
        )


def test_a_seed_on_which_the_code_fails_is_a_failure_and_the_others_go_on(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        code = (tmp_path / "steps.py").read_text()
        (tmp_path / "steps.py").write_text(
            code.replace(
                '        text = f"seed', '        10 // (seed.value - 5)\n        text = f"seed'
            )
        )
        done = generate(tmp_path)
    assert (done["samples"], done["failures"]) == (9, 1)
    [failure] = Store(tmp_path / "w.duckdb").read(Failure)
    assert failure.error.startswith("steps.py, line ") and "ZeroDivisionError" in failure.error
    assert "1 seed failed" in done["stderr"]


OLD = {
    "prompts": [
        "3b6d2a6550b2364ef079f07c3dd5a92f", "420224b6a3eedb20d87d49fd738aee44",
        "beae5a8863cc0faf6fd59d43efe18a3d", "d648779f9890d2d7100f3500c0c8fc06",
        "dcde52e801bbda35f3903e4fc28eee50", "ebdf7312b264eeab21c71b9d4554f7d3",
    ],
    "calls": [
        "24cd399e910e9a66f95bac5461b5c81d", "5dfb56d359ca42d425744bde332e1d08",
        "6fe997e9e904c8488836791a1ca33a76", "8354cbd0e0841d8571f1eef5c773b828",
        "9a9f42b88837c8d5d971c554f3aae9ed", "ec39393a771d6e8ceefa6955fda2b8d5",
    ],
    "samples": [
        "22ebcfc498dbee9cd007c6d76531bbfc", "2eb18ce51ae88679b17437c462862bd6",
        "a25ba3ba2598b2db937c2acfccec52a0", "ac5193e10ea2d4dde4c16c6e44b2cc43",
        "e40327150c9497abd9e47a3be187fdd7", "e855b8799ca5699b681813e098a84ed3",
    ],
}  # fmt: skip
"""What the version before recipes were coroutines wrote for `IMITATION`."""

IMITATION = """
name = "old"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
replies = { "brown" = "brown", "grey" = "It is grey." }
default = "I cannot help with that."
[datagen]
sampling = { temperature = 0.8, max_tokens = 16 }
[[datagen.recipe]]
use = "imitation"
prompts = "rows.jsonl"
n = 2
instruction = "Be brief."
max_answer_words = 2
"""


def test_imitation_has_the_ids_of_earlier_versions_so_nothing_is_paid_again(tmp_path):
    otter = {
        "prompt": "What colour is the otter?", "reference": "brown",
        "passage": "The otter lives by the river and is brown.", "id": 7,
    }  # fmt: skip
    others = [
        {"prompt": "What colour is the heron?", "reference": "grey", "passage": "The heron by the lake is grey."},
        {"prompt": "Wie heisst der Dachs?", "reference": "Grimbart"},
    ]  # fmt: skip
    rows = "".join(json.dumps(row) + "\n" for row in (otter, *others, otter))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "plan.toml").write_text(IMITATION)
    assert generate(tmp_path)["calls_made"] == 6
    store = Store(tmp_path / "w.duckdb")
    assert sorted(call.call_id for call in store.read(Call)) == OLD["calls"]
    assert sorted(samples(tmp_path)) == OLD["samples"]
    prompts = store.query("SELECT prompt_id FROM prompts ORDER BY 1")["prompt_id"]
    assert prompts.to_list() == OLD["prompts"]


COMMAND = [sys.executable, "-m", "flows.cli", "generate", "plan.toml", "--json"]


def killed_and_resumed(folder: Path, recipe: str, options: str, moments: int, seed: int) -> None:
    """Kill a run at random moments; the samples are those of an undisturbed one, and no reply that
    was kept is asked for again."""
    chance = random.Random(seed)
    with FakeOpenai(echo, latency_s=0.02) as server:
        calm = folder / "calm"
        calm.mkdir()
        write(calm, server, recipe, options, shard=7)
        total = generate(calm)["calls_made"]
        server.counts.clear()
        folder = folder / "killed"
        folder.mkdir()
        write(folder, server, recipe, options, shard=7)
        store = Store(folder / "w.duckdb")
        settled: dict[str, int] = {}
        for goal in sorted(chance.sample(range(1, total), moments)):
            process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while server.asked < goal and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.03)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.1)
            for asked, times in settled.items():
                assert server.counts[asked] == times
            with Spool(store.path) as spool:
                spool.drain(store)
            settled = {
                key: server.counts[key] for c in store.read(Call) if (key := make_id(c.messages))
            }
        result = generate(folder)
        for asked, times in settled.items():
            assert server.counts[asked] == times
    assert samples(folder) == samples(calm) and result["samples"] == len(samples(calm))
    assert len(store.read(Call)) == total


@pytest.mark.parametrize(
    ("recipe", "options"),
    [("Chain", "seeds_wanted = 20"), ("Growing", "rounds = 5\nround_size = 6")],
)
def test_killed_at_random_moments_a_run_ends_as_if_undisturbed(tmp_path, recipe, options):
    killed_and_resumed(tmp_path, recipe, options, moments=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options"),
    [("Chain", "seeds_wanted = 60"), ("Growing", "rounds = 8\nround_size = 8")],
)
def test_killed_at_twenty_random_moments(tmp_path, recipe, options):
    killed_and_resumed(tmp_path, recipe, options, moments=20, seed=2)


def test_check_names_a_recipe_whose_requests_are_not_known_beforehand(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        shown = distill(tmp_path, "check", "plan.toml").stdout
    assert "sends     what recipe 'chain' asks to http://127.0.0.1" in shown


def test_max_calls_holds_for_replies_that_were_paid_for_before(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        generate(tmp_path)
        again = generate(tmp_path, "--set", "datagen.recipe.0.max_calls=7")
        assert (again["calls_made"], again["samples"]) == (0, 2)
        assert "max_calls = 7 is reached" in again["stderr"]


def test_ends_that_are_no_numbers_of_examples_are_refused(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, options="target = -1")
        done = distill(tmp_path, "check", "plan.toml")
    assert done.returncode == 2 and "recipe.0.target is 1 or more, not -1" in done.stderr


def test_the_estimate_knows_replies_that_a_killed_process_left(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        generate(tmp_path)
        store = Store(tmp_path / "w.duckdb")
        calls = store.read(Call)
        (tmp_path / "w.duckdb").unlink()
        with Spool(store.path) as spool:  # as a process that was killed before it drained
            for call in calls:
                spool.append(call)
        again = generate(tmp_path)
        assert "to ask" not in again["stderr"]  # nothing is left to be estimated
        assert (again["calls_made"], again["calls_reused"], server.asked) == (0, 30, 30)


def test_a_bug_of_any_recipe_of_the_plan_stops_after_eight_seeds(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, options="seeds_wanted = 20")
        code = (tmp_path / "steps.py").read_text()
        broken = code.replace(
            '        yield Example(user(f"question {seed.value}"), text',
            "        {}['colour']\n        yield Example(user(''), text",
        )
        assert broken != code
        (tmp_path / "broken.py").write_text(broken)
        with (tmp_path / "plan.toml").open("a") as plan:
            plan.write('[[datagen.recipe]]\nuse = "./broken.py:Chain"\nseeds_wanted = 2000\n')
            plan.write("steps = 1\nis_named = true\n")
        done = distill(tmp_path, "generate", "plan.toml")
        assert done.returncode == 2 and server.asked < 60 + 100
    assert "failed on each of the first 8 seeds: broken.py, line " in done.stderr
    assert "KeyError: 'colour'" in done.stderr
    assert len(samples(tmp_path)) == 20  # of the recipe that is sound


def test_a_paid_run_needs_no_key(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server)
        plan = (tmp_path / "plan.toml").read_text()
        (tmp_path / "plan.toml").write_text(
            plan.replace('model = "m"', 'model = "m"\napi_key_env = "MY_KEY"')
        )
        generate(tmp_path)
        done = distill(tmp_path, "generate", "plan.toml", "--json", MY_KEY="")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["calls_reused"] == 30 and server.asked == 30


def test_a_server_that_takes_no_schema_is_asked_in_words_by_every_seed(tmp_path):
    class NoSchema(FakeOpenai):
        async def _chat(self, request):
            if "response_format" in await request.json():
                self.rejected = getattr(self, "rejected", 0) + 1
                error = {"error": {"message": "response_format is not supported"}}
                return web.json_response(error, status=400)
            return await super()._chat(request)

    def pairs(messages):
        return json.dumps(
            {"pairs": [{"question": f"Who? {make_id(messages)[:6]}", "answer": "otter"}]}
        )

    with NoSchema(pairs) as server:
        passages = "".join(
            json.dumps({"passage": f"The otter number {n} swims."}) + "\n" for n in range(40)
        )
        (tmp_path / "passages.jsonl").write_text(passages)
        plan = PLAN.format(
            url=server.base_url,
            recipe="x",
            options='passages = "passages.jsonl"',
            datagen="",
            shard=4096,
        ).replace('"./steps.py:x"', '"grounded_qa"')
        (tmp_path / "plan.toml").write_text(plan)
        first = generate(tmp_path)
        assert first["recipes"][0]["ok"] == 40 and server.rejected == 40
        again = generate(tmp_path)
        assert (again["calls_made"], server.asked, server.rejected) == (0, 40, 40)


def test_a_target_of_a_recipe_with_several_examples_for_each_seed_pays_for_few_more(tmp_path):
    with FakeOpenai(echo) as server:
        write(
            tmp_path, server, options="seeds_wanted = 500\nsteps = 1\nis_named = true\ntarget = 60"
        )
        code = (tmp_path / "steps.py").read_text()
        one = '        yield Example(user(f"question {seed.value}"), text, facts={"seed": seed.value})\n'
        assert one in code
        three = "".join(one.replace("question", f"question {n}") for n in range(3))
        (tmp_path / "steps.py").write_text(code.replace(one, three))
        done = generate(tmp_path)
        assert done["recipes"][0]["ok"] >= 60
        assert server.asked <= 20 + 4  # three examples each; in flight when it was enough


def test_a_stopped_run_says_what_its_recipes_made(tmp_path):
    with FakeOpenai(echo) as server:
        write(tmp_path, server, datagen="budget_usd = 0.00085\nsampling = { max_tokens = 200 }")
        stopped = distill(tmp_path, "generate", "plan.toml")
    assert stopped.returncode == 3
    assert "chain: 10 seeds, " in stopped.stderr and " unfinished" in stopped.stderr
