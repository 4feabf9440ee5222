"""Several training seeds: what is trained, what is asked, what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from warehouse.db.store import Store
from warehouse.records import RunAnswer, Student

THREE = "--set", "train.seeds=3"


def json_of(folder, *words):
    done = distill(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A plan that was run with one seed, then with three."""
    folder = tmp_path_factory.mktemp("seeds")
    write_plan(folder, scripted(folder / "asked.log"))
    one, _ = json_of(folder, "run", "plan.toml")
    asked = (folder / "asked.log").read_text()
    three, said = json_of(folder, "run", "plan.toml", *THREE)
    assert (folder / "asked.log").read_text() == asked
    return folder, one, three, said


def test_more_seeds_train_only_those_that_are_not_there(world):
    folder, one, three, said = world
    students = {s.seed: s.student_id for s in Store(folder / "w.duckdb").read(Student)}
    assert sorted(students) == [0, 1, 2]
    assert three["student_id"] == one["student_id"] == students[0]
    assert three["student_path"] == one["student_path"]
    assert f"student {students[0][:8]} is trained already" in said
    assert "training seed 2, 3 of 3" in said


def test_the_first_seed_stays_the_plans_student(world):
    folder, _, three, _ = world
    done = distill(folder, "chat", "plan.toml", *THREE, input="What colour is otter 3?\n")
    assert done.returncode == 0, done.stderr
    again, _ = json_of(folder, "train", "plan.toml", *THREE)
    assert again["student_id"] == three["student_id"] and not again["trained"]
    assert len(again["student_ids"]) == 3


def test_the_report_has_a_row_for_each_seed_and_none_among_the_contestants(world):
    _, one, three, _ = world
    page = Path(three["report_path"])
    (comparison,) = json.loads(page.with_suffix(".json").read_text())["evaluation"]["comparisons"]
    assert [line["seed"] for line in comparison["seeds"]] == [0, 1, 2]
    assert {s["contestant"] for s in comparison["standings"]} == {"teacher", "base", "student"}
    scores = [line["metrics"]["exact_match"]["value"] for line in comparison["seeds"]]
    student = next(s for s in comparison["standings"] if s["contestant"] == "student")
    assert student["metrics"]["exact_match"]["value"] == pytest.approx(sum(scores) / 3)
    pair = next(d for d in comparison["differences"] if d["right"] == "base")
    assert pair["fits"] == [3, 1] and pair["n"] == 12
    assert "3 seeds, hierarchical bootstrap p" in comparison["verdict"]
    assert "the mean over 3 training seeds" in comparison["verdict"]
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "The student of each training seed alone" in text.replace(
            "the student", "The student"
        )
        assert comparison["seeds"][2]["student_id"][:8] in text
        assert "the student of training seed 0 alone" in text
    assert "of training seed 0 alone" not in Path(one["report_path"]).read_text()
    older = Path(one["report_path"]).with_suffix(".json").read_text()
    (comparison,) = json.loads(older)["evaluation"]["comparisons"]
    assert comparison["seeds"] == []
    assert "trained once: another training seed may move its score" in comparison["verdict"]


def test_two_runs_are_compared_with_all_their_seeds(world):
    folder, one, three, _ = world
    store = Store(folder / "w.duckdb")
    names = {entry.contestant for entry in store.read(RunAnswer, "run_id = ?", [three["run_id"]])}
    assert names == {"teacher", "base", "student", "student, seed 1", "student, seed 2"}
    words = ("report", one["run_id"], three["run_id"], "--warehouse", "w.duckdb")
    done = distill(folder, *words)
    assert done.returncode == 0, done.stderr
    (page,) = (folder / "runs" / one["run_id"]).glob("beside-*.md")
    text = page.read_text()
    assert "3 seeds, hierarchical bootstrap p" in text
    assert "The student of A was trained once" in text


def test_a_seed_that_is_not_trained_is_named(world):
    folder, *_ = world
    done = distill(folder, "evaluate", "plan.toml", "--set", "train.seeds=5")
    assert done.returncode == 2
    assert "no student of this plan with seed 3, 4 yet; run `distill train" in done.stderr


def test_a_bake_off_takes_seeds_of_each_tuner(world):
    folder, *_ = world
    words = ("bakeoff", "plan.toml", "--tuners", "lora,ia3", "--seeds", "2")
    result, _ = json_of(folder, *words)
    assert result["seeds"] == 2
    students = Store(folder / "w.duckdb").read(Student)
    assert len(students) == 5
    text = Path(result["report_path"]).with_suffix(".md").read_text()
    assert "seeds 0 to 1 for all" in text
    (verdict,) = result["verdicts"].values()
    assert "trained once" not in verdict


def test_check_tells_how_many_trainings_there_are(world):
    folder, *_ = world
    done = distill(folder, "check", "plan.toml", *THREE)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "3 trainings" in line]
    assert "(seeds 0 to 2) of at most 24 rows, 3 steps each: about " in line
    assert "60 answers of teacher, base, student (3 seeds)" in done.stdout
    other = distill(folder, "check", "plan.toml", "--set", "train.batch_size=4")
    assert "1 training of at most 24 rows, 6 steps; how long is not known" in other.stdout
