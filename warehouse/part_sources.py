"""Load parts from a user's file or an installed package, and hash where each came from.

Whatever was made with a part has an id that hashes the part. For a part of this package its name,
version and options do; the code of one from elsewhere can change without any of them, so its
`Origin` counts too: the SHA-256 of its file, and the version of the package that brought it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from warehouse.errors import PartError, PlanError

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<class_name>.*))?", re.DOTALL)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


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
_FILES: dict[tuple[str, str, str, str], type[Any]] = {}


def origin_of(part: Any) -> Origin | None:
    """Where a part came from; None for one of this package."""
    return _ORIGINS.get(type(part))


def origin_of_class(part_class: type[Any]) -> Origin | None:
    """Where the class of a part came from; None for one of this package."""
    return _ORIGINS.get(part_class)


def is_file(use: str) -> bool:
    """Whether a plan's `use` names a file: `./my_scorer.py` or `./file.py:Class`."""
    return _FILE.fullmatch(use) is not None


def did_you_mean(word: str, allowed: Sequence[str]) -> str:
    """A hint for an unknown word: the nearest allowed one, else the list of them all."""
    near = get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"


def nearest(use: str, allowed: Sequence[str], folder: Path) -> str:
    """A hint for an unknown part, from all that are known and the Python files in a folder.

    Names are compared without package, folder and `.py`.
    """
    files = [f"./{file.name}" for file in sorted(folder.glob("*.py"))]
    bare = {_bare(name): name for name in reversed([*allowed, *files])}
    near = get_close_matches(_bare(use), bare, n=1, cutoff=0.6)
    return f"did you mean '{bare[near[0]]}'?" if near else f"allowed: {', '.join(allowed)}"


def _bare(use: str) -> str:
    return use.rpartition("/")[2].partition(".py")[0]


def installed(kind: str) -> dict[str, EntryPoint]:
    """Parts that installed packages bring (entry points `stillhouse.KIND`), by `package/name`."""
    return _installed(kind, tuple(sys.path))


@cache
def _installed(kind: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"stillhouse.{kind}"):
        if point.dist is not None and point.dist.name:
            points.setdefault(f"{_normalise(point.dist.name)}/{point.name}", point)
    return dict(sorted(points.items()))


def package_of(point: EntryPoint) -> str:
    """Distribution and version of an entry point, for example `my-parts 1.2.0`."""
    assert point.dist is not None
    return f"{_normalise(point.dist.name)} {point.dist.version}"


def _normalise(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def class_from_package(kind: str, use: str, interface: type[Any]) -> type[Any] | None:
    """The class behind `package/name`; None if no installed package brings it.

    Raises:
        PlanError: it cannot be imported, or is no such part.
    """
    package, _, name = use.partition("/")
    full = f"{_normalise(package)}/{name}"
    point = installed(kind).get(full)
    if point is None:
        return None
    where = f"{kind} '{full}' ({package_of(point)})"
    try:
        value = point.load()
    except (Exception, SystemExit) as error:
        raise PlanError(f"{where} cannot be imported: {_describe(error)}") from None
    if isinstance(value, ModuleType):
        value = _only_class(value, kind, interface, where)
    if not isinstance(value, type) or interface not in value.__mro__:
        raise PlanError(f"{where}: {point.value} does not derive from {_path_of(interface)}")
    if value not in _ORIGINS:
        _refuse_unfit(value, kind, interface, f"{where}: {value.__name__}")
        source = getattr(sys.modules.get(value.__module__), "__file__", None)
        code = Path(source).read_bytes() if source else b""
        _register(
            value, Origin(full, hashlib.sha256(code).hexdigest(), package_of(point), kind=kind)
        )
    return value


def file_part_name(use: str) -> str:
    """The name of a part in a file: the file's stem, or the class's name in snake_case."""
    match = _FILE.fullmatch(use)
    assert match is not None
    class_name = match["class_name"]
    return Path(match["path"]).stem if class_name is None else _HUMP.sub("_", class_name).lower()


def class_from_file(
    kind: str, use: str, folder: Path, interface: type[Any], reserved: Sequence[str]
) -> type[Any]:
    """The class of a part in a file, run once for each content of the file.

    Args:
        kind: Kind of the part.
        use: Path of the file, relative to `folder`, and `:Class` where it holds several.
        folder: The plan's folder.
        interface: What the class derives from.
        reserved: Names that a part of a file cannot have.

    Raises:
        PlanError: one line with the line of the file: it cannot be read or run, or has no such
            class.
    """
    match = _FILE.fullmatch(use)
    assert match is not None
    path_text, class_name = match["path"], match["class_name"]
    path = Path(os.path.abspath(folder / Path(path_text).expanduser()))
    if not path.is_file():
        files = [
            os.path.join(os.path.dirname(path_text), file.name) for file in path.parent.glob("*.py")
        ]
        near = get_close_matches(path_text, files, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"looked for {path}"
        raise PlanError(f"{kind} '{use}': no such file ({hint})")
    try:
        code = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{kind} '{use}' cannot be read: {error.strerror}") from None
    name = file_part_name(use)
    if not name.isidentifier() or not name.isascii():
        raise PlanError(
            f"{kind} '{use}': '{name}' cannot be a name; use letters, digits and underscore, "
            f"for example ./my_{kind}.py"
        )
    if name in reserved:
        raise PlanError(f"{kind} '{use}': '{name}' is the name of another {kind}; rename it")
    sha256 = hashlib.sha256(code).hexdigest()
    key = (kind, str(path), class_name or "", sha256)
    if key not in _FILES:
        module = _run(path, code, f"stillhouse_part_{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}", path_text)  # fmt: skip
        if class_name is None:
            cls = _only_class(module, kind, interface, path_text)
        else:
            cls = _named_class(module, class_name, interface, path_text)
        _refuse_unfit(cls, kind, interface, f"{path_text}, line {_line(code, cls)}: class {cls.__name__}")  # fmt: skip
        _register(cls, Origin(name, sha256, "", path, class_name or "", code, kind))
        _FILES[key] = cls
    return _FILES[key]


def file_identity(use: str, folder: Path) -> str | None:
    """The `Origin.identity` that a part in a file would have; reads the file and does not run it.

    None where `use` names no file, or one that is not there.
    """
    match = _FILE.fullmatch(use)
    path = None if match is None else folder / Path(match["path"]).expanduser()
    if path is None or not path.is_file():
        return None
    return Origin("", hashlib.sha256(path.read_bytes()).hexdigest()).identity


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
        return _describe(error)
    return f"{found[1]}: {_describe(error)}"


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
        f"{origin.kind} '{origin.name}'{package} failed in {place}: {_describe(error)}"
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


def _register(cls: type[Any], origin: Origin) -> None:
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


def _run(path: Path, code: bytes, name: str, path_text: str) -> ModuleType:
    """Run a file as a module of a private name; nothing beside it can be imported."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their annotations up there
    try:
        exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PlanError(_at_line(path, path_text, error)) from None
    return module


def _at_line(path: Path, path_text: str, error: BaseException) -> str:
    line = None
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path_text}{f', line {line}' if line else ''}: {_describe(error)}"


def _describe(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (str(message).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _only_class(module: ModuleType, kind: str, interface: type[Any], where: str) -> type[Any]:
    own = _own_classes(module)
    derived = [cls for cls in own.values() if interface in cls.__mro__[1:]]
    whole = [cls for cls in derived if not _lacks(cls, interface) and cls.__name__[0] != "_"]
    chosen = whole or derived
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(cls.__name__ for cls in chosen or own.values())
    if chosen:
        raise PlanError(
            f"{where} defines {len(chosen)} classes of a {kind} ({names}); name one after a colon, "
            f"for example {where}:{chosen[0].__name__}"
        )
    raise PlanError(
        f"{where} defines no {kind}: derive a class from {_path_of(interface)} "
        f"({f'classes found: {names}' if names else 'no class was found'})"
    )


def _named_class(module: ModuleType, name: str, interface: type[Any], where: str) -> type[Any]:
    own = _own_classes(module)
    if name not in own:
        raise PlanError(f"{where} defines no class '{name}' ({did_you_mean(name, list(own))})")
    if interface not in own[name].__mro__[1:]:
        raise PlanError(f"{where}: class {name} does not derive from {_path_of(interface)}")
    return own[name]


def _own_classes(module: ModuleType) -> dict[str, type[Any]]:
    return {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }


def _refuse_unfit(cls: type[Any], kind: str, interface: type[Any], where: str) -> None:
    faults = [f"it lacks {', '.join(lacking)}"] if (lacking := _lacks(cls, interface)) else []
    faults += [f"it sets no {name}" for name in _unset(cls, interface)]
    version = inspect.getattr_static(cls, "version", "")
    if not isinstance(version, str | property):
        faults.append("its version is a text, such as '1'")
    if "__dataclass_fields__" not in vars(cls):
        faults.append("it has no @dataclass decorator")
    if faults:
        raise PlanError(f"{where} is no {kind} yet: {'; '.join(faults)}")


def _lacks(cls: type[Any], interface: type[Any]) -> list[str]:
    """Methods and properties that a class has to define."""
    if getattr(interface, "_is_protocol", False):
        own = [name for name in vars(interface) if not name.startswith("_")]
        return [n for n in own if inspect.getattr_static(cls, n) is vars(interface)[n]]
    return sorted(getattr(cls, "__abstractmethods__", ()))


def _unset(cls: type[Any], interface: type[Any]) -> list[str]:
    """Class variables that the interface declares without a value and the class does not set."""
    declared: dict[str, Any] = {}
    for owner in reversed(interface.__mro__):
        declared |= inspect.get_annotations(owner)
    return [n for n, what in declared.items() if "ClassVar" in str(what) and not hasattr(cls, n)]


def _line(code: bytes, cls: type[Any]) -> int:
    classes = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef))
    return next((node.lineno for node in classes if node.name == cls.__name__), 1)


def _path_of(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
