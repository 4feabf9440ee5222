"""`distill check` says before paying which prompts are held out, and refuses prompts as benchmark."""

import json

from tests.support.cli import distill
from tests.support.plans import rows, scripted, write_plan, write_rows
from warehouse.db.store import Store


def test_check_counts_prompts_that_would_be_dropped(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"), prompts=8, held_out=6)
    clean = distill(tmp_path, "check", str(plan))
    assert clean.returncode == 0, clean.stderr
    assert "held out" not in clean.stdout.replace("held-out", "")
    write_rows(tmp_path / "prompts.jsonl", rows(0, 8) + rows(1000, 2))
    leaky = distill(tmp_path, "check", str(plan))
    assert "held out  2 of 10 prompts would be dropped as held out (2 by question)" in leaky.stdout
    assert "'What colour is otter 1000?': custom item" in leaky.stdout
    assert not (tmp_path / "asked.log").exists()


def test_the_prompts_file_is_no_benchmark(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"), prompts=20, held_out=6)
    same = 'evaluate.benchmarks=[{use = "custom", path = "prompts.jsonl"}]'
    for verb in ("check", "generate"):
        done = distill(tmp_path, verb, str(plan), "--set", same)
        assert done.returncode == 2
        assert "20 of its 20 items are also prompts" in done.stderr and "holdout" in done.stderr
    assert not (tmp_path / "asked.log").exists()
    parted = [
        *("--set", same.replace('"}', '", holdout = 0.3}')),
        "--set",
        "datagen.recipe.0.holdout=0.3",
    ]
    done = distill(tmp_path, "check", str(plan), *parted)
    assert done.returncode == 0, done.stderr


def test_show_names_the_item_and_the_shared_words(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"), prompts=8, held_out=6)
    write_rows(tmp_path / "prompts.jsonl", rows(0, 8) + rows(1000, 1))
    for verb in ("generate", "curate"):
        done = distill(tmp_path, verb, str(plan))
        assert done.returncode == 0, done.stderr
    rows_shown = json.loads(
        distill(
            tmp_path, "show", "samples", "--only", "dropped", "--warehouse", "w.duckdb", "--json"
        ).stdout
    )
    (dropped,) = [row for row in rows_shown if row["reason"].startswith("held_out")]
    details = dropped["details"]
    details = json.loads(details) if isinstance(details, str) else details
    assert details["held_out"]["shown"] == "What colour is otter 1000?"
    assert "1000" in details["held_out"]["shared"]
    kept = Store(tmp_path / "w.duckdb").query("SELECT count(*) AS n FROM newest_choices WHERE kept")
    assert kept["n"][0] == 8
