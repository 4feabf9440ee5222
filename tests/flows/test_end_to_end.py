"""The whole flow with the scripted teacher and a tiny random Llama."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plans import rows, scripted, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Answer, Call, Choice, Run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One finished run, and what it returned."""
    from flows.stages.end_to_end import end_to_end

    folder = tmp_path_factory.mktemp("world")
    log = folder / "asked.log"
    plan = write_plan(folder, scripted(log))
    return folder, plan, log, end_to_end, end_to_end(str(plan), [])


def asked(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_every_stage_left_its_records_and_the_report_is_there(world):
    folder, _, log, _, result = world
    assert result["calls_made"] == asked(log) == 24 + 12
    assert result["samples"] == 24
    assert 0 < result["kept"] <= 24
    assert result["failures"] == 0
    assert set(result["contestants"]) == {"teacher", "base", "student"}
    for metrics in result["contestants"].values():
        assert metrics["n"] == 12
    assert result["contestants"]["teacher"]["exact_match"] == 1.0
    html = Path(result["report_path"]).read_text()
    assert html.count("<script") == 1  # the explorer's, which the page's policy knows
    assert result["run_id"] in html
    assert list(Path(result["student_path"]).glob("*.safetensors"))
    store = Store(folder / "w.duckdb")
    assert len(store.read(Answer)) == 36
    assert [run.state for run in store.read(Run)] == ["completed"]


def test_the_same_plan_again_asks_nothing_and_trains_nothing(world):
    _, plan, log, flow, first = world
    before = asked(log)
    again = flow(str(plan), [])
    assert again["calls_made"] == 0
    assert again["calls_reused"] == 36
    assert asked(log) == before
    assert again["student_id"] == first["student_id"]
    assert again["contestants"] == first["contestants"]


def test_a_finished_plan_again_imports_neither_torch_nor_prefect(world):
    folder, plan, _, _, first = world
    code = (
        f"import sys; sys.argv = ['distill', 'run', {str(plan)!r}, '--json']\n"
        "from flows.cli import main\n"
        "main()\n"
        "heavy = {'torch', 'transformers', 'prefect', 'datasets', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["calls_made"] == 0
    assert again["contestants"] == first["contestants"]
    assert Path(again["report_path"]).is_file()
    assert "is trained already" in done.stderr


def test_changing_only_train_asks_the_teacher_nothing(world):
    _, plan, log, flow, first = world
    before = asked(log)
    other = flow(str(plan), ["train.seed=7"])
    assert asked(log) == before
    assert other["student_id"] != first["student_id"]
    assert other["contestants"]["base"] == first["contestants"]["base"]


def test_the_report_agrees_with_the_warehouse(world):
    folder, _, _, _, result = world
    report = json.loads(Path(result["report_path"]).with_suffix(".json").read_text())
    sql = (
        "SELECT contestant, avg(value) AS mean FROM grades WHERE metric = 'exact_match' "
        "AND contestant <> 'student' GROUP BY contestant"
    )
    means = {
        row["contestant"]: row["mean"] for row in Store(folder / "w.duckdb").query(sql).to_dicts()
    }
    for name, mean in means.items():
        assert result["contestants"][name]["exact_match"] == pytest.approx(mean)
    assert report["run_id"] == result["run_id"]


def test_a_held_out_item_among_the_prompts_is_never_kept(world, tmp_path):
    folder, plan, _, _, _ = world
    from flows.stages.generate import generate

    leaky = write_rows(folder / "leaky.jsonl", rows(0, 4) + rows(1000, 3))
    overrides = [f'datagen.recipe.0.prompts="{leaky.name}"']
    generate(str(plan), overrides)
    from flows.stages.curate import curate

    result = curate(str(plan), overrides)
    choices = Store(folder / "w.duckdb").read(Choice, "selection_id = ?", [result["selection_id"]])
    dropped = [choice for choice in choices if choice.reason.startswith("held_out")]
    assert len(dropped) == 3
    assert not any(choice.kept for choice in dropped)


def test_a_gate_that_keeps_nothing_is_one_line_and_the_replies_stay(world):
    folder, plan, _, flow, _ = world
    with pytest.raises(NothingToDoError, match="keeps none of 24"):
        flow(str(plan), ["quality.scorers=['style']", "quality.gate={style_min=100}"])
    assert len(Store(folder / "w.duckdb").read(Call)) >= 36


def test_what_scoring_asked_is_told_under_curate_and_is_part_of_what_making_it_cost(world):
    from flows.stages import evaluate

    _, plan, _, flow, _ = world
    made = []
    kept = evaluate.evaluate_answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            evaluate, "evaluate_answers", lambda *given: made.append(given[2]) or kept(*given)
        )
        scored = flow(str(plan), ['quality.scorers=["grounded", "self_consistency"]'])
    report = json.loads(Path(scored["report_path"]).with_suffix(".json").read_text())
    calls = {stage["stage"]: stage["calls"] for stage in report["stages"]}
    store = Store(plan.parent / "w.duckdb")
    asked = store.read(Call, "run_id = ? AND stage = 'curate'", [scored["run_id"]])
    assert len(asked) > 0
    assert (calls["generate"], calls["curate"]) == (0, len(asked))
    assert made[0].scoring_usd == sum(call.cost_usd for call in asked)


def test_a_student_in_another_context_alone_is_a_student_too(world):
    from flows.stages.evaluate import evaluate

    _, plan, _, _, first = world
    found = evaluate(str(plan), ['evaluate.contestants=["base", "student+fewshot"]'])
    assert set(found["contestants"]) == {"base", "student+fewshot"}
    assert found["calls_made"] == 0
    assert Path(first["student_path"]).is_dir()
