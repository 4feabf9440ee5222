"""The DDL is rendered from the records; a change of it is seen in the golden file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import duckdb

from warehouse.db.schema import MIGRATIONS, VERSION, ddl
from warehouse.db.store import Store
from warehouse.records import AuditScore, Call, Failure, Measurement, Run, RunAnswer, Score, Student

GOLDEN = Path(__file__).parents[1] / "golden" / "ddl.sql"


def test_the_ddl_is_the_golden_one():
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(ddl())
    assert ddl() == GOLDEN.read_text()


def test_a_warehouse_of_the_first_version_is_brought_up_to_date(tmp_path):
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute((GOLDEN.parent / "ddl_1.sql").read_text())
        db.execute("INSERT INTO schema_version VALUES (1)")
        db.execute(
            "INSERT INTO calls BY NAME SELECT 'old' AS call_id, 64 AS max_tokens, 't' AS teacher, "
            "'{}' AS sampling, 'yes' AS text, 'stop' AS finish_reason, 9 AS prompt_tokens, "
            "2 AS completion_tokens, 0.5 AS latency_s, 0.25 AS cost_usd, '{}' AS raw, "
            "'r' AS run_id, now() AS created_at"
        )
    store = Store(path)
    assert list(store.paid([("old", 64), ("new", 64)])) == ["old"]
    [old] = store.read(Call)
    assert (old.text, old.tries, old.reasoning, old.logprobs) == ("yes", 1, None, None)
    new = replace(old, call_id="new", tries=3, reasoning="hm", logprobs={"tokens": ["a"]})
    assert store.insert([new]) == 1
    assert store.by_ids(Call, "call_id", ["new"]) == [new]
    [row] = store.query("SELECT * FROM ledger").to_dicts()
    assert (row["calls"], row["retries"], row["cost_usd"]) == (2, 2, 0.5)
    with duckdb.connect(str(path), read_only=True) as db:
        assert db.execute("SELECT version FROM schema_version").fetchall() == [(VERSION,)]


def test_every_version_has_its_migration():
    assert sorted(MIGRATIONS) == list(range(2, VERSION + 1))


def test_the_fifth_version_is_brought_up_to_date(tmp_path):
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute((GOLDEN.parent / "ddl_5.sql").read_text())
        db.execute("INSERT INTO schema_version VALUES (5)")
        db.execute("INSERT INTO entries VALUES ('r', 'quiz', 'student', 'a')")
        for run_id, verb in (("r", "fit"), ("s", "judge"), ("a", "fit --audit"), ("t", "run")):
            db.execute(
                "INSERT INTO runs VALUES (?, 'p', 'h', '{}', 'stopped', NULL, '{}', ?, now(), NULL)",
                [run_id, json.dumps({"verb": verb, "seconds": {"fit": 2.5, "curate": 1}})],
            )
        for run_id, folder in (("p", "/old/place"), ("q", "elsewhere")):
            paths = {
                "student_path": f"{folder}/students/1a2b",
                "report_path": f"{folder}/runs/p/report.html",
            }
            db.execute(
                "INSERT INTO runs VALUES (?, 'p', 'h', '{}', 'completed', NULL, '{}', ?, now(), NULL)",
                [run_id, json.dumps({"verb": "run", **paths})],
            )
        db.execute(
            "INSERT INTO students BY NAME SELECT '1a2b' AS student_id, '/old/place/models/tiny' AS base, '{}' AS tuner, "
            "'{}' AS objective, 's' AS selection_id, '{}' AS config, 7 AS seed, "
            "'/old/place/students/1a2b' AS path, '[]' AS losses, '{}' AS audit, '{}' AS versions, "
            "1.0 AS seconds, 'p' AS run_id, now() AS created_at"
        )
        db.execute(
            "INSERT INTO calls BY NAME SELECT 'c' AS call_id, 64 AS max_tokens, 't' AS teacher, "
            "'{}' AS sampling, 'yes' AS text, 'stop' AS finish_reason, 9 AS prompt_tokens, "
            "2 AS completion_tokens, 0.5 AS latency_s, '{}' AS raw, 1 AS tries, "
            "'judge' AS stage, 's' AS run_id, now() AS created_at"
        )
        db.execute("INSERT INTO failures VALUES ('r', 'fit', 'x', 'loss', true, now())")
        db.execute("INSERT INTO failures VALUES ('r', 'judge', 'y', 'too long', true, now())")
        db.execute("INSERT INTO failures VALUES ('r', 'generate', 'z', '503', false, now())")
        db.execute(
            "INSERT INTO measurements VALUES ('m', 'pii', '1', 'rule', '{}', 'd', 2, "
            """'{"good": "low", "auc": 0.5}', NULL, now())"""
        )
        db.execute(
            "INSERT INTO samples VALUES "
            "('mine', 'p', '[]', 'imitation', '1', '[]', '', '', '[]', NULL, 'ok', NULL)"
        )
        for sample in ("mine", "labelled"):
            db.execute(
                "INSERT INTO scores VALUES (?, ?, 'pii', '1', 'rule', '{}', 1.0, NULL, NULL)",
                [f"score of {sample}", sample],
            )
    store = Store(path)
    assert [score.sample_id for score in store.read(Score)] == ["mine"]
    assert [score.sample_id for score in store.read(AuditScore)] == ["labelled"]
    assert [call.stage for call in store.read(Call)] == ["evaluate"]
    assert store.read(RunAnswer) == [RunAnswer("r", "quiz", "student", "a")]
    summaries = {run.run_id: run.summary for run in store.read(Run)}
    for run_id in ("p", "q"):
        assert summaries.pop(run_id) == {
            "verb": "run",
            "student_path": "students/1a2b",
            "report_path": "runs/p/report.html",
        }
    [student] = store.read(Student)
    assert (student.path, student.base) == ("students/1a2b", "models/tiny")
    assert summaries == {
        run_id: {"verb": verb, "seconds": {"train": 2.5, "curate": 1}}
        for run_id, verb in (
            ("r", "train"),
            ("s", "evaluate"),
            ("a", "train --audit"),
            ("t", "run"),
        )
    }
    stages = [failure.stage for failure in store.read(Failure)]
    assert stages == ["train", "evaluate", "generate"]
    [measurement] = store.read(Measurement)
    assert measurement.figures == {"auc": 0.5, "higher_is_better": False}
