"""Turn records into frames of their table's columns, and rows of a table into records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, TypeVar

import orjson
import polars as pl

from warehouse.db.schema import Column, columns
from warehouse.records import Record

R = TypeVar("R", bound=Record)

UNSTORABLE = (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)
"""What the encoders raise for a value that no frame can hold."""

_POLARS: dict[str, Any] = {
    "VARCHAR": pl.String,
    "JSON": pl.String,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "BOOLEAN": pl.Boolean,
    "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
}


def frame_of(kind: type[Record], records: Sequence[Record]) -> pl.DataFrame:
    """Records of one kind as a frame: a row each, a column for each of the table's."""
    cols = columns(kind)
    return pl.DataFrame(
        {col.name: [_encode(col, getattr(record, col.name)) for record in records] for col in cols},
        schema={col.name: _POLARS[col.sql] for col in cols},
    )


def records_of(kind: type[R], rows: pl.DataFrame) -> list[R]:
    """The records in a table's rows, in their order."""
    cols = columns(kind)
    records = []
    for row in rows.iter_rows(named=True):
        values = {}
        for col in cols:
            value = row[col.name]
            if value is not None and col.is_json:
                value = orjson.loads(value)
            elif value is not None and col.sql == "TIMESTAMPTZ":
                value = value.astimezone(UTC)
            values[col.name] = value
        records.append(kind(**values))
    return records


def _encode(column: Column, value: Any) -> Any:
    if column.is_json and value is not None:
        return orjson.dumps(value).decode()
    return value
