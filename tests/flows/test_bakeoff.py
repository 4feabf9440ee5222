"""The bake-off: several tuners, the same samples, the same items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.studies.bakeoff import contenders
from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from warehouse.db.store import Store
from warehouse.errors import PlanError
from warehouse.records import Student

CONTROLS = ("base+fewshot", "control:copy", "control:majority")
SMALL = '{use = "lora", rank = 2, targets = "q_proj"}'


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bakeoff")
    write_plan(folder, scripted(folder / "asked.log"))
    words = ("bakeoff", "plan.toml", "--tuners", "lora,ia3", "--tuners", SMALL, "--json")
    words = (*words, "--set", "evaluate.controls=true")
    done = distill(folder, *words)
    assert done.returncode == 0, done.stderr
    return folder, words, json.loads(done.stdout), done.stderr


def test_each_tuner_is_fitted_to_the_same_samples_and_answers_the_same_items(baked):
    folder, _, result, _ = baked
    rows = result["rows"]
    assert {row["tuner"] for row in rows} == {
        "lora", "ia3", "lora rank=2 targets=q_proj", "base", *CONTROLS,
    }  # fmt: skip
    assert all(row["n"] == 12 for row in rows)
    students = Store(folder / "w.duckdb").read(Student)
    assert len(students) == 3
    assert len({student.selection_id for student in students}) == 1
    by_name = {row["tuner"]: row for row in rows}
    small, large = by_name["lora rank=2 targets=q_proj"], by_name["lora"]
    assert 0 < small["trainable_parameters"] < large["trainable_parameters"]
    assert all(row["memory"] > 1e8 and row["size"] > 0 for row in rows if "memory" in row)
    assert by_name["lora"]["against_base"] is not None
    assert rows[0]["against_best"] is None
    assert [row["tuner"] for row in rows[3:]] == ["base", *CONTROLS]
    assert all(row["against_best"] and row["against_base"] for row in rows[4:])
    assert "student_id" not in rows[-1]
    (verdict,) = result["verdicts"].values()
    assert " Without training: " in verdict


def test_again_it_trains_nothing_and_asks_nothing(baked):
    folder, words, result, _ = baked
    asked = (folder / "asked.log").read_text()
    again = json.loads(distill(folder, *words).stdout)
    assert (folder / "asked.log").read_text() == asked
    assert again["rows"] == result["rows"]
    assert len(Store(folder / "w.duckdb").read(Student)) == 3


def test_the_pages_hold_the_table_the_plot_and_no_script(baked):
    _, _, result, _ = baked
    page = Path(result["report_path"]).read_text()
    assert "<svg" in page and "<script" not in page
    for label in ("lora", "ia3", "lora rank=2 targets=q_proj", "base", *CONTROLS):
        assert f'<th scope="row">{label}</th>' in page
    text = Path(result["report_path"]).with_suffix(".md").read_text()
    assert "| ia3 |" in text
    assert "\n\n| ia3" not in text


def test_the_plans_own_tuner_keeps_its_options_and_others_have_their_defaults(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"))
    found = contenders(str(plan), ["train.learning_rate=0.5"], ["lora", "ia3"])
    assert (found["lora"].tuner.rank, found["lora"].learning_rate) == (4, 0.5)
    assert found["ia3"].learning_rate is None


@pytest.mark.parametrize(
    ("tuners", "told"),
    [
        (["lora"], "at least two"),
        (["lora,lora"], "twice"),
        (["lora,lroa"], "did you mean 'lora'"),
        (['{use = "lora"', "ia3"], "not a TOML table"),
        (["{rank = 2}", "ia3"], "names no tuner"),
    ],
)
def test_what_can_not_be_compared_is_told_before_anything_runs(tmp_path, tuners, told):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"))
    with pytest.raises(PlanError, match=told):
        contenders(str(plan), [], tuners)
