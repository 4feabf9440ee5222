"""Append-only journal of teacher replies: a reply is here before it is counted.

One folder beside the warehouse, one file per process, one JSON line per reply written by
one system call, so a kill at any moment leaves at most one torn last line, of a reply
that was never counted. Draining inserts by key, so a crash between insert and delete
duplicates nothing.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from warehouse.errors import WarehouseError
from warehouse.records import Call
from warehouse.store import Store

log = logging.getLogger(__name__)


class Spool:
    """The journal of one process; a context manager."""

    def __init__(self, warehouse: Path) -> None:
        self.folder = Path(f"{warehouse}.spool")
        self._file = self.folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._lock = FileLock(f"{self._file}.lock")
        self._descriptor: int | None = None
        self._pending: list[Call] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._lock.release()

    def append(self, call: Call) -> None:
        """Write one reply. When this returns, a kill of the process can not lose it.

        Raises:
            WarehouseError: the reply can not be written (disk full, rights).
        """
        line = json.dumps(asdict(call), default=_encode, ensure_ascii=False).encode() + b"\n"
        try:
            if self._descriptor is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
                flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
                self._descriptor = os.open(self._file, flags, 0o600)
            before = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise WarehouseError(
                f"the spool {self.folder} can not be written: {error.strerror}; make room"
            ) from None
        if written != len(line):
            os.ftruncate(self._descriptor, before)  # no torn line before the next one
            raise WarehouseError(f"the spool {self.folder} took only part of a reply; make room")
        self._pending.append(call)

    def pending(self) -> list[Call]:
        """What this process appended since the last drain."""
        return list(self._pending)

    def drain(self, store: Store) -> int:
        """Bring every reply of ours and of processes that are gone into the store.

        Returns:
            How many calls were new.
        """
        if not self.folder.is_dir():
            return 0
        new = 0
        for file in sorted(self.folder.glob("*.jsonl")):
            if file == self._file and self._descriptor is not None:
                new += store.insert(_calls(file))
                os.ftruncate(self._descriptor, 0)
                self._pending.clear()
                continue
            lock = FileLock(f"{file}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # its process lives and drains it itself
            try:
                new += store.insert(_calls(file))
                file.unlink()
            finally:
                lock.release()
                Path(lock.lock_file).unlink(missing_ok=True)
        return new


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _calls(file: Path) -> list[Call]:
    calls = []
    content = file.read_bytes()
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        log.warning("dropped a torn last line of %d bytes in %s", len(torn), file.name)
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            values["created_at"] = datetime.fromisoformat(values["created_at"])
            calls.append(Call(**values))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("line %d of %s is not a reply (%s); set aside", number, file.name, error)
            with file.with_suffix(".bad").open("ab") as aside:
                aside.write(line + b"\n")
    return calls
