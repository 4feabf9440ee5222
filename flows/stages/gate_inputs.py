"""Keep what the gate reads of a plan's samples in the warehouse, so that another bound needs no text.

None of it depends on a bound. What was not kept is made anew: held-out items are looked for, and near
duplicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distill.plan.plan import Plan
from flows.engines.engine import ShardEngine
from flows.stages.curated import maker_of
from flows.stages.held_out import items_of
from flows.stages.sample_lists import hash_of_file
from flows.stages.sample_set import SampleSet, batched
from flows.stages.score_shard import SCORED_AT_ONCE, match_shard
from quality.gate import decontaminate
from quality.gate.alike import Alike, Rows
from quality.gate.candidates import ROWS, Candidates, compared_texts, texts_of
from quality.gate.choose import SCORES, VERSION
from quality.gate.decontaminate import HeldOut, digest_of
from quality.gate.policy import GatePolicy
from quality.scoring.scorer import Scorer
from quality.tasks.benchmark import Benchmark
from warehouse.catalog import name_of, options_of
from warehouse.db.score_frames import scores_of
from warehouse.db.store import Store
from warehouse.inputs import assets
from warehouse.inputs.hub_rows import is_hub
from warehouse.inputs.rows import find_file
from warehouse.records import GateInput, make_id
from warehouse.text.question_form import VERSION as FORM_VERSION


class GateInputs:
    """What the gate of a plan reads, as kept in the warehouse or as made now."""

    def __init__(self, store: Store, plan: str) -> None:
        """Take the warehouse, and the name of the plan."""
        self._store, self._name = store, plan
        self._known: dict[str, GateInput] = {}
        self.new: dict[str, GateInput] = {}
        """By id, those that are not in the warehouse."""

    def _get(self, input_id: str, state: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The content that was kept under an id in that state; otherwise it is made."""
        if input_id not in self._known:
            found = self._store.by_ids(GateInput, "input_id", [input_id])
            self._known.update({each.input_id: each for each in found})
        known = self._known.get(input_id)
        if known is None or known.state != state:
            known = GateInput(input_id, state, make())
            self._known[input_id] = self.new[input_id] = known
        return known.content

    def held_out_digest(self, plan: Plan) -> str:
        """The digest of the plan's benchmark items, which are read where their files changed."""
        rules = plan.quality.decontaminate
        parts = [_part_of(each, plan.folder) for each in plan.evaluate.every_benchmark]
        if any(part is None for part in parts):
            return digest_of(items_of(plan), rules)
        state = make_id(
            metadata.version("stillhouse"),
            decontaminate.VERSION,
            FORM_VERSION,
            rules.model_dump(),
            parts,
        )
        content = self._get(
            make_id("held out", self._name),
            state,
            lambda: {"digest": digest_of(items_of(plan), rules)},
        )
        return str(content["digest"])

    @cached_property
    def _stored_scores(self) -> list[int]:
        """Changes where a score is stored or deleted, other than a human's."""
        found = self._store.select(
            "SELECT count(*), coalesce(max(rowid), -1) FROM scores WHERE scorer <> 'human'"
        )
        return [] if found is None else list(found.row(0))

    def scores(
        self, samples: SampleSet, scorers: Sequence[Scorer], policy: GatePolicy, with_why: bool
    ) -> pl.DataFrame:
        """The scores of samples and their labels that the gate reads, with the columns `SCORES`.

        Args:
            samples: The samples.
            scorers: The plan's scorers.
            policy: The plan's gate.
            with_why: Whether `why` is wanted of all scores, and not of those without a value alone.
        """
        keys = {key for name in (None, *policy.recipe) for key in policy.bounds(name)}
        read = {key.rpartition("_")[0] for key in keys} | {policy.rank_by}
        frames = [pl.DataFrame(schema=SCORES)]
        for scorer in scorers:
            name = name_of(scorer)
            labels = sorted(
                key.partition(".")[2] for key in read if key and key.startswith(f"{name}.")
            )
            if name in read or labels:
                found = self._scores_by(samples, scorer, labels, with_why)
                frames += _of_labels(found, scorer, labels)
        return pl.concat(frames)

    def _scores_by(
        self, samples: SampleSet, scorer: Scorer, labels: list[str], with_why: bool
    ) -> pl.DataFrame:
        """As `scores_of` gives them; kept without what scorers had to say of values."""
        maker = maker_of(scorer)

        def read() -> pl.DataFrame:
            return scores_of(samples.store, maker, samples.numbered(), labels)

        found = read() if with_why else None
        state = make_id(self._stored_scores, samples.digest, *astuple(maker), labels)
        content = self._get(
            make_id("scores", self._name, maker.scorer),
            state,
            lambda: _scores_as_json(read() if found is None else found, len(samples), labels),
        )
        return _scores_from_json(content) if found is None else found

    def candidates(
        self, plan: Plan, samples: SampleSet, digest: str, engine: ShardEngine
    ) -> Candidates:
        """The samples as the plan's gate sees them.

        Args:
            plan: The plan.
            samples: Its samples.
            digest: Of its held-out items.
            engine: Where samples are looked up among these, if they have to be.
        """
        rows_id = make_id("rows", self._name, VERSION)
        near = plan.quality.duplicates.near
        fresh: list[Candidates] = []

        def texts(rows: Rows) -> pl.DataFrame:
            frames = map(texts_of, samples.blocks(rows.tolist()))
            return pl.concat([texts_of([]), *frames])

        def look_up() -> dict[str, Any]:
            shards = (shard for part in samples.blocks() for shard in batched(part, SCORED_AT_ONCE))
            held_out = HeldOut(items_of(plan), plan.quality.decontaminate, samples.asked())
            found = pl.concat(
                [pl.DataFrame(schema=ROWS), *engine.map(match_shard, held_out, shards)]
            )
            fresh.append(Candidates.of(found, near, engine.map))
            return fresh[0].as_json()

        def find_alike() -> Alike:
            return Alike.from_json(
                self._get(
                    make_id("alike", self._name, VERSION),
                    make_id(near, FORM_VERSION, samples.digest),
                    make_alike,
                )
            )

        def make_alike() -> dict[str, Any]:
            if fresh:
                return fresh[0].find_alike().as_json()
            everything = (
                text for block in samples.blocks() for text in compared_texts(texts_of(block))
            )
            return Alike.of(everything, near or 1.0, engine.map).as_json()

        content = self._get(rows_id, make_id(digest, FORM_VERSION, samples.digest), look_up)
        if fresh:
            return Candidates(fresh[0].rows, fresh[0].whole, fresh[0].texts, find_alike)
        return Candidates.from_json(content, samples.ids, texts, find_alike)


def _part_of(benchmark: Benchmark, folder: Path) -> Any:
    """What decides a benchmark's items; None where that is not known without reading them."""
    sources = [source.source for source in benchmark.row_sources()]
    if not type(benchmark).__module__.startswith("quality.") or not sources:
        return None
    if any(map(is_hub, sources)):
        return None
    bundled = assets.names("data")
    content = [
        source if source in bundled else hash_of_file(find_file(source, folder))
        for source in sources
    ]
    return [name_of(benchmark), options_of(benchmark), content]


def _of_labels(found: pl.DataFrame, scorer: Scorer, labels: Sequence[str]) -> list[pl.DataFrame]:
    """The scores of a scorer, and of its labels as if each were one, with the columns `SCORES`."""
    name = name_of(scorer)
    frames = [found.select("row", pl.lit(name).alias("scorer"), "value", "why")]
    for label in labels:
        missing = pl.lit(f"{scorer.model} gives no '{label}' here")
        frames.append(
            found.select(
                "row",
                pl.lit(f"{name}.{label}").alias("scorer"),
                pl.col(label).alias("value"),
                pl.when(pl.col(label).is_null()).then(missing).otherwise("why").alias("why"),
            )
        )
    return frames


def _scores_as_json(found: pl.DataFrame, count: int, labels: Sequence[str]) -> dict[str, Any]:
    """Scores of samples, as `scores_of` gives them, without what is said of those with a value."""
    rows = found["row"].to_numpy()
    scored = np.zeros(count, dtype=bool)
    scored[rows] = True
    silent = found.filter(pl.col("value").is_null() | pl.col("value").is_nan())
    columns = {}
    for name in ("value", *labels):
        values = np.full(count, np.nan)
        values[rows] = found[name].fill_null(np.nan).to_numpy()
        infinite = np.flatnonzero(np.isinf(values))  # JSON has no such number
        columns[name] = {
            "values": pl.Series(np.where(np.isfinite(values), values, np.nan))
            .fill_nan(None)
            .to_list(),
            "infinite": [infinite.tolist(), (values[infinite] > 0).tolist()],
        }
    return {
        "missing": np.flatnonzero(~scored).tolist(),
        "why": [silent["row"].to_list(), silent["why"].to_list()],
        "columns": columns,
    }


def _scores_from_json(content: Mapping[str, Any]) -> pl.DataFrame:
    """Of `_scores_as_json`; rows are in order."""
    columns = {}
    for name, column in content["columns"].items():
        values = pl.Series(name, column["values"], dtype=pl.Float64)
        rows, positive = column["infinite"]
        if rows:
            values = values.scatter(rows, [math.inf if sign else -math.inf for sign in positive])
        columns[name] = values
    rows, texts = content["why"]
    why = pl.repeat(None, len(values), dtype=pl.String, eager=True)
    columns["why"] = why.scatter(rows, texts) if rows else why
    found = pl.DataFrame(columns).with_row_index("row")
    missing = pl.Series(content["missing"], dtype=pl.UInt32)
    return found.filter(~pl.col("row").is_in(missing.implode())) if len(missing) else found
