"""Parse the records of one source into question rows, and count what was read.

What no form reads stays with the row, in `extra`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.columns import COLUMNS, is_missing, nearest_column
from warehouse.inputs.files import parse_json
from warehouse.inputs.question_row import Row, make_row
from warehouse.inputs.row_forms import read_form

EXTRA_CHARS = 2000
"""A longer value of a column that nobody reads is not kept with the row."""

EXTRA_DEPTH = 50
"""A value with more lists and objects in it is not kept either, however deep they lie."""


class RowParser:
    """Parses the records of one source, and counts what it met.

    Args:
        columns: A plan's mapping, column of ours -> column of the file.
        text_cells: Whether cells are texts, in which a list is written in JSON.
    """

    def __init__(self, columns: Mapping[str, str] | None = None, text_cells: bool = False) -> None:
        self.columns = dict(columns or {})
        self.text_cells = text_cells
        self.blank = 0
        self.forms: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.hints: dict[str, str] = {}
        """Column that nobody reads -> the column of ours that it may be."""
        self.seen: set[str] = set()

    def parse(self, raw: Any, where: str) -> Row | None:
        """The row in a record; None for one that is blank, in a table also where its prompt is.

        Raises:
            DataError: it is of no form that is known, or malformed.
        """
        if not isinstance(raw, dict):
            raise DataError(f"{where} is not an object with 'prompt' or 'messages'")
        self.seen |= raw.keys()
        blank = ("", None) if self.text_cells else (None,)  # in JSON an empty text is meant
        asked = self.columns.get("prompt", "prompt")
        cells = [raw[asked]] if self.text_cells and asked in raw else raw.values()
        if all((v.strip() if isinstance(v, str) else v) in blank for v in cells):
            self.blank += 1
            return None
        given = {key: value for key, value in raw.items() if not is_missing(value)}
        origin = self._names(given)
        values = {name: given[key] for name, key in origin.items()}
        self._parse_lists(values)
        form = read_form(values, where)
        row = make_row(form.columns, where)
        self.forms[form.name] += 1
        read = {origin[name] for name in form.read}
        extra = {key: value for key, value in given.items() if key and key not in read}
        for key in extra:
            self.unread[key] += 1
            if self.unread[key] == 1 and (near := nearest_column(key, form.columns)):
                self.hints[key] = near
        if not extra:
            return row
        return replace(row, extra={key: _plain(v) for key, v in extra.items() if _is_small(v)})

    def unmet_columns(self) -> list[str]:
        """Columns that the plan names and no record has had."""
        return sorted(set(self.columns.values()) - self.seen)

    def _names(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Name by which a value is read -> its column in the file: as the plan says, else its own;
        in lower case where the file would have no prompt otherwise."""
        mapped = {ours: theirs for ours, theirs in self.columns.items() if theirs in given}
        taken = set(mapped.values())
        names = {key: key for key in given if key not in taken and key not in self.columns} | mapped
        if not {"prompt", "messages"} & names.keys():
            for key in list(names):
                plain = key.strip().lower()
                if plain in COLUMNS and plain not in names and plain not in self.columns:
                    names[plain] = names.pop(key)
        return names

    def _parse_lists(self, values: dict[str, Any]) -> None:
        lists = ("reference", "aliases") if self.text_cells else ()
        for name in (*lists, "messages", "conversations", "choices", "options", "answers"):
            text = values.get(name)
            if isinstance(text, str) and text.lstrip()[:1] in ("[", "{"):
                with suppress(ValueError, RecursionError):
                    values[name] = parse_json(text)


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= EXTRA_CHARS
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return False
    return len(text) <= EXTRA_CHARS and text.count("[") + text.count("{") <= EXTRA_DEPTH


def _plain(value: Any) -> Any:
    """A value as JSON has it; a date or a decimal is its text."""
    return parse_json(json.dumps(value, default=str, ensure_ascii=False))
