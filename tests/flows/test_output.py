"""Check that the tables of the command line fit a narrow terminal."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flows.cli.output import print_ledger, print_result, print_runs
from warehouse.records import Run

ROW = {
    "run_id": "20261128-141516-a-plan-with-a-rather-long-name-a1b2c3d",
    "teacher": "an-organisation/a-model-with-a-long-name@https://inference.example.com:8443/v1",
    "recipe": "in no sample yet",
    "calls": 123_456,
    "prompt_tokens": 98_765_432,
    "completion_tokens": 12_345_678,
    "cost_usd": 1234.5678,
    "calls_without_price": 0,
    "retries": 12,
    "cut_off": 3,
    "latency_p50_s": 1.25,
    "latency_p95_s": 10.5,
    "latency_p99_s": 101.75,
}


@pytest.fixture
def terminal(monkeypatch):
    """Make rich believe that it prints to a terminal of 80 columns."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")


def test_the_ledger_keeps_every_figure_at_80_columns(terminal, capsys):
    unpriced = ROW | {"cost_usd": 2.5, "calls_without_price": 17}
    print_ledger([ROW, unpriced], [])
    *lines, total = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    table = "\n".join(lines)
    for shown in ("USD", "1234.5678", "2.5000", "+17", "123,456", "98,765,432", "unpriced"):
        assert shown in table
    assert "…" not in table
    assert total == "in all: 1237.0678 USD and 17 calls of unknown price"


def test_the_ship_lines_say_first_that_point_estimates_decide(capsys):
    row = {"condition": "student >= base", "met": True, "measured": "a difference of 1.0 points"}
    ship = {"ships": True, "rule": "", "chance_sentence": "In about 56.0 %.", "conditions": [row]}
    print_result({"ship": ship})
    plain = capsys.readouterr().out
    assert plain.splitlines()[0].startswith("met ")
    print_result({"ship": ship | {"rule": "Point estimates decide."}})
    assert capsys.readouterr().out == f"Point estimates decide.\n{plain}"


def test_names_of_the_ledger_are_whole_in_a_pipe(capsys):
    print_ledger([ROW], [])
    shown = capsys.readouterr().out
    assert ROW["run_id"] in shown
    assert ROW["teacher"] in shown


def test_the_runs_fit_80_columns(terminal, capsys):
    run = Run(
        run_id=ROW["run_id"],
        plan_name="a-plan-with-a-rather-long-name",
        plan={"train": {"tuner": {"use": "p_tuning_v2"}}},
        plan_hash="a1b2c3d4",
        state="completed",
        git_sha=None,
        versions={},
        started_at=datetime(2026, 11, 28, 14, 15, tzinfo=UTC),
        summary={
            "verb": "train",
            "counts": {"calls_made": 123_456, "calls_reused": 7, "kept": 98_765},
            "overrides": ["train.tuner.use=p_tuning_v2", "train.epochs=3"],
        },
    )
    print_runs([run])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for shown in ("completed", "123456", "98765", "14:15"):
        assert shown in "\n".join(lines)
