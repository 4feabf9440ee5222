"""Hold what the gate reads of samples, and which of them are alike: no bound changes either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

import orjson
import polars as pl

from quality.gate.alike import Alike, Repeats, Rows
from quality.gate.decontaminate import Match
from quality.gate.dedup import form
from quality.gate.sketch_shard import MapShards, map_here
from warehouse.records import Sample
from warehouse.text.words import count_words
from warehouse.tool_calls import text_of

COLUMNS = {
    "sample_id": pl.String,
    "recipe": pl.String,
    "status": pl.String,
    "words": pl.UInt32,
    "held_out": pl.String,
    "match": pl.String,
}
"""Of each sample: held_out is the kind of its match with a held-out item, if any, and match is that
as JSON."""
TEXTS = {"question": pl.String, "asked": pl.String, "completion": pl.String}
ROWS = {**COLUMNS, **TEXTS, "whole": pl.String}
"""The columns of `rows_of`; whole is a hash of all that a sample says, in the form in which it is
compared."""


def rows_of(samples: Sequence[Sample], matches: Sequence[Match | None]) -> pl.DataFrame:
    """What the gate needs of samples: one row each, with the columns `ROWS`.

    Args:
        samples: The samples.
        matches: The held-out item that each gives away, if any.
    """
    return pl.DataFrame(
        {
            "sample_id": [sample.sample_id for sample in samples],
            "recipe": [sample.recipe for sample in samples],
            "status": [sample.status for sample in samples],
            "words": [count_words(sample.completion) for sample in samples],
            "held_out": [match.kind if match else None for match in matches],
            "match": [
                orjson.dumps(match.as_json()).decode() if match else None for match in matches
            ],
            **texts_of(samples).to_dict(),
            "whole": [_digest(_whole(sample)) for sample in samples],
        },
        schema=ROWS,
    )


def texts_of(samples: Sequence[Sample]) -> pl.DataFrame:
    """What samples say, with the columns `TEXTS`."""
    return pl.DataFrame(
        {
            "question": [_plain(sample.question) for sample in samples],
            "asked": [_plain(_asked(sample)) for sample in samples],
            "completion": [_plain(sample.completion) for sample in samples],
        },
        schema=TEXTS,
    )


@dataclass(frozen=True)
class Candidates:
    """The samples among which a gate chooses."""

    rows: pl.DataFrame
    """With the columns `COLUMNS`, in the order of the samples."""
    whole: Repeats
    """Which say all the same as an earlier one."""
    texts: Callable[[Rows], pl.DataFrame]
    """Gives the columns `TEXTS` of some rows."""
    find_alike: Callable[[], Alike]
    """Gives the near duplicates at the threshold of the plan; called where there is one."""

    @classmethod
    def of(cls, rows: pl.DataFrame, near: float | None, map_shards: MapShards = map_here) -> Self:
        """Of the columns `ROWS`, all in memory.

        Args:
            rows: The samples.
            near: The threshold of near duplicates, where they are looked for.
            map_shards: What runs their sketches.
        """
        texts = rows.select(*TEXTS)

        def find_alike() -> Alike:
            return Alike.of(compared_texts(texts), near or 1.0, map_shards)

        return cls(
            rows.select(*COLUMNS),
            Repeats.of(rows["whole"].to_list()),
            lambda numbers: texts[numbers],
            find_alike,
        )

    @cached_property
    def alike(self) -> Alike:
        """Which are near duplicates of each other."""
        return self.find_alike()

    def compared_texts(self, rows: Rows) -> list[str]:
        """The texts by which some rows are compared with others."""
        return compared_texts(self.texts(rows))

    def as_json(self) -> dict[str, Any]:
        """Columns of all rows but their ids, texts and near duplicates."""
        recipes = self.rows["recipe"].unique(maintain_order=True)
        statuses = self.rows["status"].unique(maintain_order=True)
        matched = self.rows.with_row_index("row").filter(pl.col("match").is_not_null())
        return {
            "recipes": recipes.to_list(),
            "recipe": _places(self.rows["recipe"], recipes),
            "statuses": statuses.to_list(),
            "status": _places(self.rows["status"], statuses),
            "words": self.rows["words"].to_list(),
            "matches": matched.select("row", "match").rows(),
            "whole": self.whole.as_json(),
        }

    @classmethod
    def from_json(
        cls,
        content: Mapping[str, Any],
        sample_ids: Sequence[str],
        texts: Callable[[Rows], pl.DataFrame],
        find_alike: Callable[[], Alike],
    ) -> Self:
        """Of `as_json`, with what it leaves out."""
        matches = pl.DataFrame(
            content["matches"], schema={"row": pl.UInt32, "match": pl.String}, orient="row"
        )
        rows = pl.DataFrame(
            {
                "sample_id": pl.Series(sample_ids, dtype=pl.String),
                "recipe": _at(content["recipes"], content["recipe"]),
                "status": _at(content["statuses"], content["status"]),
                "words": pl.Series(content["words"], dtype=pl.UInt32),
            }
        ).with_row_index("row")
        rows = rows.join(matches, on="row", how="left", maintain_order="left")
        kind = pl.col("match").str.json_path_match("$.kind").alias("held_out")
        rows = rows.with_columns(kind).select(*COLUMNS)
        return cls(rows, Repeats.from_json(content["whole"]), texts, find_alike)


def compared_texts(texts: pl.DataFrame) -> list[str]:
    """What is compared of the columns `TEXTS`: question and completion."""
    return [f"{asked}\n{said}" for asked, said in texts.select("asked", "completion").iter_rows()]


def _places(column: pl.Series, values: pl.Series) -> list[int]:
    return column.replace_strict(values, list(range(len(values))), return_dtype=pl.UInt32).to_list()


def _at(values: Sequence[str], places: Sequence[int]) -> pl.Series:
    return pl.Series(values, dtype=pl.String).gather(pl.Series(places, dtype=pl.UInt32))


def _plain(text: str) -> str:
    """The text, with half a character written out: no frame holds one."""
    return text.encode("utf-8", "backslashreplace").decode()


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _whole(sample: Sample) -> str:
    messages = [f"{message['role']} {form(text_of(message))}" for message in sample.messages]
    return "\n".join([*messages, form(sample.completion)])


def _asked(sample: Sample) -> str:
    return sample.question or str(sample.messages[-1]["content"])
