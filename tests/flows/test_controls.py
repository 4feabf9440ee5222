"""Controls in a run: asked of the task alone, stored, never asked twice, told in report and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import distill
from tests.support.plans import rows, scripted, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.records import Answer, RunAnswer

ON = ("--set", "evaluate.controls=true", "--set", "evaluate.usd_per_hour=1.0")
CONTROLS = {"control:copy", "control:majority"}


def with_bare_rows(folder):
    """The held-out file, and three rows without a passage after it."""
    held = rows(1000, 12)
    bare = [{"prompt": f"What is rock {n}?", "reference": "hard"} for n in range(3)]
    write_rows(folder / "held_out.jsonl", held + bare)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    write_plan(folder, scripted(folder / "asked.log"))
    with_bare_rows(folder)
    write_rows(folder / "outside.jsonl", rows(2000, 4))
    off_task = 'evaluate.off_task=[{use = "custom", path = "outside.jsonl", name = "zoo"}]'
    words = (*ON, "--set", off_task, "--json")
    done = distill(folder, "run", "plan.toml", *words)
    assert done.returncode == 0, done.stderr
    store = Store(folder / "w.duckdb")
    answers = len(store.read(Answer))
    again = distill(folder, "run", "plan.toml", *words)
    assert again.returncode == 0, again.stderr
    return folder, words, json.loads(done.stdout), json.loads(again.stdout), answers


def report_of(result):
    return json.loads(Path(result["report_path"]).with_suffix(".json").read_text())


def test_the_task_has_them_and_what_is_off_task_has_not(run):
    _, _, first, _, _ = run
    usual = {"teacher", "base", "student"}
    assert set(first["benchmarks"]["custom"]) == usual | CONTROLS | {"base+fewshot"}
    assert set(first["benchmarks"]["zoo"]) == usual
    assert set(first["controls"]) == {"custom"}
    told = {(r["control"], r["metric"]) for r in first["controls"]["custom"]["results"]}
    names = CONTROLS | {"base+fewshot"}
    assert told == {(name, metric) for name in names for metric in ("exact_match", "contains")}


def test_they_are_stored_and_asked_once(run):
    folder, _, first, again, answers = run
    assert again["benchmarks"] == first["benchmarks"]
    store = Store(folder / "w.duckdb")
    assert len(store.read(Answer)) == answers
    copies = store.read(Answer, "contestant = 'control:copy'")
    assert len(copies) == 15
    assert {(a.cost_usd, a.prompt_tokens, a.latency_s) for a in copies} == {(0.0, 0, 0.0)}
    entries = store.read(RunAnswer, "run_id = ? AND contestant = 'control:copy'", [again["run_id"]])
    assert {entry.answer_id for entry in entries} == {answer.answer_id for answer in copies}
    constant = {a.text for a in store.read(Answer, "contestant = 'control:majority'")}
    assert len(constant) == 1


def test_an_item_without_a_passage_is_abstained_on_and_the_notes_say_why(run):
    _, _, first, _, _ = run
    report = report_of(first)
    copy = next(
        one
        for one in report["evaluation"]["comparisons"][0]["standings"]
        if one["contestant"] == "control:copy"
    )
    assert (copy["graded"], copy["abstained"], copy["failed"]) == (12, 3, 0)
    assert (
        "control:copy gave no answer to 3 of 15 items of custom: no passage to copy from"
        in report["notes"]
    )
    lines = [line for line in report["protocol"] if line.startswith("control:")]
    assert len(lines) == 2 and all("no model" in line and "greedy" not in line for line in lines)


def test_a_student_that_knows_nothing_is_told_that_a_script_does_as_well(run):
    """The tiny base is random, and so is its student: the script of copies is right at times."""
    folder, words, first, _, _ = run
    told = report_of(first)["evaluation"]["comparisons"][0]
    assert "A script without a model does" in told["verdict"]
    assert not any(result["beaten"] for result in told["controls"])
    shown = distill(folder, "evaluate", "plan.toml", *words[:-1])
    assert shown.returncode == 0, shown.stderr
    assert "custom: A script without a model does" in shown.stdout


def test_they_have_no_price(run):
    _, _, first, _, _ = run
    evaluation = report_of(first)["evaluation"]
    assert not CONTROLS & {line["contestant"] for line in evaluation["economics"]}
    assert not CONTROLS & {line["against"] for line in evaluation["break_even"]}
    assert evaluation["break_even"]


def test_one_that_cannot_answer_is_left_out_and_the_notes_say_why(run, tmp_path):
    folder, _, _, _, _ = run
    bare = [{"prompt": f"What is rock {n}?", "reference": "hard"} for n in range(3)]
    write_rows(folder / "bare.jsonl", bare)
    done = distill(
        folder, "evaluate", "plan.toml", *ON,
        "--set", 'evaluate.benchmarks=[{use = "custom", path = "bare.jsonl", name = "rocks"}]',
        "--set", 'evaluate.contexts=[{use = "fewshot", k = 1000}]', "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["contestants"]) == {"teacher", "base", "student", "control:majority"}
    notes = " ".join(report_of(found)["notes"])
    assert "control:copy did not answer rocks: no passage to copy from" in notes
    assert "base+fewshot did not answer rocks: " in notes and "training examples are kept" in notes


def test_check_counts_them_before_anything_is_asked(run):
    folder, words, _, _, _ = run
    done = distill(folder, "check", "plan.toml", *words[:-1])
    assert done.returncode == 0, done.stderr
    assert "evaluate  72 answers of teacher, base, student, base+fewshot\n" in done.stdout
    scripts = "30 answers of control:copy, control:majority, without a model, at no cost"
    assert scripts in done.stdout
