"""Load parts from a user's file or an installed package."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from warehouse.errors import PlanError
from warehouse.part_classes import named_class, only_class, path_of, refuse_unfit
from warehouse.part_origins import Origin, describe_error, origin_of_class, register

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<class_name>.*))?", re.DOTALL)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_FILES: dict[tuple[str, str, str, str], type[Any]] = {}


def is_file(use: str) -> bool:
    """Whether a plan's `use` names a file: `./my_scorer.py` or `./file.py:Class`."""
    return _FILE.fullmatch(use) is not None


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
        raise PlanError(f"{where} cannot be imported: {describe_error(error)}") from None
    if isinstance(value, ModuleType):
        value = only_class(value, kind, interface, where)
    if not isinstance(value, type) or interface not in value.__mro__:
        raise PlanError(f"{where}: {point.value} does not derive from {path_of(interface)}")
    if origin_of_class(value) is None:
        refuse_unfit(value, kind, interface, f"{where}: {value.__name__}")
        source = getattr(sys.modules.get(value.__module__), "__file__", None)
        code = Path(source).read_bytes() if source else b""
        register(
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
    path_text, class_name, path, code = _read(kind, use, folder)
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
        module = _run(path, code, _module_name(key), path_text)
        cls = _class_in(module, kind, class_name, interface, path_text)
        refuse_unfit(cls, kind, interface, f"{path_text}, line {_line(code, cls)}: class {cls.__name__}")  # fmt: skip
        register(cls, Origin(name, sha256, "", path, class_name or "", code, kind))
        _FILES[key] = cls
    return _FILES[key]


def helper_class(what: str, use: str, folder: Path, interface: type[Any]) -> type[Any]:
    """A class of the user's that is no part, such as a pydantic model that an option names.

    Args:
        what: What it is called in messages, such as "pydantic model".
        use: `./file.py:Class`, or `./file.py` where the file defines one such class.
        folder: Where a relative path starts.
        interface: What the class derives from.

    Raises:
        PlanError: as for a part of a file.
    """
    path_text, class_name, path, code = _read(what, use, folder)
    key = (what, str(path), class_name or "", hashlib.sha256(code).hexdigest())
    if key not in _FILES:
        module = _run(path, code, _module_name(key), path_text)
        _FILES[key] = _class_in(module, what, class_name, interface, path_text)
    return _FILES[key]


def path_in(use: str, folder: Path) -> Path:
    """The file that `./file.py` or `./file.py:Class` names."""
    match = _FILE.fullmatch(use)
    assert match is not None
    return Path(os.path.abspath(folder / Path(match["path"]).expanduser()))


def _read(kind: str, use: str, folder: Path) -> tuple[str, str | None, Path, bytes]:
    """(path as it is written, class name if there is one, path, code) of a file that a plan names."""
    match = _FILE.fullmatch(use)
    assert match is not None
    path_text, class_name = match["path"], match["class_name"]
    path = path_in(use, folder)
    if not path.is_file():
        files = [
            os.path.join(os.path.dirname(path_text), file.name) for file in path.parent.glob("*.py")
        ]
        near = get_close_matches(path_text, files, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"looked for {path}"
        raise PlanError(f"{kind} '{use}': no such file ({hint})")
    try:
        return path_text, class_name, path, path.read_bytes()
    except OSError as error:
        raise PlanError(f"{kind} '{use}' cannot be read: {error.strerror}") from None


def _module_name(key: tuple[str, str, str, str]) -> str:
    return f"stillhouse_part_{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"


def _class_in(
    module: ModuleType, kind: str, class_name: str | None, interface: type[Any], where: str
) -> type[Any]:
    if class_name is None:
        return only_class(module, kind, interface, where)
    return named_class(module, class_name, interface, where)


def file_identity(use: str, folder: Path) -> str | None:
    """The `Origin.identity` that a part in a file would have; reads the file and does not run it.

    None where `use` names no file, or one that is not there.
    """
    match = _FILE.fullmatch(use)
    path = None if match is None else folder / Path(match["path"]).expanduser()
    if path is None or not path.is_file():
        return None
    return Origin("", hashlib.sha256(path.read_bytes()).hexdigest()).identity


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
    return f"{path_text}{f', line {line}' if line else ''}: {describe_error(error)}"


def _line(code: bytes, cls: type[Any]) -> int:
    classes = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef))
    return next((node.lineno for node in classes if node.name == cls.__name__), 1)
