"""Name the optional dependencies (extras) that bring a package which is not installed."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec

from warehouse.errors import MissingExtraError

TRAINING = ("torch", "transformers", "peft", "trl")
"""Modules that training needs, and loading a student."""

_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+).*?(?:extra == ['"](?P<extra>[\w-]+)['"])?$""")
_NOT_FOR_USERS = ("dev", "docs")


def require_modules(purpose: str, *modules: str) -> None:
    """See that modules are installed, without importing them.

    Args:
        purpose: What needs them, as the error begins: `distill chat`.
        modules: Names of top-level modules.

    Raises:
        MissingExtraError: one is not installed; says how to install it.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{purpose} needs {missing[0]}, which is not installed; {install_advice(missing[0])}"
        )


def missing_module_error(error: Exception) -> MissingExtraError | None:
    """The one-line error for a failed import of a dependency; None for any other exception."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    if module != error.name or _extra_of(module) is None:  # installed, or no dependency of ours
        return None
    return MissingExtraError(f"{module} is not installed; {install_advice(module)}")


def install_advice(module: str) -> str:
    """The command that installs a module: the extra that brings it, or the whole package."""
    extra = _extra_of(module)
    return f"pip install 'stillhouse[{extra}]'" if extra else "pip install --upgrade stillhouse"


def _extra_of(module: str) -> str | None:
    """The extra that brings a module, "" where it is always installed, None where nothing does."""
    extras = []
    for line in metadata.requires("stillhouse") or ():
        match = _REQUIREMENT.match(line)
        if match and re.sub(r"[-_.]+", "_", match["name"]).lower() == module.lower():
            extras.append(match["extra"] or "")
    wanted = [extra for extra in extras if extra not in _NOT_FOR_USERS]
    return min(wanted, key=lambda extra: (extra != "", extra), default=None)
