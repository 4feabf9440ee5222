"""The Chinese example from end to end: prompts, passages, scores, judging and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from distill.plan.plan import load_plan
from quality.scoring import judge_prompts
from tests.support.tiny import make_tiny
from warehouse.db.store import Store
from warehouse.records import Choice, Prompt, Sample, Score

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run of the example, with a tiny base in place of the real one."""
    from flows.stages.end_to_end import end_to_end

    folder = tmp_path_factory.mktemp("chinese")
    (folder / "data").mkdir()
    shutil.copyfile(EXAMPLES / "chinese.toml", folder / "chinese.toml")
    shutil.copyfile(EXAMPLES / "data" / "chinese.jsonl", folder / "data" / "chinese.jsonl")
    overrides = [f'train.base="{make_tiny(folder / "tiny")}"', "train.epochs=1"]
    plan = folder / "chinese.toml"
    return folder, plan, end_to_end(str(plan), overrides)


def test_every_right_answer_is_kept_and_graded_as_right(world):
    folder, _, result = world
    assert result["samples"] >= 12
    assert result["kept"] == result["samples"]
    assert result["contestants"]["teacher"]["n"] >= 12
    for metric in ("exact_match", "f1", "contains"):
        assert result["contestants"]["teacher"][metric] == 1.0
    store = Store(folder / "stillhouse.duckdb")
    assert all(choice.kept for choice in store.read(Choice))
    scores = store.read(Score)
    assert {s.value for s in scores if s.scorer in ("grounded", "reference")} == {1.0}
    assert {s.value for s in scores if s.scorer == "refusal"} == {0.0}
    assert all(s.value > 0 for s in scores if s.scorer == "style")
    assert {sample.status for sample in store.read(Sample)} == {"ok"}


def test_questions_are_worded_in_chinese(world):
    folder, _, _ = world
    for prompt in Store(folder / "stillhouse.duckdb").read(Prompt):
        content = prompt.messages[-1]["content"]
        assert content == f"{prompt.passage}\n\n问题：{prompt.question}\n回答："
        assert "Question" not in str(prompt.messages)


def test_the_report_shows_chinese_text_as_it_is(world):
    _, _, result = world
    html = Path(result["report_path"]).read_text(encoding="utf-8")
    questions = [
        json.loads(line)["prompt"]
        for line in (EXAMPLES / "data" / "chinese.jsonl").read_text("utf-8").splitlines()
    ]
    assert '<meta charset="utf-8">' in html
    assert sum(question in html for question in questions) >= 12


def test_the_plan_s_language_goes_to_every_part_that_has_one_and_a_part_s_own_goes_first(world):
    _, plan, _ = world
    loaded = load_plan(plan, ['quality.scorers=["judge"]'])
    assert loaded.quality.scorers[0].language == "zh"
    assert loaded.evaluate.benchmarks[0].language == "zh"
    english = load_plan(plan, ['quality.scorers=[{ use = "judge", language = "en" }]'])
    assert english.quality.scorers[0].language == "en"
    assert load_plan(plan).plan_hash != load_plan(plan, ['language="en"']).plan_hash


def test_the_judge_is_asked_in_chinese():
    prompts = [
        *judge_prompts.extract_claims("问", "答", "zh"),
        *judge_prompts.verify_claim("问", "断", "证", "zh"),
        *judge_prompts.rate_answer(judge_prompts.RUBRIC, "问", "答", None, [], "zh"),
        *judge_prompts.compare_answers("问", "甲", "乙", "zh"),
    ]
    for message in prompts:
        assert not {"the", "answer", "reply", "judge"} & set(message["content"].lower().split())
        assert '"' in message["content"] or "JSON" in message["content"]


def test_english_plans_keep_their_options_and_ids():
    from datagen.recipes.imitation import Imitation
    from quality.benchmarks.custom import Custom
    from quality.scorers.judge import Judge
    from warehouse.catalog import options_of

    for part in (Imitation("p.jsonl"), Custom(path="p.jsonl"), Judge()):
        assert "language" not in options_of(part)
    assert options_of(Judge(language="zh"))["language"] == "zh"
