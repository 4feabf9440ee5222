"""Read and write the DuckDB warehouse, the only file that does: open late, close at once.

While one process holds a DuckDB file for writing no other can open it, so nothing here
keeps a connection; who finds the file held waits.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl

from warehouse.db.archive import attach_archives, damaged_file, open_archive
from warehouse.db.frames import UNSTORABLE, frame_of, records_of
from warehouse.db.private_files import private_files
from warehouse.db.schema import MIGRATIONS, VERSION, columns, ddl, views
from warehouse.errors import RecordRefused, WarehouseError
from warehouse.records import (
    Call,
    Choice,
    GateInput,
    ListedSample,
    Record,
    Run,
    RunAnswer,
    SampleList,
)
from warehouse.text.finish_reasons import LENGTH, spellings_of

R = TypeVar("R", bound=Record)

ROOM_BYTES = 200_000_000
"""Least free space at the start of a run: the warehouse, Prefect's book, a small adapter."""
_WAIT_S = 30.0
_CANNOT_WRITE = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
    duckdb.FatalException,
)
_REFUSED = (*UNSTORABLE, duckdb.DataError, duckdb.IntegrityError)
"""What the encoders and DuckDB raise for a value that they cannot hold."""
_UNREADABLE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.FatalException,
    duckdb.InternalException,
)

ROW_GROUP = 16384
"""Rows that DuckDB compresses together. A write compresses the last ones anew, so with eight times as
many, its default, adding to a large table takes gigabytes for a moment."""
_CUT = "lower(c.finish_reason) IN (" + ", ".join(f"'{word}'" for word in spellings_of(LENGTH)) + ")"
_USABLE = (
    "FROM calls c JOIN wanted w ON c.call_id = w.id WHERE CASE "
    f"WHEN {_CUT} THEN c.max_tokens >= w.allowed "
    "ELSE least(c.completion_tokens, c.max_tokens) <= w.allowed END"  # a server may count more
)


class Store:
    """A warehouse file. Cheap to make; every method opens the file and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def home(self) -> Path:
        """The project's folder: relative paths of records start here."""
        return self.path.parent

    def check(self) -> None:
        """See that the file can be used and that there is room, before anything is spent.

        Raises:
            WarehouseError: held by another process, newer than this code, or no room.
        """
        self.read(Run, "false")
        folder = next(here for here in self.path.resolve().parents if here.is_dir())
        free = shutil.disk_usage(folder).free
        if free < ROOM_BYTES:
            raise WarehouseError(
                f"{folder} has {free / 1e6:.0f} MB left; a run wants at least "
                f"{ROOM_BYTES / 1e6:.0f} MB: free disk space, or choose a warehouse on another disk"
            )

    def insert(self, records: Sequence[Record]) -> int:
        """Insert records of any kinds; a row whose key exists is skipped.

        Returns:
            How many rows were new.

        Raises:
            RecordRefused: a value of one of them cannot be stored; none was inserted.
        """
        by_kind: dict[type[Record], list[Record]] = {}
        for record in records:
            by_kind.setdefault(type(record), []).append(record)
        if not by_kind:
            return 0
        new = 0
        with self._writing() as db:
            for kind, several in by_kind.items():
                try:
                    new += _insert(db, kind, _unique(kind, several))
                except _REFUSED as error:
                    raise RecordRefused(f"{kind.TABLE}: {_line(error)}") from error
        return new

    def insert_frame(self, kind: type[Record], rows: pl.DataFrame) -> int:
        """Insert rows of one kind as `warehouse.db.frames.frame_of` makes them, without records.

        Returns:
            How many rows were new.
        """
        if rows.is_empty():
            return 0
        with self._writing() as db:
            return _insert_frame(db, kind, rows.unique(kind.KEY, keep="last", maintain_order=True))

    def enter(
        self, run_id: str, benchmark: str, contestant: str, answer_ids: Sequence[str]
    ) -> None:
        """Record the answers of a contestant in a run, replacing earlier ones: a resumed run may have
        another student or other items."""
        records = [RunAnswer(run_id, benchmark, contestant, answer_id) for answer_id in answer_ids]
        with self._writing() as db:
            db.register(
                "wanted", pl.DataFrame({"id": list(answer_ids)}, {"id": pl.String}).to_arrow()
            )
            db.execute(
                "DELETE FROM run_answers WHERE run_id = ? AND benchmark = ? AND contestant = ? "
                "AND answer_id NOT IN (SELECT id FROM wanted)",
                [run_id, benchmark, contestant],
            )
            db.unregister("wanted")
            _insert(db, RunAnswer, _unique(RunAnswer, records))

    def put_run(self, run: Run) -> None:
        """Insert a run, or replace its record."""
        with self._writing() as db:
            db.execute("DELETE FROM runs WHERE run_id = ?", [run.run_id])
            _insert(db, Run, [run])

    def forget_run(self, run_id: str) -> None:
        """Delete the record of a run that made nothing."""
        with self._writing() as db:
            db.execute("DELETE FROM runs WHERE run_id = ?", [run_id])

    def put_sample_list(self, samples: SampleList, sample_ids: Sequence[str]) -> None:
        """Keep the list of a plan's samples, in their order, in the place of an older one."""
        with self._writing() as db:
            for table in (SampleList.TABLE, ListedSample.TABLE):
                db.execute(f"DELETE FROM {table} WHERE list_id = ?", [samples.list_id])
            _insert(db, SampleList, [samples])
            db.register("listed", pl.DataFrame({"id": sample_ids}, {"id": pl.String}).to_arrow())
            db.execute(
                "INSERT INTO listed_samples (list_id, place, sample_id) "
                "SELECT ?, row_number() OVER () - 1, id FROM listed",
                [samples.list_id],
            )
            db.unregister("listed")

    def put_gate_inputs(self, inputs: Sequence[GateInput]) -> None:
        """Keep what the gate reads in the place of what was kept under the same ids."""
        if not inputs:
            return
        with self._writing() as db:
            for each in inputs:
                db.execute("DELETE FROM gate_inputs WHERE input_id = ?", [each.input_id])
            _insert(db, GateInput, inputs)

    def put_choices(self, selection_id: str, rows: pl.DataFrame) -> None:
        """Store the choices of a selection (the columns of `choices`) in the place of older ones."""
        with self._writing() as db:
            db.execute("DELETE FROM choices WHERE selection_id = ?", [selection_id])
            _insert_frame(db, Choice, rows)

    def read(self, kind: type[R], where: str = "", params: Sequence[Any] = ()) -> list[R]:
        """Records of one kind, in the order they were inserted; none if there is no file."""
        if not self.path.exists():
            return []
        query = f"SELECT * FROM {kind.TABLE}" + (f" WHERE {where}" if where else "")
        with self._reading() as db:
            return records_of(kind, db.execute(query, list(params)).pl())

    def by_ids(self, kind: type[R], column: str, ids: Sequence[str]) -> list[R]:
        """Records whose column is one of `ids`, found by a join."""
        if not ids or not self.path.exists():
            return []
        with self._reading() as db:
            db.register("wanted", pl.DataFrame({"id": list(dict.fromkeys(ids))}).to_arrow())
            query = f"SELECT t.* FROM {kind.TABLE} t SEMI JOIN wanted w ON t.{column} = w.id"
            return records_of(kind, db.execute(query).pl())

    def known_ids(self, kind: type[Record], column: str, ids: Sequence[str]) -> set[str]:
        """Those among `ids` that a record has; reads nothing else of it."""
        if not ids or not self.path.exists():
            return set()
        with self._reading() as db:
            db.register("wanted", pl.DataFrame({"id": list(ids)}, {"id": pl.String}).to_arrow())
            query = (
                f"SELECT DISTINCT w.id FROM wanted w SEMI JOIN {kind.TABLE} t ON t.{column} = w.id"
            )
            return set(db.execute(query).pl()["id"])

    def paid(self, wanted: Sequence[tuple[str, int]]) -> dict[str, Call]:
        """The usable call for each wanted (call_id, max_tokens), where there is one.

        A reply that ended by itself serves any limit at least as large as its length; one
        that was cut off serves any limit that is not larger than its own.
        """
        if not wanted or not self.path.exists():
            return {}
        with self._reading() as db:
            db.register("wanted", _wanted(wanted))
            order = f"ORDER BY {_CUT} DESC, c.max_tokens DESC"
            calls = records_of(Call, db.execute(f"SELECT c.* {_USABLE} {order}").pl())
        return {call.call_id: call for call in calls}  # whole replies come last and win

    def paid_ids(self, wanted: Sequence[tuple[str, int]]) -> set[str]:
        """The call ids among `wanted` for which `paid` has a call."""
        if not wanted or not self.path.exists():
            return set()
        with self._reading() as db:
            db.register("wanted", _wanted(wanted))
            rows = db.execute(f"SELECT DISTINCT c.call_id {_USABLE}").pl()
        return set(rows["call_id"])

    def call_ids(self) -> list[str]:
        """The ids of all calls, each once."""
        if not self.path.exists():
            return []
        with self._reading() as db:
            return db.execute("SELECT DISTINCT call_id FROM calls").pl()["call_id"].to_list()

    def teachers(self) -> list[str]:
        """The identities under which calls are kept, the one with most calls first."""
        if not self.path.exists():
            return []
        with self._reading() as db:
            rows = db.execute("SELECT teacher FROM calls GROUP BY 1 ORDER BY count(*) DESC, 1")
            return [str(identity) for (identity,) in rows.fetchall()]

    def spent(self, run_id: str) -> tuple[float, int]:
        """USD and tokens that a run's calls count in its budget.

        A call of unknown price counts its tokens only; one whose usage was measured counts what
        was reserved for it, as its raw reply says.
        """
        return self._spent("run_id = ?", [run_id])

    def spent_since(self, moment: datetime) -> float:
        """USD that the calls of all runs since then count in their budgets, and what was lost by runs
        that ended since then, or began since then and did not end.

        A request is lost where it was sent and no whole reply came; when it was is not recorded.
        """
        usd, _ = self._spent("created_at >= ?", [moment])
        lost = self.select(
            "SELECT coalesce(sum((summary ->> '$.lost.usd')::DOUBLE), 0) FROM runs "
            "WHERE coalesce(finished_at, started_at) >= ?",
            [moment],
        )
        return usd + (0.0 if lost is None else float(lost.item()))

    def _spent(self, where: str, params: Sequence[Any]) -> tuple[float, int]:
        if not self.path.exists():
            return 0.0, 0
        with self._reading() as db:
            row = db.execute(
                "SELECT coalesce(sum(coalesce(cost_usd, 0) + more.usd), 0), "
                "coalesce(sum(prompt_tokens + completion_tokens + more.tokens), 0)::BIGINT "
                "FROM (SELECT *, struct_pack("
                "usd := coalesce((raw ->> '$.stillhouse.unmetered.usd')::DOUBLE, 0), "
                "tokens := coalesce((raw ->> '$.stillhouse.unmetered.tokens')::BIGINT, 0)) AS more "
                f"FROM calls WHERE {where})",
                list(params),
            ).fetchone()
        return (float(row[0]), int(row[1])) if row else (0.0, 0)

    def count(self, kind: type[Record], run_id: str) -> int:
        """How many records of a kind a run has made."""
        if not self.path.exists():
            return 0
        with self._reading() as db:
            query = f"SELECT count(*) FROM {kind.TABLE} WHERE run_id = ?"
            row = db.execute(query, [run_id]).fetchone()
        return int(row[0]) if row else 0

    def select(
        self, sql: str, params: Sequence[Any] = (), **frames: pl.DataFrame
    ) -> pl.DataFrame | None:
        """Run a SELECT of this package; it names `frames` as it does tables. None: no file yet."""
        if not self.path.exists():
            return None
        with self._reading() as db:
            for name, frame in frames.items():
                db.register(name, frame.to_arrow())
            return db.execute(sql, list(params)).pl()

    def query(
        self, sql: str, params: Sequence[Any] = (), archives: Sequence[str] = ()
    ) -> pl.DataFrame:
        """Run one SELECT of a user, read-only and with no access to other files or network.

        Args:
            sql: The SELECT.
            params: Values for its `?`.
            archives: Locations of archives, whose rows are seen beside those of the warehouse; there
                need then be no warehouse.

        Raises:
            WarehouseError: there is no warehouse, or the SQL is faulty or would write.
        """
        if not self.path.exists() and not archives:
            raise WarehouseError(f"no warehouse at {self.path}; `distill run PLAN` makes one")
        opened = [open_archive(location) for location in archives]
        with self._reading() if self.path.exists() else _no_rows() as db:
            if opened:
                attach_archives(db, opened)
            db.execute("SET enable_external_access = false")
            db.execute("SET lock_configuration = true")
            try:
                statements = db.extract_statements(sql)
                is_select = statements and statements[0].type == duckdb.StatementType.SELECT
                if len(statements) != 1 or (opened and not is_select):
                    raise WarehouseError("SQL: write one SELECT, such as: SELECT * FROM runs")
                result = db.execute(sql, list(params))
                return result.pl()
            except duckdb.Error as error:
                if fault := damaged_file(opened, error):
                    raise fault from None
                if isinstance(error, _UNREADABLE):
                    raise
                raise WarehouseError(f"SQL: {_line(error)}") from None
            except pl.exceptions.PolarsError:  # DuckDB has types that no data frame holds
                types = ", ".join(f"{name} {kind}" for name, kind, *_ in result.description or ())
                raise WarehouseError(
                    f"SQL: a column is of a type that cannot be shown ({types}); cast it, such as "
                    "(a - b)::VARCHAR"
                ) from None

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connected(read_only=True) as db:
            self._check_version(db)
            old = _version(db) < VERSION
            if not old:
                yield db
        if old:  # written by an older version: migrated once, by an empty write
            with self._writing():
                pass
            with self._connected(read_only=True) as db:
                yield db

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(
                f"{self.path.parent} cannot be created: {error.strerror}"
            ) from None
        with private_files(), self._connected(read_only=False) as db:
            try:
                db.execute("BEGIN")
                if not _version(db):
                    db.execute(ddl())
                    db.execute("INSERT INTO schema_version VALUES (?)", [VERSION])
                self._check_version(db)
                for number in range(_version(db) + 1, VERSION + 1):
                    db.execute(MIGRATIONS[number])
                    db.execute("UPDATE schema_version SET version = ?", [number])
                    if number == VERSION:
                        db.execute(views())
                    db.execute("COMMIT")  # DuckDB alters no table that this transaction changed
                    db.execute("BEGIN")
                yield db
                db.execute("COMMIT")
            except _CANNOT_WRITE as error:
                raise WarehouseError(
                    f"{self.path} cannot be written: {_line(error)}; "
                    "free disk space or fix the permissions, then rerun; received replies are saved"
                ) from None

    @contextmanager
    def _connected(self, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        deadline = time.monotonic() + _WAIT_S
        pause = 0.01
        while True:
            try:
                db = self._open(read_only)
                break
            except duckdb.Error as error:
                if not _is_held(error):
                    raise self._unreadable(error) from None
                if time.monotonic() > deadline:
                    raise WarehouseError(
                        f"{self.path} is held by another process: {_line(error)}; close it there, "
                        "then rerun; received replies are saved"
                    ) from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)
        try:
            db.execute("SET TimeZone = 'UTC'")
            yield db
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        except RuntimeError as error:
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from None  # DuckDB's word for a signal during a query
        finally:
            db.close()

    def _open(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        if read_only:
            return duckdb.connect(str(self.path), read_only=True)
        db = duckdb.connect()
        try:
            file = str(self.path).replace("'", "''")
            db.execute(f"ATTACH '{file}' AS warehouse (ROW_GROUP_SIZE {ROW_GROUP})")
            db.execute("USE warehouse")
        except BaseException:
            db.close()
            raise
        return db

    def _unreadable(self, error: duckdb.Error) -> WarehouseError:
        return WarehouseError(
            f"{self.path} cannot be read: {_line(error)}; if it is damaged, restore a copy of it (with a "
            "new one, the replies that were in it are requested and paid again)"
        )

    def _check_version(self, db: duckdb.DuckDBPyConnection) -> None:
        version = _version(db)
        if version > VERSION:
            raise WarehouseError(
                f"{self.path} was written by a newer version (schema {version}; this one knows "
                f"{VERSION}); upgrade stillhouse, or name another warehouse"
            )


@contextmanager
def _no_rows() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a warehouse without rows, in memory."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(ddl())
        yield db


def _is_held(error: duckdb.Error) -> bool:
    """Whether another process, or another thread of this one, has the file open.

    DuckDB has one class for all faults of files, so that of a lock is known by its first words.
    """
    held_elsewhere = isinstance(error, duckdb.IOException) and "Could not set lock" in str(error)
    return held_elsewhere or isinstance(error, duckdb.ConnectionException)


def _wanted(wanted: Sequence[tuple[str, int]]) -> Any:
    ids, allowed = [call_id for call_id, _ in wanted], [most for _, most in wanted]
    return pl.DataFrame({"id": ids, "allowed": allowed}).to_arrow()


def _version(db: duckdb.DuckDBPyConnection) -> int:
    tables = db.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'"
    ).fetchone()
    if not tables or not tables[0]:
        return 0
    row = db.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _unique(kind: type[Record], records: Sequence[Record]) -> list[Record]:
    if not kind.KEY:
        return list(records)
    by_key = {tuple(getattr(record, name) for name in kind.KEY): record for record in records}
    return list(by_key.values())


def _insert(db: duckdb.DuckDBPyConnection, kind: type[Record], records: Sequence[Record]) -> int:
    return _insert_frame(db, kind, frame_of(kind, records))


def _insert_frame(db: duckdb.DuckDBPyConnection, kind: type[Record], rows: pl.DataFrame) -> int:
    cols = columns(kind)
    db.register("fresh", rows.to_arrow())
    names = ", ".join(col.name for col in cols)
    query = f"INSERT INTO {kind.TABLE} ({names}) SELECT {names} FROM fresh"
    if kind.KEY:
        same = " AND ".join(f"fresh.{key} = t.{key}" for key in kind.KEY)
        query += f" ANTI JOIN {kind.TABLE} t ON {same}"
        query = query.replace(
            f"SELECT {names}", f"SELECT {', '.join('fresh.' + c.name for c in cols)}"
        )
    done = db.execute(query).fetchone()
    db.unregister("fresh")
    return int(done[0]) if done else 0


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
