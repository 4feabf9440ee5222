"""Archives: every row once, whole files or none, and SQL that reads them and nothing else."""

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.warehouse.test_store import call
from warehouse.db import archive as archives
from warehouse.db.schema import VERSION, columns
from warehouse.db.store import Store
from warehouse.db.write_archive import restore_archive, write_archive
from warehouse.errors import MissingExtraError, UsageError, WarehouseError
from warehouse.records import (
    Answer,
    AuditScore,
    Call,
    Choice,
    Failure,
    Measurement,
    Promotion,
    Prompt,
    Round,
    Run,
    RunAnswer,
    Sample,
    Score,
    SeedRun,
    Student,
)

MOMENT = datetime(2026, 11, 30, 12, 0, 0, 123456, UTC)


def run(run_id="r", state="completed", moment=MOMENT):
    return Run(run_id, "p", "h", {"a": [1, None]}, state, None, {}, {"verb": "run"}, MOMENT, moment)


def one_of_each(run_id="r"):
    """A record of every kind, with texts of several scripts."""
    prompt = Prompt.of(
        recipe="imitation", messages=[{"role": "user", "content": "水獺?"}], question="q"
    )
    sample = Sample.of(
        prompt,
        call_ids=["c"],
        recipe_version="1",
        completion="brown\n\0",
        status="ok",
        facts={"a": 1},
    )
    return [
        run(run_id), prompt, replace(call("c"), run_id=run_id), sample,
        SeedRun("sr", "pearl", "1", prompt.prompt_id, ["c"], run_id),
        Round("ro", "persona", 1, 2, [], run_id),
        Score("s", sample.sample_id, "style", "1", "rule", {}, None, "no text", {"labels": {"x": 0.5}}),
        AuditScore("a", "other", "style", "1", "rule", {}, 0.25, None),
        Choice("sel", sample.sample_id, False, "toxic", ["toxic"], {"of": "x"}),
        Measurement("m", "style", "1", "rule", {}, "d", 3, {"auc": 0.5}, None),
        Student("st", "base", {"use": "lora"}, {}, "sel", {}, 0, "students/st", [{"step": 1.0}], {}, {}, 1.5, run_id),
        Promotion("pr", "p", "st", None, "ship", run_id),
        Answer("an", "quiz", "1", "i", "base", "id", {}, "yes", {"f1": None}, None, "stop", 1, 2, 0.5, None, run_id),
        RunAnswer(run_id, "quiz", "base", "an"),
        Failure(run_id, "generate", "c", "boom", False),
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "水獺 of 'mine' [x]" / "w w.duckdb")
    store.insert(one_of_each())
    return store


@pytest.fixture
def folder(store):
    return str(store.home / "an archive 中文")


def counts(store, places):
    columns = ", ".join(
        f"(SELECT count(*) FROM {kind.TABLE}) AS {kind.TABLE}" for kind in archives.ARCHIVED
    )
    return store.query(f"SELECT {columns}", archives=places).row(0, named=True)


def files_of(folder):
    return sorted(Path(folder).rglob("*.parquet"))


ONE_OF_EACH = {kind.TABLE: 1 for kind in archives.ARCHIVED}


def test_every_kind_is_written_once_and_read_back_the_same(store, folder, tmp_path):
    assert write_archive(store, folder) == ONE_OF_EACH
    files = files_of(folder)
    assert write_archive(store, folder) == {}
    assert files_of(folder) == files and len(files) == len(archives.ARCHIVED)
    assert {file.parent.name for file in files if file.parent.parent.name == "calls"} == {
        "run_id=r"
    }
    restored = Store(tmp_path / "other" / "new.duckdb")
    assert restore_archive(restored, folder) == ONE_OF_EACH
    for kind in archives.ARCHIVED:
        assert restored.read(kind) == store.read(kind)
    assert restore_archive(restored, folder) == {}
    assert restored.paid([("c", 32)]) == store.paid([("c", 32)]) != {}


def test_other_tools_read_the_files(store, folder):
    write_archive(store, folder)
    table = pl.read_parquet(
        f"{folder.replace('[', '[[]')}/calls/**/*.parquet", hive_partitioning=True
    )
    assert table["call_id"].to_list() == ["c"] and table["run_id"].to_list() == ["r"]
    assert {*table.columns} == {*(column.name for column in columns(Call)), "archived_at"}


def test_files_are_private_as_the_warehouse_is(store, folder):
    write_archive(store, folder)
    for path in [Path(folder), *Path(folder).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_sql_sees_the_warehouse_and_its_archives_as_one(store, folder, tmp_path):
    write_archive(store, folder)
    later = [replace(call("d"), run_id="r2"), run("r2"), replace(call("c", 64), run_id="r2")]
    store.insert(later)
    assert counts(store, [folder])["calls"] == 3
    other = Store(tmp_path / "other.duckdb")  # of another machine, with one call in common
    other.insert([replace(call("c"), run_id="r3"), replace(call("e"), run_id="r3"), run("r3")])
    second = str(tmp_path / "second")
    write_archive(other, second)
    assert counts(store, [folder, second])["calls"] == 4
    assert counts(other, [folder])["calls"] == 2
    ledger = store.query(
        "SELECT run_id, sum(calls) FROM ledger GROUP BY 1 ORDER BY 1", archives=[second]
    )
    assert ledger.rows() == [("r", 1), ("r2", 2), ("r3", 1)]  # the common call is the warehouse's
    nothing = Store(tmp_path / "none.duckdb")
    assert counts(nothing, [folder, second, folder])["calls"] == 2
    assert not nothing.path.exists()
    for view in archives.VIEWS:
        assert nothing.query(f"SELECT * FROM {view}", archives=[folder]) is not None


def test_two_warehouses_may_share_an_archive(store, folder, tmp_path):
    write_archive(store, folder)
    other = Store(tmp_path / "other.duckdb")
    other.insert([replace(call("c"), run_id="r3"), replace(call("e"), run_id="r3"), run("r3")])
    assert write_archive(other, folder) == {"calls": 1, "runs": 1}
    assert counts(Store(tmp_path / "none.duckdb"), [folder])["calls"] == 2


def test_a_run_that_went_on_is_archived_as_it_ended(store, folder, tmp_path):
    store.put_run(run(state="stopped"))
    store.enter("r", "quiz", "student", ["old", "both"])
    store.insert([replace(call("c2"), run_id="r")])
    write_archive(store, folder)
    store.put_run(run(state="completed", moment=MOMENT + timedelta(hours=1)))
    store.enter("r", "quiz", "student", ["both", "new"])
    store.insert([replace(call("c3"), run_id="r")])
    assert write_archive(store, folder) == {"calls": 1, "runs": 1, "run_answers": 3}
    wanted = {("base", "an"), ("student", "both"), ("student", "new")}
    sql = "SELECT contestant, answer_id FROM run_answers"
    nothing = Store(tmp_path / "none.duckdb")
    for reader in (store, nothing):
        assert {*reader.query(sql, archives=[folder]).rows()} == wanted
        assert reader.query("SELECT state FROM runs", archives=[folder]).rows() == [("completed",)]
        assert counts(reader, [folder])["calls"] == 3
    restore_archive(nothing, folder)
    assert {(each.contestant, each.answer_id) for each in nothing.read(RunAnswer)} == wanted
    assert nothing.read(Run) == store.read(Run)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY calls TO '{file}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "PREPARE p AS COPY (SELECT 1) TO '{file}'",
        "SELECT 1; COPY (SELECT 1) TO '{file}'",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{file}''')",
        "ATTACH '{folder}/x.duckdb'",
        "EXPORT DATABASE '{folder}'",
        "SELECT * FROM read_text('{folder}/archive.json')",
        "SELECT * FROM '{folder}/calls/run_id=r/../../archive.json'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 'x')",
        "INSTALL httpfs",
        "LOAD ducklake",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "RESET allowed_paths",
        "CREATE TABLE x AS SELECT 1",
        "DELETE FROM calls",
    ],
)  # fmt: skip
def test_sql_over_an_archive_reads_its_files_and_nothing_else(store, folder, sql):
    write_archive(store, folder)
    before = {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
    file = str(files_of(folder)[0])
    quoted = {"file": file.replace("'", "''"), "folder": folder.replace("'", "''")}
    with pytest.raises(WarehouseError) as caught:
        store.query(sql.format(**quoted), archives=[folder])
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()} == before
    assert counts(store, [folder]) == ONE_OF_EACH


@pytest.mark.parametrize("harm", ["cut", "empty", "overwritten", "text"])
def test_a_damaged_file_is_one_line_and_nothing_is_restored(store, folder, tmp_path, harm):
    store.insert([replace(call(f"{n}"), run_id="r", text=f"{n} " * 200) for n in range(500)])
    write_archive(store, folder)
    file = next((Path(folder) / "calls").rglob("*.parquet"))
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "cut": content[:middle],
            "empty": b"",
            "overwritten": content[:4] + bytes(middle) + content[4 + middle :],
            "text": b"a letter to my aunt" * 100,
        }[harm]
    )
    new = Store(tmp_path / "new.duckdb")
    for read in (
        lambda: store.query("SELECT sum(length(text)) FROM calls", archives=[folder]),
        lambda: new.query("SELECT max(text), max(call_id) FROM calls", archives=[folder]),
        lambda: restore_archive(new, folder),
    ):
        with pytest.raises(WarehouseError) as caught:
            read()
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
        assert "restore it from a copy" in str(caught.value)
    assert new.read(Call) == [] and new.read(Prompt) == []
    file.unlink()  # as the message says
    assert write_archive(store, folder) == {"calls": 501}
    assert restore_archive(new, folder)["calls"] == 501


def test_an_archive_of_a_newer_version_is_left_alone(store, folder):
    write_archive(store, folder)
    manifest = Path(folder) / archives.MANIFEST
    manifest.write_text(json.dumps({"schema": VERSION + 1}))
    for use in (
        lambda: store.query("SELECT 1", archives=[folder]),
        lambda: write_archive(store, folder),
        lambda: restore_archive(store, folder),
    ):
        with pytest.raises(
            WarehouseError, match=rf"schema {VERSION + 1}; this one knows {VERSION}"
        ):
            use()
    assert json.loads(manifest.read_text()) == {"schema": VERSION + 1}
    manifest.write_text("{")
    with pytest.raises(WarehouseError, match=r"archive\.json cannot be read"):
        store.query("SELECT 1", archives=[folder])


def test_a_column_that_came_later_is_null_in_older_files(store, folder, tmp_path):
    write_archive(store, folder)
    file = next((Path(folder) / "calls").rglob("*.parquet"))
    pl.read_parquet(file.open("rb")).drop("messages", "stage").write_parquet(file.open("wb"))
    manifest = Path(folder) / archives.MANIFEST
    manifest.write_text(json.dumps({"schema": 7}))
    new = Store(tmp_path / "new.duckdb")
    restore_archive(new, folder)
    assert [each.messages for each in new.read(Call)] == [None]
    assert write_archive(store, folder) == {}
    assert json.loads(manifest.read_text())["schema"] == VERSION


OF_SCHEMA_8 = {
    "runs": "run_id plan_name plan_hash plan state git_sha versions summary started_at finished_at",
    "calls": "call_id max_tokens teacher sampling text finish_reason prompt_tokens completion_tokens "
    "latency_s cost_usd raw run_id created_at tries reasoning logprobs stage messages",
    "samples": "sample_id prompt_id call_ids recipe recipe_version messages completion question "
    "reference passage status status_reason facts",
    "answers": "answer_id benchmark benchmark_version item_id contestant contestant_id settings text "
    "grades abstained finish_reason prompt_tokens completion_tokens latency_s cost_usd run_id details",
}


def test_the_columns_of_the_first_archives_are_still_columns():
    """A migration that renames one must also rename it in `archived_rows`: files are not migrated."""
    for kind in archives.ARCHIVED:
        names = {column.name for column in columns(kind)}
        assert {*OF_SCHEMA_8.get(kind.TABLE, "").split()} <= names


def test_a_folder_of_something_else_is_left_alone(store, tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("dear aunt")
    with pytest.raises(WarehouseError, match="is no archive and not empty"):
        write_archive(store, str(tmp_path / "papers"))
    assert os.listdir(tmp_path / "papers") == ["letter.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match="cannot be written"):
        write_archive(store, str(tmp_path / "file" / "archive"))
    with pytest.raises(WarehouseError, match=r"no archive at .*nowhere"):
        store.query("SELECT 1", archives=[str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="--data-path"):
        write_archive(store, str(tmp_path / "new"), tmp_path)


ARCHIVE = """
import sys
from pathlib import Path
from warehouse.db.store import Store
from warehouse.db.write_archive import write_archive
print("ready", flush=True)
print(write_archive(Store(Path(sys.argv[1])), sys.argv[2]), flush=True)
"""


def test_killed_at_any_moment_then_archived(tmp_path):
    store, folder = Store(tmp_path / "w.duckdb"), str(tmp_path / "archive")
    chance = random.Random(0)
    for number in range(8):
        rows = [
            replace(call(f"{number}-{n}"), run_id=f"r{number}", text=f"{chance.random()} " * 40)
            for n in range(2500)
        ]
        store.insert([*rows, run(f"r{number}")])
    command = [sys.executable, "-c", ARCHIVE, str(store.path), folder]
    for part in (0.1, 0.5, 0.9):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            process.stdout.readline()
            deadline, goal = time.monotonic() + 60, part * 1_000_000
            while process.poll() is None and time.monotonic() < deadline:
                if bytes_in(folder) > goal:
                    break
            process.send_signal(signal.SIGKILL)
        for file in files_of(folder):
            if ".parts" not in file.parts:
                assert pl.read_parquet(file).height > 0  # whole, since it is in its place
    written = write_archive(store, folder)
    assert counts(Store(tmp_path / "none.duckdb"), [folder]) | {} == counts(store, [])
    raw = duckdb.sql(f"SELECT count(*) FROM read_parquet('{folder}/calls/*/*.parquet')").fetchone()
    assert raw == (20_000,)  # no row is in two files
    assert write_archive(store, folder) == {} and not (Path(folder) / ".parts").exists(), written


def bytes_in(folder):
    """The size of the files in a folder that another process is writing to."""
    size = 0
    for place, _, names in os.walk(folder):  # unlike rglob it bears a folder that goes away
        for name in names:
            with suppress(FileNotFoundError):  # moved to its place meanwhile
                size += os.stat(os.path.join(place, name)).st_size
    return size


@pytest.fixture(scope="module")
def postgres():
    """A private PostgreSQL server on a free port of this machine: its connection string."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    programs = found[-1].parent
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses root
    home = Path(tempfile.mkdtemp(prefix="stillhouse-pg-", dir="/tmp"))
    if user:
        shutil.chown(home, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call_program(name, *args):
        subprocess.run(
            [programs / name, "-D", home / "data", *args], check=True, cwd=home, timeout=120,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **user,
        )  # fmt: skip

    call_program("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    call_program("pg_ctl", "-o", options, "-l", home / "log", "-w", "start")
    try:
        yield f"dbname=postgres host=127.0.0.1 port={port} user=tester password=s3cret"
    finally:
        call_program("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(home)


@pytest.fixture(params=["file", "postgres"])
def lake(request, tmp_path):
    if request.param == "file":
        return f"ducklake:{tmp_path / 'my catalog.ducklake'}"
    return f"ducklake:postgres:{request.getfixturevalue('postgres')}"


def test_a_ducklake_holds_the_same_as_a_folder(store, folder, lake, tmp_path):
    data = tmp_path / "the data"
    assert write_archive(store, lake, data) == ONE_OF_EACH
    assert write_archive(store, lake) == {}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files_of(data))
    assert files_of(data)
    store.put_run(run(state="completed", moment=MOMENT + timedelta(hours=1)))
    store.insert([replace(call("c3"), run_id="r"), replace(call("c4"), run_id="r")])
    assert write_archive(store, lake) == {"calls": 2, "runs": 1, "run_answers": 1}
    write_archive(store, folder)
    new = Store(tmp_path / "new.duckdb")
    assert counts(new, [lake]) == counts(new, [lake, folder]) == counts(store, [])
    for sql in ("SELECT * FROM read_text('/etc/passwd')", "COPY calls TO 'x.parquet'", "LOAD ducklake",
                "SELECT * FROM postgres_query('lake', 'SELECT 1')"):  # fmt: skip
        with pytest.raises(WarehouseError):
            store.query(sql, archives=[lake])
    restore_archive(new, lake)
    for kind in archives.ARCHIVED:
        assert sorted(map(repr, new.read(kind))) == sorted(map(repr, store.read(kind)))
    as_another_program(lake, "DELETE FROM lake.calls WHERE call_id = 'c3'")
    with pytest.raises(WarehouseError, match="ducklake_rewrite_data_files"):
        store.query("SELECT 1", archives=[lake])
    as_another_program(
        lake, "CALL ducklake_rewrite_data_files('lake', 'calls', delete_threshold => 0)"
    )
    assert counts(Store(tmp_path / "none.duckdb"), [lake])["calls"] == 2
    assert write_archive(store, lake) == {"calls": 1}
    as_another_program(lake, "UPDATE lake.stillhouse_archive SET version = 99")
    for use in (write_archive, lambda store, place: store.query("SELECT 1", archives=[place])):
        with pytest.raises(WarehouseError, match="schema 99"):
            use(store, lake)


def as_another_program(lake, sql):
    with duckdb.connect() as db:
        archives.load_lake(db, lake)
        db.execute(f"ATTACH {archives.literal(lake)} AS lake")
        db.execute(sql)
        db.execute("DETACH lake")


def test_a_catalog_that_cannot_be_used_is_one_line_without_its_password(store, tmp_path):
    for catalog in (
        "postgres:host=127.0.0.1 port=1 dbname=x password=s3cret",
        "postgres:host=127.0.0.1 port=1 dbname=x password='s3 \\' cret'",
        "postgres:postgresql://me:s3cret@127.0.0.1:1/x",
        str(tmp_path / "nowhere" / "x.ducklake"),
    ):
        for use in (write_archive, lambda store, place: store.query("SELECT 1", archives=[place])):
            with pytest.raises(WarehouseError) as caught:
                use(store, f"ducklake:{catalog}")
            assert "cret" not in str(caught.value) and "\n" not in str(caught.value)
    plain = tmp_path / "plain.ducklake"
    with duckdb.connect() as db:
        archives.load_lake(db, "ducklake:x")
        db.execute(f"ATTACH {archives.literal(f'ducklake:{plain}')} AS lake")
    with pytest.raises(WarehouseError, match="is no archive of a warehouse"):
        store.query("SELECT 1", archives=[f"ducklake:{plain}"])


def test_without_the_extension_the_error_says_what_to_install(store, monkeypatch):
    monkeypatch.setattr(archives, "find_spec", lambda name: None)
    monkeypatch.setenv("HOME", str(store.home))  # no extension of the user's own either
    with pytest.raises(MissingExtraError, match="extension ducklake .*pip install") as caught:
        write_archive(store, "ducklake:x.ducklake")
    assert "\n" not in str(caught.value)
