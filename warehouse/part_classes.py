"""Choose the class of a part among those of a module, and check that it is complete."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from warehouse.errors import PlanError
from warehouse.wording import did_you_mean


def only_class(module: ModuleType, kind: str, interface: type[Any], where: str) -> type[Any]:
    """The one class of a part that a module defines, or the one of several that is complete.

    Raises:
        PlanError: there is none, or there are several.
    """
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
        f"{where} defines no {kind}: derive a class from {path_of(interface)} "
        f"({f'classes found: {names}' if names else 'no class was found'})"
    )


def named_class(module: ModuleType, name: str, interface: type[Any], where: str) -> type[Any]:
    """The class of a part by its name in a module.

    Raises:
        PlanError: the module does not define it, or it is no such part.
    """
    own = _own_classes(module)
    if name not in own:
        raise PlanError(f"{where} defines no class '{name}' ({did_you_mean(name, list(own))})")
    if interface not in own[name].__mro__[1:]:
        raise PlanError(f"{where}: class {name} does not derive from {path_of(interface)}")
    return own[name]


def _own_classes(module: ModuleType) -> dict[str, type[Any]]:
    return {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }


def refuse_unfit(cls: type[Any], kind: str, interface: type[Any], where: str) -> None:
    """Refuse a class that lacks what its kind of part needs.

    Raises:
        PlanError: it lacks methods, class variables, a version that is a text or `@dataclass`.
    """
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


def path_of(cls: type[Any]) -> str:
    """The import path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"
