"""Two reports side by side: what differs is named, nothing is claimed without a pair."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill.evaluation.compare import compare
from distill.evaluation.comparison import Difference
from distill.evaluation.findings import Evaluation
from distill.evaluation.statistics import Interval
from distill.report.diff import (
    STUDENT_A,
    STUDENT_B,
    compare_runs,
    have_same_student,
    render_two_html,
    render_two_markdown,
)
from distill.report.report import to_json
from flows.cli.output import print_two_runs
from tests.distill.test_compare import items, series
from tests.support.reports import HOSTILE, example_report, parsed, rich_report


def as_read(report):
    return json.loads(json.dumps(to_json(report)))


@pytest.fixture(scope="module")
def runs():
    ours = as_read(example_report())
    plan = {**ours["plan"], "train": {"seed": 1, "tuner": {"use": "lora", "rank": 8}}}
    theirs = as_read(
        rich_report(run_id="run-2", plan=plan, plan_hash="ff", ids={"student": "stu-2"})
    )
    return ours, theirs


def compared(low, high, n=60, p=0.001, **changes):
    metrics = {"exact_match": Interval((low + high) / 2, low, high)}
    pair = Difference(STUDENT_B, STUDENT_A, n, metrics, 20, 4, 36, p)
    return replace(compare("sciq", [], items(n)), differences=[replace(pair, **changes)])


def test_plan_keys_that_differ_are_named(runs):
    changes = {change.key: (change.a, change.b) for change in compare_runs(*runs).plan}
    assert changes == {
        "train.seed": ("0", "1"),
        "train.tuner.use": ("not set", '"lora"'),
        "train.tuner.rank": ("not set", "8"),
    }
    assert compare_runs(runs[0], runs[0]).plan == []
    assert "Both runs use the same plan." in compare_runs(runs[0], runs[0]).sentences


def test_lists_of_tables_are_walked_and_null_is_as_left_out():
    a = {"plan": {"recipe": [{"use": "x", "limit": None}], "on": []}}
    b = {"plan": {"recipe": [{"use": "y"}], "on": ["z"]}}
    keys = {change.key: (change.a, change.b) for change in compare_runs(a, b).plan}
    assert keys == {"recipe[0].use": ('"x"', '"y"'), "on": ("[]", '["z"]')}


def test_scores_stand_side_by_side_for_every_contestant_of_either_run(runs):
    found = compare_runs(*runs)
    assert [board.benchmark for board in found.boards] == ["quiz", "sciq", "nq_open", "truthful_qa"]
    same = compare_runs(runs[1], runs[1]).boards[0]
    assert len(same.lines) == 14
    assert all(line.a == line.b for line in same.lines)
    assert "quiz was run only in A." in found.sentences
    assert (found.a.ships, found.b.ships) == (None, False)


def test_numbers_of_items_that_differ_are_told():
    def report(n):
        comparison = compare("q", series("student", [1.0] * n), items(n))
        return as_read(replace(example_report(), evaluation=Evaluation([comparison])))

    assert "q has 12 items in A and 13 in B." in compare_runs(report(12), report(13)).sentences


def test_one_student_in_both_runs_is_said_once_and_nothing_is_compared():
    ours = as_read(example_report())
    theirs = {**ours, "run_id": "run-2", "plan_hash": "ff", "plan": {**ours["plan"], "shard": 9}}
    found = compare_runs(ours, theirs, [compared(0.1, 0.3)], ["quiz is of another version"])
    assert found.sentences == [
        "Both runs evaluate the same student, stu-1, so there are no two students to compare."
    ]
    assert found.comparisons == []
    fewer = {**theirs, "evaluation": {**theirs["evaluation"], "comparisons": []}}
    told, alone = compare_runs(ours, fewer).sentences
    assert told.endswith(" Scores that differ are of other items, contestants or settings.")
    assert alone == "quiz was run only in A."
    for text in (render_two_html(found), render_two_markdown(found)):
        assert "not tested" not in text and "Paired difference" not in text
        assert "B − A" not in text and text.count("The student beats the base") == 1
        assert "The same in both runs" in text and "shard" in text


def test_the_same_first_seed_is_not_yet_the_same_student():
    one = as_read(example_report())
    three = json.loads(json.dumps(one))
    for comparison in three["evaluation"]["comparisons"]:
        comparison["seeds"] = [{"student_id": f"stu-{n}"} for n in (1, 2, 3)]
    assert not have_same_student(one, three) and have_same_student(three, three)
    assert compare_runs(one, three, [compared(0.1, 0.3)]).comparisons
    (first, *_) = compare_runs(three, three).sentences
    assert first.startswith(
        "Both runs evaluate the same student of 3 training seeds, so there are no"
    )
    assert not have_same_student({}, {})


def test_a_budget_that_differs_is_no_same_plan():
    ours = as_read(example_report())
    theirs = {**ours, "plan": {**ours["plan"], "budget_usd": 2.0}}
    assert "Both runs use the same plan." not in compare_runs(ours, theirs).sentences


def test_the_terminal_lists_the_keys_that_differ(runs, capsys):
    print_two_runs(compare_runs(*runs), Path("page.html"))
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("plan           3 keys differ, A -> B:")
    assert lines[start + 1 :] == [
        "  train.seed: 0 -> 1",
        '  train.tuner.use: not set -> "lora"',
        "  train.tuner.rank: not set -> 8",
        "report         page.html",
    ]
    long = {**runs[0], "plan": {**runs[0]["plan"], "name": "x" * 500, "\x1b[31m": 1}}
    print_two_runs(compare_runs(runs[0], long), Path("page.html"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and f'-> "{"x" * 58}…' in shown
    print_two_runs(compare_runs(runs[0], runs[0]), Path("page.html"))
    assert "keys differ" not in capsys.readouterr().out


def test_only_a_pair_claims_a_difference(runs):
    assert any("not compared item by item" in line for line in compare_runs(*runs).sentences)
    (clear, *_) = compare_runs(*runs, [compared(0.1, 0.3)]).sentences
    assert clear.startswith(
        "sciq: the student of B is better, B minus A 20.0 points exact match (95 %"
    )
    (unclear, *_) = compare_runs(*runs, [compared(-0.1, 0.3, p=0.2)]).sentences
    assert "no clear difference" in unclear
    (after, *_) = compare_runs(*runs, [compared(0.1, 0.3, p_adjusted=0.06, tests=7)]).sentences
    assert "no clear difference" in after and "= 0.060 after Holm" in after
    (few, *_) = compare_runs(*runs, [compared(0.1, 0.3, n=9)]).sentences
    assert "too few to claim anything" in few
    assert (
        "no item was graded" in compare_runs(*runs, [compared(0, 0, metrics={}, n=0)]).sentences[0]
    )
    (worse, *_) = compare_runs(
        *runs, [replace(compared(0.1, 0.3), higher_is_better=False)]
    ).sentences
    assert "the student of B is worse" in worse
    told = compare_runs(*runs, [compared(0.1, 0.3)], ["quiz is of version 1 in A"]).sentences
    assert told[1].startswith("Each student was trained once: two trainings of one plan")
    assert told[2] == "quiz is of version 1 in A"


def test_reports_of_an_older_version_are_read(runs):
    older = dict(runs[1])
    older["comparisons"] = older.pop("evaluation")["comparisons"]
    assert compare_runs(older, runs[1]).boards == compare_runs(runs[1], runs[1]).boards
    assert compare_runs({}, {}).boards == []


def test_pages_are_whole_and_hold_hostile_texts(runs):
    hostile = {**runs[0], "plan": {"name": HOSTILE, HOSTILE: 1}, "plan_name": HOSTILE}
    found = compare_runs(hostile, runs[1], [compared(0.1, 0.3)])
    html, text = render_two_html(found), render_two_markdown(found)
    seen = parsed(html)
    assert not {tag for tag, _ in seen} & {"script", "img", "a"}
    assert html.count("<table") == html.count("<caption>")
    assert "<img" not in text
    width = None
    for line in text.splitlines():
        cells = line.replace(r"\|", "").count("|") if line.startswith("|") else None
        assert width is None or cells in (width, None), line
        width = cells
