"""Record where parts from elsewhere came from, and name the part and line behind an exception.

Whatever was made with a part has an id that hashes the part. For a part of this package its name,
version and options do; the code of one from elsewhere can change without any of them, so its
`Origin` counts too: the SHA-256 of its file, and the version of the package that brought it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warehouse.errors import PartError


@dataclass(frozen=True)
class Origin:
    """Where a part that is not of this package came from."""

    name: str
    """What it is called in bounds, reports and records."""
    sha256: str
    """Of the file that defines it."""
    package: str = ""
    """Distribution and version that brought it; empty for a file."""
    file: Path | None = None
    class_name: str = ""
    """The class that the plan names after a colon."""
    code: bytes = field(default=b"", repr=False)
    """The file as it was run: it may be edited while the run goes on."""
    kind: str = ""
    """Kind of the part, such as `scorer`."""

    @property
    def identity(self) -> str:
        """The code behind the part, for tables that ids hash."""
        return f"{self.package} sha256:{self.sha256}".lstrip()

    @property
    def version(self) -> str:
        """The same, short enough to stand in a version."""
        return ".".join(filter(None, (self.package.replace(" ", "-"), self.sha256[:16])))


_ORIGINS: dict[type, Origin] = {}
_VERSIONS: dict[type, Any] = {}


def origin_of(part: Any) -> Origin | None:
    """Where a part came from; None for one of this package."""
    return _ORIGINS.get(type(part))


def origin_of_class(part_class: type[Any]) -> Origin | None:
    """Where the class of a part came from; None for one of this package."""
    return _ORIGINS.get(part_class)


def copy_into(part: Any, folder: Path) -> str | None:
    """Write the file of a part as it was run into a folder; None for a part of no file.

    Returns:
        Its `use`, relative to the folder.
    """
    origin = origin_of(part)
    if origin is None or origin.file is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / origin.file.name).write_bytes(origin.code)
    return f"./{origin.file.name}" + (f":{origin.class_name}" if origin.class_name else "")


def fault_in(part_class: type[Any], error: BaseException) -> str:
    """An error from the code of a part in a few words, with the line of its file where known."""
    found = _last_part_frame(error)
    if found is None or found[0] is not part_class:
        return describe_error(error)
    return f"{found[1]}: {describe_error(error)}"


def part_error(error: BaseException) -> PartError | None:
    """The one-line error for an exception that code of a user's file or package raised.

    Returns:
        None where no such code was running: the exception is a bug of this package.
    """
    found = _last_part_frame(error)
    if found is None:
        return None
    part_class, place = found
    origin = _ORIGINS[part_class]
    package = f" ({origin.package})" if origin.package else ""
    return PartError(
        f"{origin.kind} '{origin.name}'{package} failed in {place}: {describe_error(error)}"
    )


def _last_part_frame(error: BaseException) -> tuple[type[Any], str] | None:
    """The part from elsewhere whose code ran last before an exception, and the file and line."""
    part: type[Any] | None = None
    place = ""
    trace = error.__traceback__
    while trace is not None:
        frame, line = trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
        module = frame.f_globals.get("__name__", "")
        candidates = [cls for cls in _ORIGINS if _top_level(cls.__module__) == _top_level(module)]
        if not candidates:
            continue
        owner = type(frame.f_locals.get("self"))
        if owner in candidates:
            part = owner
        elif part not in candidates:  # a function outside of the class, called by none of them
            part = next((cls for cls in candidates if cls.__module__ == module), candidates[0])
        assert part is not None
        file = _ORIGINS[part].file
        place = f"{file.name if file else frame.f_code.co_filename}, line {line}"
    return None if part is None else (part, place)


def _top_level(module: str) -> str:
    return module.partition(".")[0]


def register(cls: type[Any], origin: Origin) -> None:
    """Note where a class came from; its `version`, where it has one, names the code from now on."""
    _ORIGINS[cls] = origin
    for owner in cls.__mro__:
        if "version" in vars(owner):
            own = _VERSIONS.get(owner, vars(owner)["version"])
            _VERSIONS[cls] = own
            cls.version = _versioned(own, origin.version)
            return


def _versioned(own: Any, code: str) -> Any:
    if isinstance(own, property):
        read: Callable[[Any], Any] = own.__get__
        return property(lambda part: f"{read(part)}+{code}")
    return f"{own}+{code}"


def describe_error(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (str(message).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
