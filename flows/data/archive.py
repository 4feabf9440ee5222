"""Copy the records of closed runs into an archive, and from an archive into a warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.runtime.progress import say
from flows.runtime.run import mark_killed_runs, recover
from warehouse.db.lock import exclusive
from warehouse.db.store import Store
from warehouse.db.write_archive import restore_archive, write_archive
from warehouse.errors import NotFoundError


def archive_warehouse(store: Store, location: str, data_path: Path | None = None) -> dict[str, int]:
    """Append to an archive what it lacks of a warehouse; waits for a run that is going on.

    Replies that a killed process left in the journal are brought into the warehouse before.

    Args:
        store: The warehouse.
        location: A folder, or `ducklake:` and the catalog of a DuckLake.
        data_path: Where a new DuckLake keeps its data files.

    Returns:
        How many rows were new, by table.

    Raises:
        NotFoundError: there is no warehouse.
        WarehouseError: the archive cannot be read or written, or a newer version wrote it.
    """
    if not store.path.exists():
        raise NotFoundError(f"no warehouse {store.path}; give one, or a plan, with --warehouse")
    with exclusive(store.path, say):
        recover(store)
        mark_killed_runs(store)
        return write_archive(store, location, data_path)


def restore_warehouse(store: Store, location: str) -> dict[str, int]:
    """Insert what a warehouse lacks of an archive; waits for a run that is going on.

    Returns:
        How many rows were new, by table.

    Raises:
        WarehouseError: there is no archive, it is damaged, or a newer version wrote it.
    """
    with exclusive(store.path, say):
        return restore_archive(store, location)


def describe_rows(verb: str, rows: Mapping[str, int]) -> str:
    """What was copied, in one line: `archived, by table: calls 12, runs 1`."""
    if not rows:
        return f"nothing new is {verb}: every row is there already"
    numbers = (f"{table} {number:,}" for table, number in rows.items())
    return f"{verb}, by table: {', '.join(numbers)}"
