"""Append teacher replies to a journal, each before it is counted.

One folder beside the warehouse, one JSON line per reply written by one system call, so a
kill at any moment leaves at most one torn last line, of a reply that was never counted.
A process writes a file, and starts another one when it drains: what is drained is never
written to. Draining inserts by key, so a crash between insert and delete duplicates
nothing. A kill of the process loses no line; a power cut may lose what the kernel had
not yet written.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Self

import orjson
from filelock import FileLock, Timeout

from warehouse.db.store import Store
from warehouse.errors import WarehouseError
from warehouse.records import Call

log = logging.getLogger(__name__)

_FIELDS = [field.name for field in fields(Call)]


class Spool:
    """The journal of one process; a context manager. Append and drain may be in two threads."""

    def __init__(self, warehouse: Path) -> None:
        self.folder = Path(f"{warehouse}.spool")
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = FileLock(self.folder / f"{self._name}.lock", thread_local=False)
        self._number = 0
        self._descriptor: int | None = None
        self._calls: list[Call] = []  # not yet in the warehouse
        self._files: list[Path] = []  # that hold them
        self._appending, self._draining = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._lock.is_locked:
            if not any(self.folder.glob(f"{self._name}.*.jsonl")):
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def append(self, call: Call) -> int:
        """Write one reply. When this returns, a kill of the process cannot lose it.

        Returns:
            How many replies were appended since the last drain.

        Raises:
            WarehouseError: the reply cannot be written (disk full, rights).
        """
        line = _line(call)
        with self._appending:
            try:
                if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:
                    line = self._reopen() + line  # somebody deleted the file
                if self._descriptor is None:
                    self._open()
                assert self._descriptor is not None
                before = os.fstat(self._descriptor).st_size
                written = os.write(self._descriptor, line)
            except OSError as error:
                raise WarehouseError(
                    f"the spool {self.folder} cannot be written: {error.strerror}; free disk space, then rerun"
                ) from None
            if written != len(line):
                os.ftruncate(self._descriptor, before)  # no torn line before the next one
                raise WarehouseError(
                    f"the spool {self.folder} could write only part of a reply; free disk space, then rerun"
                )
            self._calls.append(call)
            return len(self._calls)

    def drain(self, store: Store) -> int:
        """Bring every reply of ours and of processes that are gone into the store.

        Returns:
            How many calls were new.
        """
        with self._draining:
            files, calls = self._rotated()
            try:
                new = store.insert(calls)
            except BaseException:
                with self._appending:  # for the next drain
                    self._calls, self._files = calls + self._calls, files + self._files
                raise
            for file in files:
                file.unlink(missing_ok=True)
            others = [*self.folder.glob("*.jsonl"), *self.folder.glob("*.lock")]
            for owner in sorted({file.name.partition(".")[0] for file in others} - {self._name}):
                new += self._adopt(owner, store)
            return new

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.is_locked:
            self._lock.acquire(timeout=0)
        self._files.append(self._file)
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        self._descriptor = os.open(self._file, flags, 0o600)

    @property
    def _file(self) -> Path:
        return self.folder / f"{self._name}.{self._number:06d}.jsonl"

    def _reopen(self) -> bytes:
        """Leave a deleted file; returns the lines of the replies that were in it."""
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None
        self._lock.release()  # its file may be gone too
        self._number += 1
        return b"".join(map(_line, self._calls))

    def _rotated(self) -> tuple[list[Path], list[Call]]:
        """Close the current file; the next append starts another."""
        with self._appending:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                self._number += 1
            files, calls = self._files, self._calls
            self._files, self._calls = [], []
            return files, calls

    def _adopt(self, owner: str, store: Store) -> int:
        """Drain the files of a process that is gone; one that lives holds its lock."""
        lock = FileLock(self.folder / f"{owner}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return 0
        try:
            new = 0
            for file in sorted(self.folder.glob(f"{owner}.*.jsonl")):
                new += store.insert(_calls(file))
                file.unlink()
            return new
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def _line(call: Call) -> bytes:
    return orjson.dumps({name: getattr(call, name) for name in _FIELDS}) + b"\n"


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
            values = orjson.loads(line)
            values["created_at"] = datetime.fromisoformat(values["created_at"])
            calls.append(Call(**values))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("line %d of %s is not a reply (%s); set aside", number, file.name, error)
            with file.with_suffix(".bad").open("ab") as aside:
                aside.write(line + b"\n")
    return calls
