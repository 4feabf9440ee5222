"""The spool: durable at once, replayed after a kill, torn lines dropped."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from tests.warehouse.test_store import call
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.errors import WarehouseError
from warehouse.records import Call, Failure


def test_append_drain_append_drain(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as spool:
        assert spool.append(call("a")) == 1
        assert spool.append(call("c")) == 2
        assert spool.drain(store) == 2
        assert spool.append(call("b")) == 1
        assert spool.drain(store) == 1
    assert not list(spool.folder.iterdir())
    assert {one.call_id for one in store.read(Call)} == {"a", "b", "c"}


def test_draining_what_was_inserted_before_duplicates_nothing(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as spool:
        spool.append(call("a"))
        store.insert([call("a")])  # a crash between insert and truncate looks like this
        assert spool.drain(store) == 0
    assert len(store.read(Call)) == 1


WRITER = """
import sys, time
from pathlib import Path
from tests.warehouse.test_store import call
from warehouse.db.spool import Spool
spool = Spool(Path(sys.argv[1]))
for n in range(100_000):
    spool.append(call(str(n)))
    print(n, flush=True)
"""


def test_appending_and_draining_at_once_loses_and_doubles_nothing(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    drained = []
    with Spool(store.path) as spool:

        def drain():
            while len(drained) < 5 or len(store.read(Call)) < 3000:
                drained.append(spool.drain(store))

        thread = threading.Thread(target=drain)
        thread.start()
        for n in range(3000):
            spool.append(call(str(n)))
        thread.join(60)
    assert sum(drained) == 3000
    assert len(store.read(Call)) == 3000


def test_sigkill_loses_nothing_that_was_appended(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.path)], stdout=subprocess.PIPE, text=True
    )
    told = [int(process.stdout.readline()) for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    process.stdout.close()
    with Spool(store.path) as spool:
        spool.drain(store)
    kept = [int(one.call_id) for one in store.read(Call)]
    assert len(kept) == len(set(kept))
    assert set(told) <= set(kept)
    assert not list(spool.folder.glob("*.jsonl"))


def test_a_torn_last_line_is_dropped_and_a_bad_one_is_set_aside(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as spool:
        spool.append(call("a"))
        (file,) = spool.folder.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + b"not json\n" + whole.replace(b'"a"', b'"b"') + whole[:40])
    with Spool(store.path) as spool:
        assert spool.drain(store) == 2
    assert {one.call_id for one in store.read(Call)} == {"a", "b"}
    (aside,) = spool.folder.glob("*.bad")
    assert aside.read_bytes() == b"not json\n"


def test_the_spool_of_a_living_process_is_left_alone(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as other:
        other.append(call("a"))
        with Spool(store.path) as spool:
            assert spool.drain(store) == 0
        assert other.drain(store) == 1


def test_a_spool_that_is_deleted_under_a_run_loses_nothing(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as spool:
        spool.append(call("a"))
        shutil.rmtree(spool.folder)
        assert spool.drain(store) == 1  # from memory
        spool.append(call("b"))
        shutil.rmtree(spool.folder)
        spool.append(call("c"))  # "b" is written again with it
    assert {one.call_id for one in store.read(Call)} == {"a"}
    with Spool(store.path) as after_a_kill:
        assert after_a_kill.drain(store) == 2
    assert {one.call_id for one in store.read(Call)} == {"a", "b", "c"}


def test_what_the_warehouse_does_not_take_now_is_taken_by_the_next_drain(tmp_path, monkeypatch):
    store = Store(tmp_path / "w.duckdb")

    def held(calls):
        raise WarehouseError("held by another process")

    with Spool(store.path) as spool:
        spool.append(call("a"))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "insert", lambda store, calls: held(calls))
            with pytest.raises(WarehouseError, match="held"):
                spool.drain(store)
        assert len(list(spool.folder.glob("*.jsonl"))) == 1  # and a kill would lose nothing
        spool.append(call("b"))
        assert spool.drain(store) == 2
        assert not list(spool.folder.glob("*.jsonl"))


DEEP: dict[str, object] = {}
for _ in range(900):
    DEEP = {"a": DEEP}

ODD = {
    "half a character": {"text": "\ud83d"},
    "half a character in a key": {"raw": {"\udc00": 1}},
    "NUL": {"text": "a\0b"},
    "beyond 64 bits": {"prompt_tokens": 2**70},
    "beyond 63 bits": {"prompt_tokens": 2**63},
    "beyond 64 bits inside": {"raw": {"a": 2**70}},
    "no number": {"raw": {"a": float("nan")}, "latency_s": float("inf")},
    "nested deep": {"raw": DEEP},
    "no text": {"text": None},
    "a list for a text": {"text": ["a"]},
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("killed", [False, True])
def test_a_reply_that_cannot_be_stored_is_set_aside_and_the_rest_goes_on(tmp_path, values, killed):
    store = Store(tmp_path / "w.duckdb")
    odd = replace(call("odd"), **values)
    with Spool(store.path) as spool:
        for one in (call("a"), odd, call("b"), call("c")):
            spool.append(one)
        if not killed:
            spool.drain(store)
    with Spool(store.path) as later:
        later.drain(store)
    refused = [*spool.refused, *later.refused]
    stored = {one.call_id for one in store.read(Call)}
    assert stored == {"a", "b", "c"} | (set() if refused else {"odd"})
    assert not list(spool.folder.glob("*.jsonl"))
    failures = store.read(Failure)
    assert [failure.subject for failure in failures] == [f"odd/{odd.max_tokens}"] * len(refused)
    if refused:
        (aside,) = spool.folder.glob("*.bad")
        assert str(aside) in failures[0].error and "\n" not in failures[0].error
        assert aside.stat().st_mode & 0o077 == 0
        assert len(aside.read_bytes().splitlines()) == 1


def test_what_was_set_aside_comes_back_once_it_can_be_read(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with Spool(store.path) as spool:
        spool.append(call("a"))
        (file,) = spool.folder.glob("*.jsonl")
    from_newer = file.read_bytes().replace(b'"call_id"', b'"not_known_yet":1,"call_id"')
    file.write_bytes(from_newer + b"not json\n")
    with Spool(store.path) as spool:
        assert spool.drain(store) == 0
        assert spool.take_back(store) == 0
        (aside,) = spool.folder.glob("*.bad")
        assert aside.read_bytes() == from_newer + b"not json\n"
        aside.write_bytes(aside.read_bytes().replace(b'"not_known_yet":1,', b""))
        assert spool.take_back(store) == 1
        assert aside.read_bytes() == b"not json\n"
    assert [one.call_id for one in store.read(Call)] == ["a"]
