"""Studies: more data, and what imitation teaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.plan.plan import load_plan
from distill.report.study_page import read_shares
from flows.stages.estimate import estimate_of
from flows.studies.imitation import Options, plans_of
from tests.support.cli import distill
from tests.support.plans import COLOURS, scripted, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.errors import PlanError
from warehouse.records import Student


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_plan(folder, scripted(folder / "asked.log"))
    broad = [{"prompt": f"Name thing {n} that is {COLOURS[n % 10]}."} for n in range(24)]
    write_rows(folder / "broad.jsonl", broad)
    return folder


def study(folder, *words):
    done = distill(folder, "study", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_scaling_fits_nested_shares_and_the_report_shows_the_curve(world):
    found = study(world, "scaling", "plan.toml", "--shares", "50,100,25")
    assert list(found["rows"]) == ["25 %", "50 %", "100 %"]
    assert list(found["rows"].values()) == sorted(found["rows"].values())
    students = Store(world / "w.duckdb").read(Student)
    assert len(students) == 3
    page = Path(found["report_path"]).read_text()
    assert "<svg" in page and "<script" not in page and "100 %" in page
    for text in (page, Path(found["report_path"]).with_suffix(".md").read_text()):
        assert "Each share was trained with one seed: another seed may move a point" in text
        assert "the report of `distill run` on this plan compares its student" in text.replace(
            r"\`", "`"
        )
    again = study(world, "scaling", "plan.toml", "--shares", "25,50,100")
    assert again["sentences"] == found["sentences"] and again["calls_made"] == 0
    assert len(Store(world / "w.duckdb").read(Student)) == 3
    done = distill(world, "run", "plan.toml", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(Store(world / "w.duckdb").read(Student)) == 3  # the whole selection was fitted
    report = json.loads(Path(result["report_path"]).with_suffix(".json").read_text())
    assert [p["rows"] for p in report["evaluation"]["scaling"][0]["points"]] == list(
        found["rows"].values()
    )


def test_imitation_fits_as_many_broad_tokens_as_the_plan_has(world):
    words = ("imitation", "plan.toml", "--broad", "broad.jsonl")
    found = study(world, *words)
    rows = found["rows"]
    assert rows["no imitation"] == 0 and min(rows["broad imitation"], rows["task imitation"]) >= 4
    (sentence,) = found["sentences"].values()
    assert all(
        f"{kind} imitation against the untuned base" in sentence for kind in ("Broad", "Task")
    )
    assert "hierarchical bootstrap p" in sentence
    page = Path(found["report_path"]).with_suffix(".md").read_text()
    assert "- Training seeds: 0, 1, 2" in page and "| broad imitation, seed 2 |" in page
    assert "Not part of the gate, for either kind: grounded" in page
    assert "same model" not in page
    assert "are not part of a study" in page and "Each share" not in page
    told = json.loads(Path(found["report_path"]).with_suffix(".json").read_text())
    tokens = told["setup"]["tokens"]
    assert abs(tokens["broad imitation"] - tokens["task imitation"]) <= 8
    students = Store(world / "w.duckdb").read(Student)
    trained = [s for s in students if s.audit["supervised_tokens"] in tokens.values()]
    assert {s.seed for s in trained} == {0, 1, 2}
    again = study(world, *words)
    assert again["calls_made"] == 0 and again["sentences"] == found["sentences"]
    assert len(Store(world / "w.duckdb").read(Student)) == len(students)


def test_the_estimate_counts_both_kinds_of_prompts_and_the_teachers_held_out_items(world, tmp_path):
    plan = load_plan(str(world / "plan.toml"), ())
    store = Store(tmp_path / "empty.duckdb")
    task, broad, _ = plans_of(plan, Options("broad.jsonl"))
    alone = estimate_of(plan, store, "generate").prompts
    of_broad = estimate_of(broad, store, "generate").prompts
    items = len(list(plan.evaluate.benchmarks[0].items(plan.folder)))
    found = estimate_of(task, store, "study imitation", [broad])
    assert min(alone, of_broad, items) > 0
    assert found.prompts == found.calls == alone + of_broad + items


def test_a_kind_of_which_too_few_rows_pass_is_told_before_the_other_is_asked(tmp_path):
    """The gate that both share can be one that broad replies do not meet."""
    asked = tmp_path / "asked.log"
    write_plan(tmp_path, f'{scripted(asked)}default = "a violin"\n')
    rows = [{"prompt": f"Name thing {n}.", "passage": f"It is {n}."} for n in range(22)]
    rows += [
        {"prompt": f"Name it, it is {colour}.", "passage": f"This is {colour}."}
        for colour in COLOURS[:2]
    ]
    write_rows(tmp_path / "broad.jsonl", rows)
    done = distill(tmp_path, "study", "imitation", "plan.toml", "--broad", "broad.jsonl")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "distill: broad imitation: the gate keeps 2 of 24 samples (22x grounded below 1"
    )
    assert "name other questions with --broad, or loosen the gate" in last
    assert len(asked.read_text().splitlines()) == 24


def test_a_teacher_that_is_the_base_is_told(world):
    """The base of the plan by its path: nothing can be learned from it that it does not say itself."""
    words = ("--broad", "broad.jsonl", "--set", "quality.gate={}", "--set", "quality.scorers=[]")
    words = (*words, "--set", "datagen.on_length=keep")
    base = str(world / "tiny")
    found = study(world, "imitation", "plan.toml", *words, "--teacher", base)
    for suffix in (".md", ".html"):
        page = Path(found["report_path"]).with_suffix(suffix).read_text()
        assert f"Teacher and base are the same model ({base})" in page
        assert "says little about imitation of a stronger model" in page


@pytest.mark.parametrize("shares", [["100"], ["a,b"], ["0,50"], ["50,150"]])
def test_shares_that_are_none_are_told(shares):
    with pytest.raises(PlanError, match="--shares"):
        read_shares(shares)


def test_shares_are_percents_or_fractions():
    assert read_shares(["25,50", "100%"]) == read_shares(["0.25,0.5,1"]) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("scaling", "plan.toml", "--shares", "10"), "takes at least three"),
        (("imitation", "plan.toml", "--broad", "nothing.jsonl"), "no data file 'nothing.jsonl'"),
        (("imitation", "plan.toml", "--broad", "prompts.jsonl"), "what the plan asks already"),
        (("imitation", "plan.toml", "--broad", "broad.jsonl", "--seeds", "2"), "takes 3 or more"),
        (("imitation", "plan.toml", "--broad", "broad.jsonl", "--examples", "2"), "no references"),
        (
            ("imitation", "plan.toml", "--broad", "broad.jsonl", "--teacher", "no.gguf"),
            "no such file",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(world, words, told):
    done = distill(world, "study", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("distill: ") and told in done.stderr
    assert len(done.stderr.splitlines()) == 1
