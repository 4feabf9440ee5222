"""Find the files that patterns name: files, folders and globs, each file once."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.errors import DataError
from warehouse.wording import format_count

_NAMED = 5


@dataclass
class FoundFiles:
    """What the patterns name, in the order of the patterns and of the names."""

    files: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)
    """Files in a folder or of a glob that are of no kind that is read."""
    hidden: set[Path] = field(default_factory=set)
    """Files and folders whose name begins with a dot."""
    unread: set[Path] = field(default_factory=set)
    """Folders that may not be read, and links that lead nowhere."""
    repeated: int = 0
    """Further names of a file, by a link."""


def find_files(
    patterns: Sequence[str], folder: Path, reads: Callable[[str, str], bool], kinds: str
) -> FoundFiles:
    """Find files; links to folders are followed, each folder once.

    Args:
        patterns: Files, folders or globs, from `folder`.
        folder: The plan's folder.
        reads: (name of a file, pattern) -> whether it is of a kind that is read.
        kinds: The kinds that are read, for messages.

    Raises:
        DataError: a pattern names no file that can be read.
    """
    found = FoundFiles()
    seen: dict[str, Path] = {}
    for pattern in patterns:
        path = folder / os.path.expanduser(pattern)
        if path.is_file():
            hits = [path]
        elif path.is_dir():
            hits = list(_walk(path, ["**"], found))
        elif glob.has_magic(pattern):
            hits = list(_walk(*_split(path), found))
        else:
            raise DataError(
                f"no document '{pattern}' in {folder}; give a file, a folder or a glob of {kinds}"
            )
        known = [hit for hit in hits if hit == path or reads(hit.name, pattern)]
        if not known:
            raise DataError(
                f"no document '{pattern}' in {folder}: {_why_none(hits, found)}; put documents there "
                f"or name others: {kinds}"
            )
        found.unknown += [hit for hit in hits if hit not in known and hit not in found.unknown]
        # The file itself goes before links to it, so that a link that is added changes nothing.
        for hit in sorted(known, key=lambda hit: (os.path.realpath(hit) != str(hit), str(hit))):
            real = os.path.realpath(hit)
            if real not in seen:
                seen[real] = hit
                found.files.append(hit)
            elif seen[real] != hit:
                found.repeated += 1
    found.files.sort(key=str)
    found.unknown.sort(key=str)
    return found


def _why_none(hits: Sequence[Path], found: FoundFiles) -> str:
    """Why none of the files of a pattern is read."""
    if not hits:
        hidden = len(found.hidden)
        return "there are no files" + (f" beside {hidden:,} hidden" if hidden else "")
    endings = sorted({hit.suffix.lower() or "without a suffix" for hit in hits})
    more = ", ..." if len(endings) > _NAMED else ""
    shown_endings = f"{', '.join(endings[:_NAMED])}{more}"
    return f"{format_count(len(hits), 'file')}, none of a kind that is read ({shown_endings})"


def shown(path: Path, folder: Path) -> str:
    """The name of a file in messages and ids: from the plan's folder on where it is below."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _split(path: Path) -> tuple[Path, list[str]]:
    """A glob as the folder before its first wildcard, and its parts from there."""
    parts = path.parts
    first = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), list(parts[first:])


def _walk(root: Path, parts: Sequence[str], found: FoundFiles) -> Iterator[Path]:
    """The files below a folder that fit the parts of a glob; `**` is any number of folders.

    Each folder is read once for each part, those behind links last: links in a circle end, and a
    file is found under its own name where it has one.
    """
    todo: list[tuple[Path, tuple[str, ...]]] = [(root, tuple(parts))]
    links: list[tuple[Path, tuple[str, ...]]] = []
    seen: set[tuple[int, int, tuple[str, ...]]] = set()
    while todo or links:
        links.sort(reverse=True)
        folder, parts = todo.pop() if todo else links.pop()
        try:
            stat = folder.stat()
            entries = list(os.scandir(folder))
        except OSError:  # it is gone, a circle of links, or may not be read
            found.unread.add(folder)
            continue
        if (stat.st_dev, stat.st_ino, parts) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino, parts))
        part, rest = parts[0], parts[1:]
        deep = part == "**"
        if deep and len(rest) > 1:
            todo.append((folder, rest))
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") and not part.startswith("."):
                found.hidden.add(path)
            elif _is(entry.is_dir):
                if deep or (rest and fnmatch.fnmatchcase(entry.name, part)):
                    queue = links if entry.is_symlink() else todo
                    queue.append((path, parts if deep else rest))
            elif _is(entry.is_file):
                last = (rest[0] if rest else "*") if deep else part
                if len(rest) <= deep and fnmatch.fnmatchcase(entry.name, last):
                    yield path
            elif entry.is_symlink():
                found.unread.add(path)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a circle of links
        return False
