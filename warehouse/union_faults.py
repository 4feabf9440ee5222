"""Say of a value that may be of several types what is wrong with it, once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_BRANCH = re.compile(r"(list|dict|tuple|set|str|int|float|bool)(?:\[(.*)\])?")
_PLURALS = {"str": "texts", "int": "whole numbers", "float": "numbers", "bool": "true or false"}
_SINGLE = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"
}  # fmt: skip


def merge_union_faults(faults: Iterable[Mapping[str, Any]], data: Any) -> list[dict[str, Any]]:
    """Pydantic's faults, where those of the branches of a union are one that names no branch.

    Args:
        faults: What `ValidationError.errors()` gives.
        data: What was validated. A step of a place that leads nowhere in it is the name of a branch.

    Returns:
        Faults of the same form. Where the value is of the kind of a branch (a list, a table), those
        within it; else one fault that lists what is allowed.
    """
    merged: list[dict[str, Any]] = []
    allowed: dict[tuple[Any, ...], list[str]] = {}
    inner: set[tuple[Any, ...]] = set()
    for fault in faults:
        found = _branch_of(fault["loc"], data)
        if found is None:
            merged.append(dict(fault))
            continue
        at, branch = found
        place, within = tuple(fault["loc"][:at]), tuple(fault["loc"][at + 1 :])
        if within:
            inner.add(place)
            merged.append({**fault, "loc": (*place, *within)})
            continue
        if place not in allowed:
            merged.append({**fault, "loc": place, "type": "union"})
        allowed.setdefault(place, []).append(branch)
    merged = [fault for fault in merged if fault["type"] != "union" or fault["loc"] not in inner]
    for fault in merged:
        if fault["type"] == "union":
            fault["msg"] = f"Input should be {' or '.join(map(_in_words, allowed[fault['loc']]))}"
    return merged


def _branch_of(steps: Iterable[int | str], node: Any) -> tuple[int, str] | None:
    """Which step of a place is the name of a branch; None where none is."""
    for at, step in enumerate(steps):
        if isinstance(node, dict) and step in node:
            node = node[step]
            continue
        if isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
            continue
        is_branch = isinstance(step, str) and _BRANCH.fullmatch(step)
        return (at, str(step)) if is_branch else None
    return None


def _in_words(branch: str) -> str:
    match = _BRANCH.fullmatch(branch)
    kind, inner = match.groups() if match else (branch, None)
    if kind in _SINGLE:
        return _SINGLE[kind]
    last = (inner or "").rpartition(",")[2].strip()
    values = f" of {_PLURALS[last]}" if last in _PLURALS else ""
    return f"a {'table' if kind == 'dict' else 'list'}{values}"
