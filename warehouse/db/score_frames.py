"""Read the scores of many samples as columns, without a record for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from warehouse.canonical_json import canonical
from warehouse.db.store import Store


@dataclass(frozen=True)
class ScoreMaker:
    """What a score's id rests on beside the sample: who scored, and how."""

    scorer: str
    version: str
    model: str
    options: Mapping[str, Any]


_MADE_BY = "s.scorer = ? AND s.version = ? AND s.model = ? AND s.options IN (SELECT o FROM alike)"


def scores_of(
    store: Store, maker: ScoreMaker, sample_ids: pl.DataFrame, labels: Iterable[str] = ()
) -> pl.DataFrame:
    """The scores of some samples by one scorer.

    Args:
        store: The warehouse.
        maker: Who scored.
        sample_ids: Columns row (UInt32) and sample_id.
        labels: Names in `details["labels"]`.

    Returns:
        row (UInt32), value, why, and for each label a column of its name (null where a score has
        none), in no order.
    """
    names = list(labels)
    paths = [f"$.labels.{orjson.dumps(name).decode()}" for name in names]
    picked = "".join(
        f", TRY_CAST(json_extract_string(s.details, ?) AS DOUBLE) AS label{n}"
        for n in range(len(names))
    )
    found = store.select(
        f"SELECT w.row, s.value, s.why{picked} "
        f"FROM scores s JOIN wanted w ON s.sample_id = w.sample_id WHERE {_MADE_BY}",
        [*paths, maker.scorer, maker.version, maker.model],
        wanted=sample_ids,
        alike=_spellings(store, maker),
    )
    columns = {"row": pl.UInt32, "value": pl.Float64, "why": pl.String}
    if found is None:
        found = pl.DataFrame(
            schema={**columns, **{f"label{n}": pl.Float64 for n in range(len(names))}}
        )
    found = found.cast(columns)  # type: ignore[arg-type]
    return found.rename({f"label{n}": name for n, name in enumerate(names)})


def redacted_by(store: Store, maker: ScoreMaker, sample_ids: pl.DataFrame) -> pl.DataFrame:
    """row (UInt32) and redacted of the samples for which a scorer gave a text without personal data."""
    found = store.select(
        "SELECT w.row, json_extract_string(s.details, '$.redacted') AS redacted "
        f"FROM scores s JOIN wanted w ON s.sample_id = w.sample_id WHERE {_MADE_BY} "
        "AND redacted IS NOT NULL",
        [maker.scorer, maker.version, maker.model],
        wanted=sample_ids,
        alike=_spellings(store, maker),
    )
    columns = {"row": pl.UInt32, "redacted": pl.String}
    return pl.DataFrame(schema=columns) if found is None else found.cast(columns)  # type: ignore[arg-type]


def _spellings(store: Store, maker: ScoreMaker) -> pl.DataFrame:
    """How the options are written in the warehouse; equal ones may be in another order."""
    found = store.select(
        "SELECT DISTINCT options FROM scores WHERE scorer = ? AND version = ? AND model = ?",
        [maker.scorer, maker.version, maker.model],
    )
    wanted = canonical(dict(maker.options))
    texts = [] if found is None else found["options"].to_list()
    alike = [text for text in texts if canonical(orjson.loads(text)) == wanted]
    return pl.DataFrame({"o": alike}, schema={"o": pl.String})
