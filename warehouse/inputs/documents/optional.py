"""Import the libraries of the extra `documents`, and keep their log off the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from warehouse.errors import MissingExtraError


def import_optional(module: str, name: str) -> ModuleType:
    """Import a library that reads one format.

    Args:
        module: The library.
        name: The file that needs it.

    Raises:
        MissingExtraError: it, or what it needs itself, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = (
            "is"
            if getattr(error, "name", "") in (module, module.partition(".")[0])
            else "or a package it needs is"
        )
        raise MissingExtraError(
            f"{name} is read with {module}, which {missing} not installed; "
            "pip install 'stillhouse[documents]', or leave such files out of `documents`"
        ) from None


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep what libraries log of faulty files off the terminal; the readers say it themselves."""
    logs = [logging.getLogger(name) for name in loggers]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
