"""Write rows as Parquet files whose columns have the same types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.data.rows import Row


def write_tables(files: Mapping[Path, Sequence[Row]]) -> None:
    """Write the rows of each file.

    The types are those of all rows, so that the splits of a data set have the same columns: one
    that is empty in a split, or everywhere, is still one of texts (of numbers in the scores).
    """
    import polars as pl

    rows = [row for part in files.values() for row in part]
    table = pl.DataFrame(_filled(rows), infer_schema_length=None)
    types: dict[Any, Any] = {
        name: _known(kind, name == "scores") for name, kind in table.schema.items()
    }
    table = table.cast(types)
    start = 0
    for path, part in files.items():
        table.slice(start, len(part)).write_parquet(path)
        start += len(part)


def _known(kind: Any, is_number: bool) -> Any:
    """The type with one in place of what no row has a value of."""
    import polars as pl

    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: _known(field.dtype, is_number) for field in kind.fields})
    if isinstance(kind, pl.List):
        return pl.List(_known(kind.inner, is_number))
    if kind == pl.Null:
        return pl.Float64() if is_number else pl.String()
    return kind


def _filled(rows: Sequence[Row]) -> list[Row]:
    """Rows that all have the same columns, and messages that all have the same keys."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    keys = dict.fromkeys(key for row in rows for message in row["messages"] for key in message)
    return [
        {name: row.get(name) for name in columns}
        | {"messages": [{key: message.get(key) for key in keys} for message in row["messages"]]}
        for row in rows
    ]
