"""Publish a folder or a file that appears whole or not at all, and replace only what is an export."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warehouse.errors import ExportError


def require_free(out: Path, force: bool, manifest: str) -> None:
    """Refuse a folder that may not be written.

    Args:
        out: The folder.
        force: Whether an export that is there may be replaced.
        manifest: The file that marks a folder as an export of this kind.

    Raises:
        ExportError: it is taken; the message says what to do.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / manifest).is_file():
        raise ExportError(
            f"{out} already exists and is not an export; choose another path with --out"
        )
    if not force:
        raise ExportError(
            f"{out} already exists; replace it with --force, or choose another path with --out"
        )


def new_folder(out: Path) -> Path:
    """A new folder next to `out`; leftovers of killed exports are removed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for torn in out.parent.glob(f".{out.name}.part-*"):
        if not _is_running(int(torn.name.rpartition("-")[2])):
            shutil.rmtree(torn, ignore_errors=True)
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    part.mkdir()
    return part


def publish(part: Path, out: Path, manifest: str) -> None:
    """Move the whole folder to its place, with the permissions of the umask."""
    mask = os.umask(0)
    os.umask(mask)
    for file in part.rglob("*"):
        if file.is_file():  # safetensors come readable by their owner alone
            file.chmod(0o666 & ~mask)
    old = out.with_name(f".{out.name}.part-old-{os.getpid()}")
    if (out / manifest).is_file():
        os.replace(out, old)
    os.replace(part, out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A file next to `out` to write to; it takes its place at the end, if nothing was raised."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    try:
        yield part
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
