"""Hold the samples of a run by their ids, and read them from the warehouse block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import islice

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from quality.gate.decontaminate import question_of
from warehouse.db.frames import frame_of
from warehouse.db.store import Store
from warehouse.records import Sample, make_id

BLOCK = 8192
"""Samples that are read at once: some tens of megabytes."""
FRAME = 131_072
"""Samples of which columns are read at once; to find them costs as much as all that are stored."""


class SampleSet:
    """Different samples in order, by id: a million of them are a hundred megabytes."""

    def __init__(
        self, store: Store, ids: Sequence[str], unstored: Mapping[str, Sample] | None = None
    ) -> None:
        """Take samples by their ids.

        Args:
            store: The warehouse that holds them.
            ids: Their ids, in order.
            unstored: Those that it does not hold, by id.
        """
        self.store, self.ids = store, ids
        self.unstored = dict(unstored or {})

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, rows: Sequence[int] | None = None) -> Iterator[list[Sample]]:
        """The samples, or those of some rows, in order, several at a time."""
        ids = self.ids if rows is None else [self.ids[row] for row in rows]
        for part in _parts(ids):
            stored = [each for each in part if each not in self.unstored]
            found = {s.sample_id: s for s in self.store.by_ids(Sample, "sample_id", stored)}
            yield [self.unstored.get(each) or found[each] for each in part]

    def all(self) -> list[Sample]:
        """All samples, in memory."""
        return [sample for block in self.blocks() for sample in block]

    def asked(self) -> Iterator[tuple[str, str | None]]:
        """What each sample asks (see `question_of`), and its passage; reads nothing else of it."""
        for sample in (self.unstored[each] for each in self.ids if each in self.unstored):
            yield question_of(sample), sample.passage
        for part in _parts([each for each in self.ids if each not in self.unstored]):
            found = self.store.select(
                "SELECT s.question, s.passage, CASE WHEN s.question = '' THEN s.messages END AS m "
                "FROM samples s SEMI JOIN wanted w ON s.sample_id = w.id",
                wanted=pl.DataFrame({"id": part}),
            )
            for question, passage, messages in () if found is None else found.iter_rows():
                yield question or str(orjson.loads(messages)[-1]["content"]), passage

    @cached_property
    def digest(self) -> str:
        """Identifies the samples and their order."""
        return make_id("samples", blake2b("\n".join(self.ids).encode()).hexdigest())

    def frame(
        self, *names: str, rows: Sequence[int] | NDArray[np.int64] | None = None
    ) -> pl.DataFrame:
        """row (UInt32) and some columns of all samples, or of those of some rows, in order.

        What is no text or number is JSON, as in the warehouse.
        """
        wanted = self.numbered() if rows is None else self.numbered()[rows]
        found = self.store.select(
            f"SELECT w.row, {', '.join(f's.{name}' for name in names)} "
            "FROM samples s JOIN wanted w ON s.sample_id = w.sample_id",
            wanted=wanted.filter(~pl.col("sample_id").is_in(list(self.unstored)))
            if self.unstored
            else wanted,
        )
        frames = [] if found is None else [found.cast({"row": pl.UInt32})]
        if self.unstored:
            here = wanted.filter(pl.col("sample_id").is_in(list(self.unstored)))
            lacking = frame_of(Sample, [self.unstored[each] for each in here["sample_id"]])
            frames.append(lacking.select(here["row"], *names))
        return pl.concat(frames, how="vertical_relaxed").sort("row")

    def frames(self, *names: str) -> Iterator[pl.DataFrame]:
        """The same of all samples, some ten thousand at a time."""
        for start in range(0, len(self), FRAME):
            yield self.frame(*names, rows=np.arange(start, min(start + FRAME, len(self))))

    def numbered(self) -> pl.DataFrame:
        """row (UInt32) and sample_id of each."""
        ids = pl.DataFrame({"sample_id": self.ids}, schema={"sample_id": pl.String})
        return ids.with_row_index("row")

    def of(self, ids: Iterable[str]) -> SampleSet:
        """Some of the samples, in the order of these ids."""
        return SampleSet(self.store, list(ids), self.unstored)


def batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """The samples in lists of so many."""
    rest = iter(samples)
    while part := list(islice(rest, size)):
        yield part


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK))
