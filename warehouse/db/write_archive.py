"""Copy a warehouse's rows into an archive, each once, and back.

A folder is written to a hidden folder inside it first; each file is moved to its place when it is
whole, the runs last, so that a kill at any moment leaves whole files and the next archiving writes
what is missing. A DuckLake is written in one transaction. Nothing leaves the warehouse: a reply that
is only in an archive would be paid for again.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from warehouse.db.archive import (
    ARCHIVED,
    LAKE,
    LAKE_VERSION,
    MANIFEST,
    Archive,
    archived_rows,
    damaged_file,
    key_of,
    lake_files,
    literal,
    load_lake,
    missing_rows,
    open_archive,
    require_version,
    unreachable_lake,
)
from warehouse.db.private_files import private_files
from warehouse.db.schema import VERSION, columns
from warehouse.db.store import Store
from warehouse.errors import UsageError, WarehouseError, first_line
from warehouse.records import Record, Run, RunAnswer, now

_PARTS, _LOCK = ".parts", ".lock"
_ANEW = "OVERWRITE_OR_IGNORE"  # DuckDB asks for it where the folder exists
_ORDER: tuple[type[Record], ...] = (*(kind for kind in ARCHIVED if kind is not Run), Run)
_STATE = ("run_id", "state", "finished_at", "summary")
"""The columns of a run that move on; with others than the archived ones it is archived again."""
_BUFFERED_ROWS = 4096
"""Rows that are held in memory for each run before they are written; a row may be a long text."""


def write_archive(store: Store, location: str, data_path: Path | None = None) -> dict[str, int]:
    """Append to an archive what it lacks of a warehouse.

    Args:
        store: The warehouse; the caller holds its run lock, so that no run goes on meanwhile.
        location: A folder, or `ducklake:` and the catalog of a DuckLake.
        data_path: Where a new DuckLake keeps its data files.

    Returns:
        How many rows were new, by table.

    Raises:
        WarehouseError: a newer version wrote the archive, it is damaged, or it cannot be written.
        MissingExtraError: DuckDB's extension for a DuckLake is not installed.
    """
    with private_files(), store._reading() as db:
        if location.startswith(LAKE):
            return _write_lake(db, location, data_path)
        if data_path is not None:
            raise UsageError(
                "--data-path is where a new DuckLake keeps its files; a folder has none"
            )
        return _write_folder(db, Path(location).expanduser().absolute())


def restore_archive(store: Store, location: str) -> dict[str, int]:
    """Insert what a warehouse lacks of an archive; makes the warehouse where there is none.

    Args:
        store: The warehouse; the caller holds its run lock.
        location: A folder, or `ducklake:` and the catalog of a DuckLake.

    Returns:
        How many rows were new, by table.

    Raises:
        WarehouseError: there is no archive, a newer version wrote it, or it is damaged; nothing was
            inserted.
    """
    archive = open_archive(location)
    restored = {}
    with store._writing() as db:
        for kind in _ORDER:
            names = ", ".join(column.name for column in columns(kind))
            rows = missing_rows(db, kind, [archive])
            try:
                done = db.execute(
                    f"INSERT INTO {kind.TABLE} ({names}) SELECT {names} FROM ({rows})"
                ).fetchone()
            except duckdb.Error as error:
                raise damaged_file([archive], error) or error from None
            restored[kind.TABLE] = int(done[0]) if done else 0
    return {table: number for table, number in restored.items() if number}


def _write_folder(db: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, int]:
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        if not (folder / MANIFEST).exists() and folder.exists():
            others = {file.name for file in folder.iterdir()} - {_LOCK, f".{MANIFEST}"}
            if others:
                raise WarehouseError(
                    f"{folder} is no archive and not empty; name a new folder, or an archive"
                )
        folder.mkdir(parents=True, exist_ok=True)
        with lock:
            return _append_to_folder(db, folder)
    except Timeout:
        raise WarehouseError(
            f"another process is writing to {folder}; rerun when it ends"
        ) from None
    except (OSError, duckdb.Error) as error:
        raise WarehouseError(
            f"{folder} cannot be written: {first_line(error)}; free disk space or fix the permissions, "
            "then rerun: what is archived by now stays"
        ) from None


def _append_to_folder(db: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, int]:
    if not (folder / MANIFEST).exists():
        _write_manifest(folder)
    archive = open_archive(str(folder))
    _write_manifest(folder)  # an archive of an older version now has rows of this one
    parts, moment, written = folder / _PARTS, now(), {}
    shutil.rmtree(parts, ignore_errors=True)  # of an archiving that was killed
    try:
        for kind in _ORDER:
            number = _write_parts(
                db, _new_rows(db, kind, archive, moment), kind, parts / kind.TABLE
            )
            if number:
                _publish(parts / kind.TABLE, folder / kind.TABLE, moment)
                written[kind.TABLE] = number
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return written


def _write_parts(db: duckdb.DuckDBPyConnection, rows: str, kind: type[Record], target: Path) -> int:
    """Write rows to a new folder, in a folder of its own for each run where they belong to one."""
    target.mkdir(parents=True)
    has_run = kind is not Run and any(column.name == "run_id" for column in columns(kind))
    db.execute(f"SET partitioned_write_flush_threshold = {_BUFFERED_ROWS}")
    out, options = target / "rows.parquet", "FORMAT parquet, COMPRESSION zstd"
    if has_run:
        out, options = (
            target,
            f"{options}, PARTITION_BY (run_id), WRITE_PARTITION_COLUMNS true, {_ANEW}",
        )
    done = db.execute(f"COPY ({rows}) TO {literal(str(out))} ({options})").fetchone()
    return int(done[0]) if done else 0


def _write_lake(
    db: duckdb.DuckDBPyConnection, location: str, data_path: Path | None
) -> dict[str, int]:
    load_lake(db, location)
    options = ["READ_WRITE", "DATA_INLINING_ROW_LIMIT 0"]  # rows are in files, not in the catalog
    if data_path is not None:
        options.append(f"DATA_PATH {literal(f'{data_path.expanduser().absolute()}/')}")
    moment, written = now(), {}
    try:
        db.execute(f"ATTACH {literal(location)} AS lake ({', '.join(options)})")
        for option, value in (("parquet_compression", "'zstd'"), ("data_inlining_row_limit", "0")):
            db.execute(f"CALL lake.set_option('{option}', {value})")  # for other programs, too
        db.execute("BEGIN")
        db.execute(f"CREATE TABLE IF NOT EXISTS lake.{LAKE_VERSION} (version BIGINT)")
        row = db.execute(f"SELECT max(version) FROM lake.{LAKE_VERSION}").fetchone()
        known = int(row[0]) if row and row[0] is not None else 0
        require_version(location, known)
        if known < VERSION:
            db.execute(f"INSERT INTO lake.{LAKE_VERSION} VALUES ({VERSION})")
        for kind in ARCHIVED:
            _prepare_lake_table(db, kind)
        archive = Archive(
            location, {kind.TABLE: lake_files(db, location, kind) for kind in ARCHIVED}
        )
        for kind in _ORDER:
            done = db.execute(
                f"INSERT INTO lake.{kind.TABLE} BY NAME {_new_rows(db, kind, archive, moment)}"
            ).fetchone()
            written[kind.TABLE] = int(done[0]) if done else 0
        db.execute("COMMIT")
        db.execute("DETACH lake")
    except duckdb.Error as error:
        raise unreachable_lake(location, error) from None
    return {table: number for table, number in written.items() if number}


def _prepare_lake_table(db: duckdb.DuckDBPyConnection, kind: type[Record]) -> None:
    """Make a table of the DuckLake, or give it the columns that it does not have yet."""
    known = {
        name
        for (name,) in db.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'lake' "
            f"AND table_name = '{kind.TABLE}'"
        ).fetchall()
    }
    wanted = [(column.name, column.sql) for column in columns(kind)] + [
        ("archived_at", "TIMESTAMPTZ")
    ]
    if known:
        for name, sql in wanted:
            if name not in known:
                db.execute(f"ALTER TABLE lake.{kind.TABLE} ADD COLUMN {name} {sql}")
        return
    db.execute(
        f"CREATE TABLE lake.{kind.TABLE} ({', '.join(f'{name} {sql}' for name, sql in wanted)})"
    )
    if kind is not Run and any(name == "run_id" for name, _ in wanted):
        db.execute(f"ALTER TABLE lake.{kind.TABLE} SET PARTITIONED BY (run_id)")


def _new_rows(
    db: duckdb.DuckDBPyConnection, kind: type[Record], archive: Archive, moment: datetime
) -> str:
    """SQL for the rows of the warehouse that an archive lacks; of a run that went on since, its
    record and its answers anew."""
    names = ", ".join(column.name for column in columns(kind))
    rows = f"SELECT {names}, {literal(moment.isoformat())}::TIMESTAMPTZ AS archived_at FROM {kind.TABLE}"
    if kind is RunAnswer:
        return f"{rows} SEMI JOIN ({_changed_runs(db, archive)}) USING (run_id)"
    if kind is Run:
        return f"{rows} WHERE run_id IN (SELECT run_id FROM ({_changed_runs(db, archive)}))"
    key = ", ".join(key_of(kind))
    return (
        f"{rows} ANTI JOIN (SELECT {key} FROM ({archived_rows(db, kind, [archive])})) USING ({key})"
    )


def _changed_runs(db: duckdb.DuckDBPyConnection, archive: Archive) -> str:
    """SQL for the ids of runs that the archive lacks as they are now."""
    same = " AND ".join(
        f"t.{name}::VARCHAR IS NOT DISTINCT FROM a.{name}::VARCHAR" for name in _STATE
    )
    return f"SELECT t.run_id FROM {Run.TABLE} t ANTI JOIN ({archived_rows(db, Run, [archive])}) a ON {same}"


def _publish(part: Path, table: Path, moment: datetime) -> None:
    """Move whole files to their places, under names that no other archiving gives."""
    for number, file in enumerate(sorted(part.rglob("*.parquet"))):
        folder = table / file.relative_to(part).parent
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(file, folder / f"{moment:%Y%m%dT%H%M%S.%fZ}-{number}.parquet")


def _write_manifest(folder: Path) -> None:
    """Write the manifest, whole or not at all."""
    part = folder / f".{MANIFEST}"
    part.write_text(json.dumps({"format": "stillhouse archive", "schema": VERSION}) + "\n")
    os.replace(part, folder / MANIFEST)
