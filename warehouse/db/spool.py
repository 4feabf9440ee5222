"""Append teacher replies to a journal, each before it is counted.

One folder beside the warehouse, one JSON line per reply written by one system call, so a
kill at any moment leaves at most one torn last line, of a reply that was never counted.
A process writes a file, and starts another one when it drains: what is drained is never
written to. Draining inserts by key, so a crash between insert and delete duplicates
nothing. A kill of the process loses no line; a power cut may lose what the kernel had
not yet written.

A line that the warehouse refuses is set aside in a file beside the journal (`.bad`) and
recorded as a failure, and the others go on. Each run tries such lines again, since a
newer version may read what an older one could not.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Self

import orjson
from filelock import FileLock, Timeout

from warehouse.db.store import Store
from warehouse.errors import RecordRefused, WarehouseError
from warehouse.records import Call, Failure
from warehouse.wording import format_count

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
        self.refused: list[Call] = []
        """Replies that could not be stored and were set aside."""

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
                new = self._insert(store, calls, files[-1] if files else self._file)
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

    def take_back(self, store: Store) -> int:
        """Try again what was set aside, by this version or an older one.

        Returns:
            How many replies are in the store now.
        """
        taken = 0
        for file in sorted(self.folder.glob("*.bad")):
            left = []
            for line in file.read_bytes().splitlines(keepends=True):
                try:
                    store.insert([_call(line)])
                    taken += 1
                except (ValueError, TypeError, KeyError, RecordRefused):
                    left.append(line)
            if left:
                whole = file.with_suffix(".bad.new")
                whole.touch(0o600)
                whole.write_bytes(b"".join(left))
                whole.replace(file)
            else:
                file.unlink()
        if taken:
            log.warning(
                "%s that had been set aside is in the warehouse now", format_count(taken, "reply")
            )
        return taken

    def _insert(self, store: Store, calls: list[Call], file: Path) -> int:
        """Insert replies from a file; those that are refused are set aside, the others stay."""
        try:
            return store.insert(calls)
        except RecordRefused as error:
            if len(calls) > 1:
                half = len(calls) // 2
                return self._insert(store, calls[:half], file) + self._insert(
                    store, calls[half:], file
                )
            [call] = calls
            self.refused.append(call)
            subject = f"{call.call_id}/{call.max_tokens}"
            self._set_aside(store, file, _line(call), str(error), call.run_id, call.stage, subject)
            return 0

    def _set_aside(
        self,
        store: Store,
        file: Path,
        line: bytes,
        why: str,
        run_id: str,
        stage: str | None,
        subject: str,
    ) -> None:
        """Keep a line beside the journal and record why: its reply was paid for."""
        beside = file.with_suffix(".bad")
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as aside:
            aside.write(line)
        reason = " ".join(why.split()).encode("ascii", "backslashreplace").decode()[:300]
        what = f"a reply could not be stored ({reason}); it is kept in {beside}"
        log.warning("%s, and is tried again by the next run", what)
        error = f"RecordRefused: {what}"
        store.insert([Failure(run_id, stage or "generate", subject, error, permanent=True)])

    def _open(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
                new += self._insert(store, self._calls_in(file, store), file)
                file.unlink()
            return new
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _calls_in(self, file: Path, store: Store) -> list[Call]:
        calls = []
        content = file.read_bytes()
        whole, newline, torn = content.rpartition(b"\n")
        if torn:
            log.warning("dropped a torn last line of %d bytes in %s", len(torn), file.name)
        for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
            if not line.strip():
                continue
            try:
                calls.append(_call(line))
            except (ValueError, TypeError, KeyError) as error:
                why = f"line {number} of {file.name} is not a reply: {error}"
                subject = f"{file.stem}:{number}"
                self._set_aside(store, file, line + b"\n", why, "", None, subject)
        return calls


def _line(call: Call) -> bytes:
    """A reply as a line of the journal, whatever is in it."""
    values = {name: getattr(call, name) for name in _FIELDS}
    try:
        return orjson.dumps(values) + b"\n"
    except TypeError:  # half a character, a number beyond 64 bits, or nested too deep
        pass
    try:
        return json.dumps(values, default=datetime.isoformat).encode() + b"\n"
    except (RecursionError, TypeError):  # the text decides; the rest is left out
        return _line(replace(call, raw={}, logprobs=None))


def _call(line: bytes) -> Call:
    """Raises ValueError, TypeError or KeyError where a line is not a reply."""
    try:
        values = orjson.loads(line)
    except ValueError:
        values = json.loads(line)  # knows NaN, numbers beyond 64 bits and half characters
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    return Call(**values)
