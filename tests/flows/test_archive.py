"""`distill data archive` and `restore`: what was paid for is found again, also after the warehouse is lost."""

import json

import pytest

from tests.support.cli import distill
from tests.support.fakes import FakeOpenai
from tests.support.plans import rows, write_rows
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.records import Call, Run

PLAN = """
name = "archived"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""


def test_a_lost_warehouse_is_restored_and_nothing_is_paid_twice(tmp_path):
    write_rows(tmp_path / "prompts.jsonl", rows(0, 20))
    with FakeOpenai(lambda messages: "brown") as server:
        (tmp_path / "plan.toml").write_text(PLAN.format(url=server.base_url))
        assert distill(tmp_path, "generate", "plan.toml").returncode == 0
        done = distill(tmp_path, "data", "archive", "a b", "--warehouse", "plan.toml", "--json")
        assert json.loads(done.stdout) == {"prompts": 20, "calls": 20, "samples": 20, "runs": 1}
        before = Store(tmp_path / "w.duckdb").read(Call)
        (tmp_path / "w.duckdb").unlink()
        done = distill(tmp_path, "data", "restore", "a b", "--warehouse", "plan.toml")
        assert done.stdout == "restored, by table: prompts 20, calls 20, samples 20, runs 1\n"
        again = distill(tmp_path, "generate", "plan.toml", "--json")
        assert json.loads(again.stdout)["calls_made"] == 0
        assert sum(server.counts.values()) == 20
    assert Store(tmp_path / "w.duckdb").read(Call) == before
    done = distill(
        tmp_path, "sql", "SELECT count(*) AS n FROM calls", "--archive", "a b", "--warehouse", "plan.toml", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"n": 20}]


def test_what_a_killed_run_left_is_archived_with_it(tmp_path):
    from tests.warehouse.test_store import call

    store = Store(tmp_path / "w.duckdb")
    store.put_run(Run("r", "p", "h", {}, "running", None, {}))
    with Spool(store.path) as spool:
        spool.append(call())
    done = distill(tmp_path, "data", "archive", "backup", "--warehouse", "w.duckdb")
    assert done.stdout == "archived, by table: calls 1, runs 1\n"
    sql = "SELECT r.state, c.call_id FROM runs r JOIN calls c USING (run_id)"
    done = distill(
        tmp_path, "sql", sql, "--archive", "backup", "--warehouse", "none.duckdb", "--json"
    )
    assert json.loads(done.stdout) == [{"state": "killed", "call_id": "c"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["archive", "backup", "--warehouse", "none.duckdb"], "no warehouse"),
        (["restore", "nowhere"], "no archive at"),
        (["archive", ".", "--warehouse", "w.duckdb"], "is no archive and not empty"),
        (["archive", "b", "--data-path", "c", "--warehouse", "w.duckdb"], "--data-path"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, words, message):
    Store(tmp_path / "w.duckdb").put_run(Run("r", "p", "h", {}, "completed", None, {}))
    done = distill(tmp_path, "data", *words)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
    assert not (tmp_path / "stillhouse.duckdb").exists()
