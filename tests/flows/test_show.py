"""Show samples: which scores decided, and which are of other versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from quality.review.decisions import accept, reject
from tests.support.cli import distill
from tests.support.plans import GROUNDED, rows, scripted, write_rows
from warehouse.db.store import Store
from warehouse.records import Run, Sample, Score

PLAN = """
name = "shown"
warehouse = "w.duckdb"
{teacher}
{grounded}"""


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    write_rows(folder / "prompts.jsonl", rows(0, 2))
    (folder / "plan.toml").write_text(
        PLAN.format(teacher=scripted(folder / "log"), grounded=GROUNDED)
    )
    for verb in ("generate", "curate"):
        assert distill(folder, verb, "plan.toml").returncode == 0
    store = Store(folder / "w.duckdb")
    (score, _) = store.read(Score, "true ORDER BY sample_id")
    older = replace(score, score_id="older", version="0", value=0.25)
    loose = replace(score, score_id="loose", options={**score.options, "loose": 1}, value=0.75)
    sample = store.by_ids(Sample, "sample_id", [score.sample_id])[0]
    at = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
    store.insert([older, loose, reject(sample, at=at[0]), accept(sample, at=at[1])])
    return folder, score


def shown(folder, *words):
    done = distill(folder, "show", *words, "--warehouse", "plan.toml", "--json")
    assert done.returncode == 0, done.stderr
    return {row["sample_id"]: row for row in json.loads(done.stdout)}


def test_the_scores_that_decided_stand_apart_from_those_of_other_versions(curated):
    folder, score = curated
    row = shown(folder, "samples")[score.sample_id]
    assert row["scores"] == "grounded 1.0; human 1.0"
    unused = row["unused_scores"]
    assert "grounded 0.25 [version 0, rule, {" in unused
    assert "grounded 0.75" in unused and "loose" in unused
    assert "human 0.0" in unused and "grounded 1.0" not in unused


def test_a_sample_without_other_scores_has_no_line_for_them(curated):
    folder, score = curated
    done = distill(folder, "show", "samples", "--warehouse", "plan.toml")
    blocks = [block for block in done.stdout.split("\n\n") if block.strip()]
    assert [block.count("unused_scores") for block in blocks if score.sample_id in block] == [1]
    assert [block.count("unused_scores") for block in blocks if score.sample_id not in block] == [0]


def test_of_a_run_that_recorded_no_scorers_only_unequivocal_scores_count_as_used(curated):
    folder, score = curated
    store = Store(folder / "w.duckdb")
    runs = store.read(Run)
    for run in runs:
        summary = {key: value for key, value in run.summary.items() if key != "scorers"}
        store.put_run(replace(run, summary=summary))
    try:
        found = shown(folder, "samples")
    finally:
        for run in runs:
            store.put_run(run)
    assert found[score.sample_id]["scores"] == "human 1.0"
    assert found[score.sample_id]["unused_scores"].count("grounded") == 3
    (other,) = found.keys() - {score.sample_id}
    assert (found[other]["scores"], found[other]["unused_scores"]) == ("grounded 1.0", None)


def test_a_mistyped_name_gets_the_nearest_one(curated):
    folder, _ = curated
    done = distill(folder, "show", "sampels", "--warehouse", "plan.toml")
    assert done.returncode == 2
    assert done.stderr.endswith("(did you mean 'samples'?)\n")
    assert (
        "`distill runs` lists them"
        in distill(folder, "show", "2019", "--warehouse", "plan.toml").stderr
    )
