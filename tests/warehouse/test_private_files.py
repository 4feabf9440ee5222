"""Files that hold replies are their owner's alone."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from tests.warehouse.test_store import call as a_call
from warehouse.db.private_files import private_files
from warehouse.db.spool import Spool
from warehouse.db.store import Store


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    assert os.umask(before) == 0o022


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_warehouse_and_its_log_are_created_for_their_owner(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    with store._writing() as db:
        db.execute("COMMIT")  # what follows goes to the log first
        db.execute("CREATE TABLE t AS SELECT 1")
        files = {path.name: mode(path) for path in tmp_path.iterdir() if path.is_file()}
        db.execute("BEGIN")
    assert set(files) == {"w.duckdb", "w.duckdb.wal"}
    assert set(files.values()) == {0o600}


def test_a_warehouse_that_its_owner_shares_stays_shared(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    store.insert([a_call("a")])
    store.path.chmod(0o660)
    store.insert([a_call("b")])
    assert mode(store.path) == 0o660


def test_the_spool_is_its_owners(tmp_path):
    with Spool(tmp_path / "w.duckdb") as spool:
        spool.append(a_call("a"))
        [line_file] = spool.folder.glob("*.jsonl")
        assert (mode(spool.folder), mode(line_file)) == (0o700, 0o600)


def test_threads_that_overlap_leave_the_umask_as_it_was(tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with private_files():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    with private_files():
        thread.start()
        inside.wait(10)
    (tmp_path / "within").touch()  # the other thread is still inside
    leave.set()
    thread.join()
    (tmp_path / "after").touch()
    assert (mode(tmp_path / "within"), mode(tmp_path / "after")) == (0o600, 0o644)
