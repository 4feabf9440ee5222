"""Curating from the command line: who is asked, what is blacked out, what fails."""

from __future__ import annotations

import json

from quality.review.decisions import accept
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai, Fault
from tests.support.plans import rows, scripted, write_rows
from tests.support.tiny import make_tiny
from warehouse.db.store import Store
from warehouse.records import Choice, Failure, Sample, Score

PLAN = """
name = "judged"
warehouse = "w.duckdb"
{teacher}
[datagen]
sampling = {{ max_tokens = 50 }}
{budget}
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
[quality]
judge = {{ use = "openai_chat", model = "j", base_url = "{url}", input_usd_per_million = 1.0, output_usd_per_million = 1.0 }}
scorers = [{scorers}]
gate = {{ {gate} }}
[train]
base = "{base}"
"""


def write(folder, url, scorers, gate, budget="", number=6):
    write_rows(folder / "prompts.jsonl", rows(0, number))
    text = PLAN.format(
        teacher=scripted(folder / "asked.log"),
        url=url,
        scorers=", ".join(scorers),
        gate=gate,
        budget=budget,
        base=make_tiny(folder / "tiny"),
    )
    (folder / "plan.toml").write_text(text)


GOOD = json.dumps({"reason": "so", "score": 5})


def curated(folder, *flags):
    done = distill(folder, "curate", "plan.toml", "--json", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kept_now(folder):
    """What a what-if takes for the present: it has to be what the gate keeps."""
    return curated(folder, "--what-if", "duplicates.near=0.5")["kept_now"]


def test_a_judge_is_paid_once_is_in_the_ledger_and_what_fails_is_asked_again(tmp_path):
    def refused(messages):
        return Fault(400) if "heron" in json.dumps(messages) else None

    scorers = ['{ use = "judge", mode = "rubric" }', '{ use = "perplexity" }']
    with FakeOpenai(lambda messages: GOOD, fault_for=refused) as server:
        write(tmp_path, server.base_url, scorers, "judge_min = 0.9, perplexity_max = 1e9")
        assert distill(tmp_path, "generate", "plan.toml").returncode == 0
        checked = distill(tmp_path, "check", "plan.toml", "--set", "evaluate.benchmarks=[]")
        assert "scorer    judge: 6 calls of j@" in checked.stdout
        assert "not in the estimate" in checked.stdout
        first = curated(tmp_path)
        assert (server.asked, first["calls_made"], first["kept"]) == (6, 5, 5)
        again = curated(tmp_path)
        assert (server.asked, again["calls_made"], again["kept"]) == (6, 0, 5)
    store = Store(tmp_path / "w.duckdb")
    assert {score.scorer for score in store.read(Score)} == {"judge", "perplexity"}
    assert len(store.read(Score, "scorer = 'judge'")) == 5  # no score of what failed
    assert store.read(Failure, "error LIKE 'judge: the judge gave no reply%'")
    assert all(s.value > 1 for s in store.read(Score, "scorer = 'perplexity'"))
    ledger = distill(tmp_path, "runs", "--warehouse", "w.duckdb", "--cost", "--json")
    lines = {line["recipe"]: line for line in json.loads(ledger.stdout)}
    assert lines["scoring"]["calls"] == 5
    assert lines["scoring"]["cost_usd"] > 0


def test_a_budget_holds_for_the_judge_too(tmp_path):
    with FakeOpenai(lambda messages: GOOD) as server:
        scorers = ['{ use = "judge", mode = "rubric" }']
        write(tmp_path, server.base_url, scorers, "judge_min = 0.9", "budget_usd = 0.0034")
        distill(tmp_path, "generate", "plan.toml")
        done = distill(tmp_path, "curate", "plan.toml")
        assert done.returncode == 3, done.stderr
        assert "budget_usd = 0.0034 is reached" in done.stderr
        assert 0 < server.asked < 6


def test_personal_data_is_blacked_out_in_what_is_trained_on(tmp_path):
    write(tmp_path, "http://127.0.0.1:9/v1", ['{ use = "pii", redact = true }'], "pii_max = 0")
    plan = (tmp_path / "plan.toml").read_text()
    (tmp_path / "plan.toml").write_text(plan.replace('"brown"', '"Write to anna@example.org now."'))
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    result = curated(tmp_path)
    assert result["kept"] == result["samples"] > 0
    store = Store(tmp_path / "w.duckdb")
    kept = [choice.sample_id for choice in store.read(Choice) if choice.kept]
    texts = {sample.completion for sample in store.by_ids(Sample, "sample_id", kept)}
    assert "Write to <EMAIL_ADDRESS> now." in texts
    assert not any("anna@" in text for text in texts)
    assert curated(tmp_path)["kept"] == result["kept"]
    assert kept_now(tmp_path) == result["kept"]


def test_a_human_decision_outlasts_the_blacking_out(tmp_path):
    scorers = ['{ use = "pii", redact = true }', '{ use = "grounded" }']
    gate = "pii_max = 0, grounded_min = 0.99"
    write(tmp_path, "http://127.0.0.1:9/v1", scorers, gate)
    plan = (tmp_path / "plan.toml").read_text()
    (tmp_path / "plan.toml").write_text(plan.replace('"brown"', '"Write to anna@example.org now."'))
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    store = Store(tmp_path / "w.duckdb")
    taken = next(s for s in store.read(Sample) if "anna@" in s.completion)
    store.insert([accept(taken)])
    found = curated(tmp_path)["kept"]
    assert found >= 1
    assert kept_now(tmp_path) == found
    kept = [choice.sample_id for choice in store.read(Choice) if choice.kept]
    texts = [sample.completion for sample in store.by_ids(Sample, "sample_id", kept)]
    assert "Write to <EMAIL_ADDRESS> now." in texts


def test_what_a_scorer_lacks_is_told_before_anything_is_paid_for(tmp_path):
    write(tmp_path, "http://127.0.0.1:9/v1", ['{ use = "grounded" }'], "grounded_min = 0.5")
    log = tmp_path / "asked.log"
    for key, told in (
        (
            'quality.scorers=[{use = "grounded"}, {use = "retrieved", documents = ["none/*.md"]}]',
            "none/*.md",
        ),
        ("quality.gate.perplexity_max=30", "which no scorer of the plan gives"),
    ):
        for verb in ("check", "generate"):
            if verb == "generate" and "retrieved" in key:
                continue  # documents may come before the curating
            done = distill(tmp_path, verb, "plan.toml", "--set", key)
            assert done.returncode == 2, (verb, key)
            assert told in done.stderr
    assert not log.exists()
    wrong = distill(tmp_path, "curate", "plan.toml", "--paid")
    assert wrong.returncode == 2 and "--audit" in wrong.stderr


def test_show_tells_scores_and_reasons_and_no_character_acts_on_the_terminal(tmp_path):
    write(tmp_path, "http://127.0.0.1:9/v1", ['{ use = "grounded" }'], "grounded_min = 0.5")
    plan = (tmp_path / "plan.toml").read_text()
    odd = '"no\\u0007\\u001b[31m\\u202ething"'
    (tmp_path / "plan.toml").write_text(plan.replace('"brown"', odd))
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    done = distill(tmp_path, "curate", "plan.toml")
    assert "x grounded below 0.5" in done.stdout
    shown = distill(tmp_path, "show", "samples", "--only", "dropped", "--warehouse", "w.duckdb")
    assert "grounded 0.0 (" in shown.stdout
    assert "no\\u0007\\u001b[31m\\u202ething" in shown.stdout
    assert not set("\x07\x1b\u202e") & set(shown.stdout)
    assert "kept             False" in shown.stdout and "kept             True" not in shown.stdout


def test_a_bound_that_no_scorer_gives_is_told_before_anything_runs(tmp_path):
    write(tmp_path, "http://127.0.0.1:9/v1", ['{ use = "grounded" }'], "toxicity_max = 0.5")
    done = distill(tmp_path, "curate", "plan.toml")
    assert done.returncode == 2
    assert "which no scorer of the plan gives" in done.stderr
