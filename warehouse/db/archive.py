"""Read archives of a warehouse: Parquet files in a folder, or the data files of a DuckLake.

Each archived row carries `archived_at`. Archives are only appended to, so a row may be in several
files; a read takes each key once, the newest row first. A warehouse and its archives answer SQL as
one by temporary views that have the names of the tables.

A DuckLake (https://ducklake.select, format 1.0) is asked for its list of files over a connection of its
own. What then runs SQL of a user has neither the catalog nor the extensions, only those files.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

from warehouse.db.schema import VERSION, columns
from warehouse.db.views import VIEWS
from warehouse.errors import MissingExtraError, WarehouseError, first_line
from warehouse.extras import install_advice
from warehouse.records import RECORDS, GateInput, ListedSample, Record, Run, RunAnswer, SampleList

ARCHIVED = tuple(kind for kind in RECORDS if kind not in (SampleList, ListedSample, GateInput))
"""What archives hold. Lists of samples only spare reading, and are true of one warehouse alone."""
MANIFEST = "archive.json"
"""The file that marks a folder as an archive; it has the schema version of the newest rows."""
LAKE = "ducklake:"
"""How the location of a DuckLake begins, as in DuckDB's ATTACH."""
LAKE_VERSION = "stillhouse_archive"
"""The table of a DuckLake that has the schema version of its rows."""

_OF_SQL = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
)
_PLACE = "{f: filename, n: file_row_number}"
_PASSWORD = re.compile(
    r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)|(?<=//)([^/@\s:]+):[^/@\s]+@", re.I
)


@dataclass(frozen=True)
class Archive:
    """An archive and its Parquet files, by table."""

    location: str
    files: Mapping[str, Sequence[str]]


def open_archive(location: str) -> Archive:
    """Find the files of an archive, and see that each can be opened.

    Raises:
        WarehouseError: there is none, a newer version wrote it, or a file is damaged.
        MissingExtraError: DuckDB's extension for a DuckLake is not installed.
    """
    archive = _open_lake(location) if location.startswith(LAKE) else _open_folder(Path(location))
    with duckdb.connect() as db:
        for table in archive.files.values():
            for file in table:
                _require_whole(db, file)
    return archive


def attach_archives(db: duckdb.DuckDBPyConnection, archives: Sequence[Archive]) -> None:
    """Let SQL on an open warehouse see its rows and those of archives, each key once.

    Reading files is then allowed for the archives' own files alone. The caller runs nothing but
    SELECT after this: files that may be read may be written, too.
    """
    catalog = _name(db)
    for kind in ARCHIVED:
        if any(archive.files.get(kind.TABLE) for archive in archives):
            names = ", ".join(column.name for column in columns(kind))
            table = f"{catalog}.main.{kind.TABLE}"
            db.execute(
                f"CREATE TEMP VIEW {kind.TABLE} AS SELECT {names} FROM {table} UNION ALL "
                f"SELECT {names} FROM ({missing_rows(db, kind, archives)})"
            )
    for name, query in VIEWS.items():
        db.execute(f"CREATE TEMP VIEW {name} AS {query}")
    files = [file for archive in archives for table in archive.files.values() for file in table]
    db.execute(f"SET allowed_paths = {_list(files)}")


def missing_rows(
    db: duckdb.DuckDBPyConnection, kind: type[Record], archives: Sequence[Archive]
) -> str:
    """SQL for archived rows of one kind that the warehouse lacks, each key once, the newest first.

    Which answers a run has may be replaced as a whole when it is resumed, so they come from
    the warehouse where it has the run, and else from the newest archiving of the run.
    """
    key, rows = ", ".join(key_of(kind)), archived_rows(db, kind, archives)
    table, owner, only = f"{_name(db)}.main.{kind.TABLE}", key, ""
    if kind is RunAnswer:
        table, owner = f"{_name(db)}.main.{Run.TABLE}", "run_id"
        only = "QUALIFY rank() OVER (PARTITION BY run_id ORDER BY archived_at DESC) = 1"
    names = ", ".join(column.name for column in columns(kind))
    return (  # keys are grouped without the texts of their rows, which are then read as they come
        f"SELECT {names} FROM ({rows}) r SEMI JOIN ("
        f"SELECT arg_max({_PLACE}, archived_at) AS place FROM "
        f"(SELECT * FROM ({rows}) ANTI JOIN {table} USING ({owner}) {only}) GROUP BY {key}"
        ") newest ON r.filename = newest.place.f AND r.file_row_number = newest.place.n"
    )


def archived_rows(
    db: duckdb.DuckDBPyConnection, kind: type[Record], archives: Sequence[Archive]
) -> str:
    """SQL for all rows of one kind in archives, with `archived_at` and the place of each: `filename`
    and `file_row_number`. Columns that an older version did not have are NULL."""
    files = [file for archive in archives for file in archive.files.get(kind.TABLE, ())]
    names = ", ".join(column.name for column in columns(kind))
    none = f"SELECT {names}, NULL::TIMESTAMPTZ AS archived_at FROM {_name(db)}.main.{kind.TABLE}"
    if not files:
        return f"SELECT *, NULL AS filename, NULL AS file_row_number FROM ({none} WHERE false)"
    return (
        f"SELECT {names}, archived_at, filename, file_row_number FROM "
        f"({none} WHERE false UNION ALL BY NAME SELECT * FROM read_parquet("
        f"{_list(dict.fromkeys(files))}, union_by_name = true, hive_partitioning = false, "
        "filename = true, file_row_number = true))"
    )


def key_of(kind: type[Record]) -> tuple[str, ...]:
    """The columns by which two rows are the same: all of them where a record has no key."""
    return kind.KEY or tuple(column.name for column in columns(kind))


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def load_lake(db: duckdb.DuckDBPyConnection, location: str) -> None:
    """Load DuckDB's extensions for a DuckLake, from installed packages; nothing is downloaded.

    Raises:
        MissingExtraError: one is not installed.
    """
    catalog = location.removeprefix(LAKE)
    needed = ["ducklake", *(["postgres_scanner"] if _is_postgres(catalog) else [])]
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        db.execute(f"SET {setting} = false")
    for name in needed:
        package = f"duckdb_extension_{name}"
        spec = find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or ()
        built = [
            file
            for folder in folders
            for file in Path(folder).glob(f"extensions/v{duckdb.__version__}/{name}.*")
        ]
        try:
            db.execute(f"LOAD {literal(str(built[0])) if built else name}")
        except duckdb.Error as error:
            raise MissingExtraError(
                f"a DuckLake needs DuckDB's extension {name} for DuckDB {duckdb.__version__} "
                f"({first_line(error)}); {install_advice(package)}"
            ) from None


def without_password(text: object) -> str:
    """A catalog or an error message with no password in it."""
    return _PASSWORD.sub(lambda hit: f"{hit[1]}***" if hit[1] else f"{hit[3]}:***@", str(text))


def require_version(location: str, version: int) -> None:
    """Refuse an archive of a newer version.

    Raises:
        WarehouseError: it is one.
    """
    if version > VERSION:
        raise WarehouseError(
            f"{without_password(location)} was written by a newer version (schema {version}; this one "
            f"knows {VERSION}); upgrade stillhouse, or name another archive"
        )


def _open_folder(folder: Path) -> Archive:
    folder = folder.expanduser().absolute()
    try:
        version = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["schema"]
    except FileNotFoundError:
        raise WarehouseError(
            f"no archive at {folder}; `distill data archive {shlex.quote(str(folder))}` writes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WarehouseError(
            f"{folder / MANIFEST} cannot be read ({first_line(error)}); restore it from a copy, or run "
            "`distill data archive` into a new folder"
        ) from None
    require_version(str(folder), int(version))
    files = {
        kind.TABLE: sorted(str(file) for file in (folder / kind.TABLE).rglob("*.parquet"))
        for kind in ARCHIVED
    }
    return Archive(str(folder), files)


def _open_lake(location: str) -> Archive:
    shown = without_password(location)
    with duckdb.connect() as db:
        load_lake(db, location)
        try:
            db.execute(f"ATTACH {literal(location)} AS lake (READ_ONLY)")
            tables = db.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'"
            ).fetchall()
            if (LAKE_VERSION,) not in tables:
                raise WarehouseError(
                    f"{shown} is no archive of a warehouse; `distill data archive {shown}` makes it one"
                )
            row = db.execute(f"SELECT max(version) FROM lake.{LAKE_VERSION}").fetchone()
            require_version(location, int(row[0]) if row and row[0] is not None else 0)
            files = {
                kind.TABLE: lake_files(db, location, kind)
                for kind in ARCHIVED
                if (kind.TABLE,) in tables
            }
        except duckdb.Error as error:
            raise unreachable_lake(location, error) from None
    return Archive(location, files)


def lake_files(db: duckdb.DuckDBPyConnection, location: str, kind: type[Record]) -> list[str]:
    """The data files of a table of the DuckLake that is attached as `lake`.

    Raises:
        WarehouseError: its rows are others than those in the files: another program has deleted some,
            or put some into the catalog.
    """
    listed = db.execute(f"SELECT data_file FROM ducklake_list_files('lake', '{kind.TABLE}')")
    files = [str(file) for (file,) in listed.fetchall()]
    rows = (
        f"SELECT sum(num_rows) FROM parquet_file_metadata({_list(files)})" if files else "SELECT 0"
    )
    same = db.execute(f"SELECT ({rows}) = (SELECT count(*) FROM lake.{kind.TABLE})").fetchone()
    if same != (True,):
        raise WarehouseError(
            f"rows of {kind.TABLE} in {without_password(location)} were changed by another program and "
            "are not in its files yet; CALL ducklake_flush_inlined_data('lake') and "
            f"ducklake_rewrite_data_files('lake', '{kind.TABLE}', delete_threshold => 0) in DuckDB, then "
            "rerun"
        )
    return files


def unreachable_lake(location: str, error: duckdb.Error) -> WarehouseError:
    """The error for a DuckLake that cannot be used, with no password in it."""
    words = without_password(" ".join(str(error).split()))
    return WarehouseError(
        f"{without_password(location)} cannot be used: {words[-300:]}; correct the catalog, or start its "
        "server"
    )


def _require_whole(db: duckdb.DuckDBPyConnection, file: str) -> None:
    try:
        db.execute("SELECT count(*) FROM parquet_file_metadata(?)", [file])
    except duckdb.Error as error:
        raise damaged(file, error) from None


def damaged(file: str, error: Exception) -> WarehouseError:
    """The error for a Parquet file that cannot be read."""
    return WarehouseError(
        f"{file} cannot be read: {first_line(error)}; restore it from a copy, or delete it and run "
        "`distill data archive` again: what the warehouse still has is written anew"
    )


def damaged_file(archives: Sequence[Archive], error: duckdb.Error) -> WarehouseError | None:
    """The error for a file of the archives that DuckDB failed on; None where all can be read.

    DuckDB does not always name the file. All are then read, but not for an error of the SQL itself.
    """
    files = [file for archive in archives for table in archive.files.values() for file in table]
    for file in files:
        if file in str(error):
            return damaged(file, error)
    if isinstance(error, _OF_SQL):
        return None
    with duckdb.connect() as db:
        for file in files:
            try:
                db.execute("SELECT count(hash(t)) FROM read_parquet(?) t", [file]).fetchall()
            except duckdb.Error as fault:
                return damaged(file, fault)
    return None


def _is_postgres(catalog: str) -> bool:
    return catalog.startswith(("postgres:", "postgresql:"))


def _name(db: duckdb.DuckDBPyConnection) -> str:
    """The catalog of the warehouse, quoted: a file's name may be anything."""
    row: Any = db.execute("SELECT current_database()").fetchone()
    return '"' + str(row[0]).replace('"', '""') + '"'


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(literal, texts)) + "]"
