"""The store: inserting twice equals inserting once, paid calls, read-only SQL."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.errors import WarehouseError
from warehouse.records import Call, Failure, Run, RunAnswer, Score


def call(call_id="c", max_tokens=32, reason="stop", tokens=5):
    return Call(
        call_id,
        max_tokens,
        "t",
        {"temperature": 0.0},
        "hi\nß",
        reason,
        1,
        tokens,
        0.1,
        None,
        {"x": [1]},
        "r",
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "deep" / "w.duckdb")


def test_what_is_inserted_is_read_back_the_same(store):
    records = [call(), call("d", reason="length")]
    assert store.insert(records) == 2
    assert store.read(Call) == records


def test_inserting_twice_equals_inserting_once(store):
    assert store.insert([call(), call()]) == 1
    assert store.insert([call(), call("d")]) == 1
    assert len(store.read(Call)) == 2


def test_what_is_entered_stands_in_the_place_of_what_was(store):
    store.enter("r", "quiz", "student", ["a", "b"])
    store.enter("r", "quiz", "base", ["c"])
    store.enter("r", "zoo", "student", ["d"])
    store.enter("r", "quiz", "student", ["b", "e"])
    entered = {(one.benchmark, one.contestant, one.answer_id) for one in store.read(RunAnswer)}
    assert entered == {
        ("quiz", "student", "b"), ("quiz", "student", "e"), ("quiz", "base", "c"), ("zoo", "student", "d"),
    }  # fmt: skip
    store.enter("r", "quiz", "student", [])
    assert {one.contestant for one in store.read(RunAnswer, "benchmark = 'quiz'")} == {"base"}


def test_failures_are_only_appended(store):
    failure = Failure("r", "generate", "c", "boom", False)
    store.insert([failure, failure])
    assert len(store.read(Failure)) == 2


def test_a_score_may_be_null_with_a_reason(store):
    score = Score("s", "x", "grounded", "1", "rule", {}, None, "no passage")
    store.insert([score])
    assert store.read(Score) == [score]


@pytest.mark.parametrize(
    ("kept", "wanted", "usable"),
    [
        (call(tokens=5), 5, True),
        (call(tokens=5), 4, False),
        (call(tokens=5), 900, True),
        (call(tokens=80, max_tokens=64), 64, True),  # a server that counts more than it may give
        (call(tokens=80, max_tokens=64), 63, False),
        (call(reason="length", tokens=32), 32, True),
        (call(reason="length", tokens=32), 16, True),
        (call(reason="length", tokens=32), 33, False),
    ],
)
def test_which_calls_serve_which_limit(store, kept, wanted, usable):
    store.insert([kept])
    assert bool(store.paid([("c", wanted)])) == usable


def test_a_whole_reply_is_preferred_to_a_cut_one_and_both_costs_stay(store):
    store.insert([call(reason="length", tokens=32), call(max_tokens=64, tokens=40)])
    assert store.paid([("c", 64)])["c"].finish_reason == "stop"
    assert len(store.read(Call)) == 2


def test_a_run_moves_on(store):
    run = Run("r", "p", "h", {}, "running", None, {})
    store.put_run(run)
    store.put_run(replace(run, state="completed"))
    assert [one.state for one in store.read(Run)] == ["completed"]


def test_by_ids_finds_only_those(store):
    store.insert([call(str(n)) for n in range(20)])
    assert {one.call_id for one in store.by_ids(Call, "call_id", ["3", "7", "none"])} == {"3", "7"}


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM calls",
        "SELEC 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY calls TO 'x.csv'",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_sql_of_a_user_only_reads_the_warehouse(store, sql):
    store.insert([call()])
    with pytest.raises(WarehouseError) as caught:
        store.query(sql)
    assert "\n" not in str(caught.value)
    assert len(store.read(Call)) == 1


def test_no_warehouse_yet(store):
    assert store.read(Call) == []
    assert store.paid([("c", 1)]) == {}
    with pytest.raises(WarehouseError, match="distill run"):
        store.query("SELECT 1")


def test_what_is_no_warehouse_is_left_alone(tmp_path):
    file = tmp_path / "w.duckdb"
    file.write_bytes(b"a letter to my aunt" * 1000)
    with pytest.raises(WarehouseError):
        Store(file).insert([call()])
    assert file.read_bytes().startswith(b"a letter")


def test_the_views_answer(store):
    from warehouse.db.views import VIEWS

    store.insert([call()])
    for name in VIEWS:
        assert store.query(f"SELECT * FROM {name}") is not None
    assert store.query("SELECT calls, calls_without_price FROM ledger").rows() == [(1, 1)]


def test_a_disk_with_too_little_room_is_told_before_anything_is_spent(store, monkeypatch):
    store.check()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=3_000_000))
    with pytest.raises(WarehouseError, match="3 MB left; a run wants at least 200 MB"):
        store.check()


LIMITED = """
import resource, sys
from pathlib import Path
from tests.warehouse.test_store import call
from warehouse.errors import WarehouseError
from warehouse.db.spool import Spool
from warehouse.db.store import Store
store = Store(Path(sys.argv[1]))
with Spool(store.path) as spool:
    spool.append(call("kept"))
    size = store.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # no file grows any more
    many = [call(f"{n}", tokens=n) for n in range(20_000)]
    try:
        store.insert(many)
    except WarehouseError as error:
        print("store:", error)
    try:
        for one in many:
            spool.append(one)
    except WarehouseError as error:
        print("spool:", error)
"""


def test_files_that_can_not_grow_are_one_line_each_and_nothing_is_lost(store):
    store.insert([call("before")])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.path)], capture_output=True, text=True,
        cwd=Path(__file__).parents[2], timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("store:") and "free disk space" in first
    assert second.startswith("spool:") and "free disk space" in second
    assert [kept.call_id for kept in store.read(Call)] == ["before"]
    with Spool(store.path) as spool:
        spool.drain(store)
    found = [kept.call_id for kept in store.read(Call)]
    assert found[:3] == ["before", "kept", "0"]
    assert len(found) == len(set(found)) > 10


def test_a_type_that_no_data_frame_holds_is_one_line(store):
    store.insert([call()])
    with pytest.raises(WarehouseError, match=r"cannot be shown \(took INTERVAL\); cast it"):
        store.query("SELECT max(created_at) - min(created_at) AS took FROM calls")
    assert store.query(
        "SELECT (max(created_at) - min(created_at))::VARCHAR AS took FROM calls"
    ).height


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing", "SELECT 1; SELECT 2"])
def test_other_than_one_select_is_one_line(store, sql):
    store.insert([call()])
    with pytest.raises(WarehouseError, match="write one SELECT"):
        store.query(sql)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a database", b"\xff" * 300_000])
def test_what_is_no_warehouse_is_said_at_once(tmp_path, content):
    path = tmp_path / "w.duckdb"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(WarehouseError, match="cannot be read.*restore a copy"):
        Store(path).read(Call)
    assert time.monotonic() - started < 10  # it does not wait, as for a file that is held


def test_a_damaged_block_is_no_lock(store, monkeypatch):
    monkeypatch.setattr("warehouse.db.store._WAIT_S", 3600)
    store.insert([call(str(number)) for number in range(2000)])
    with store.path.open("r+b") as file:
        file.seek(12288)
        file.write(b"\xff" * 4096)
    with pytest.raises(WarehouseError, match="cannot be read.*[Cc]orrupt"):
        store.read(Call)


def test_a_measured_call_counts_what_was_reserved_for_it(store):
    more = {"stillhouse": {"measured": ["prompt_tokens"], "unmetered": {"usd": 0.5, "tokens": 90}}}
    store.insert([call("a"), replace(call("b"), cost_usd=0.25, raw=more)])
    usd, tokens = store.spent("r")
    assert (usd, tokens) == (0.75, 2 * (1 + 5) + 90)
