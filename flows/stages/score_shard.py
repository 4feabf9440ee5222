"""Score a shard of samples, and look it up among held-out items: what workers run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

from quality.gate.choose import rows_of
from quality.gate.decontaminate import HeldOut
from quality.scoring.scorer import Scorer, ScorerContext, Unscored
from warehouse.catalog import name_of
from warehouse.db.frames import frame_of
from warehouse.errors import PlanError
from warehouse.records import Message, Sample, Score, canonical


@dataclass(frozen=True)
class ScorerOfPlan:
    """A scorer by the plan that names it: one from a user's file can be loaded, not sent."""

    plan_path: str
    overrides: tuple[str, ...]
    table: str
    """Its table in the plan, as `canonical` writes it."""


@dataclass(frozen=True)
class ScoredShard:
    """What scorers gave a shard of samples."""

    scores: pl.DataFrame
    """As `warehouse.db.frames.frame_of` makes it of scores."""
    failed: list[tuple[str, str, str]]
    """(scorer, sample id, error) of each sample on which a scorer failed."""


def score_here(scorers: Sequence[Scorer], samples: Sequence[Sample]) -> ScoredShard:
    """Every score of a shard."""
    scores: list[Score] = []
    failed: list[tuple[str, str, str]] = []
    for scorer in scorers:
        for result in scorer.score(samples):
            if isinstance(result, Unscored):
                failed.append((name_of(scorer), result.sample.sample_id, result.error))
            else:
                scores.append(result)
    return ScoredShard(frame_of(Score, scores), failed)


def score_in_worker(these: Sequence[ScorerOfPlan], samples: Sequence[Sample]) -> ScoredShard:
    """The same, of scorers that are loaded from their plan."""
    return score_here([_scorer(each) for each in these], samples)


def match_shard(held_out: HeldOut, samples: Sequence[Sample]) -> pl.DataFrame:
    """What the gate needs of each sample, with the held-out item that it gives away, if any."""
    return rows_of(samples, [held_out.match(sample) for sample in samples])


def describe_shard(_: None, samples: Sequence[Sample]) -> pl.DataFrame:
    """The same of samples that are not looked up."""
    return rows_of(samples, [None] * len(samples))


def tables_of(plan: Any) -> dict[str, Scorer]:
    """A plan's scorers by their tables."""
    from warehouse.catalog import table_of

    return {canonical(table_of(scorer)): scorer for scorer in plan.quality.scorers}


@lru_cache(16)
def _scorer(of: ScorerOfPlan) -> Scorer:
    from distill.plan.plan import load_plan

    plan = load_plan(of.plan_path, of.overrides)
    tools = ScorerContext(folder=plan.folder, prompt_messages=_no_warehouse)
    return tables_of(plan)[of.table].with_tools(tools)


def _no_warehouse(prompt_ids: Sequence[str]) -> dict[str, list[Message]]:
    raise PlanError(
        "a scorer reads what the teacher was sent, and worker processes have no warehouse; set "
        'run.engine = "local", or give the scorer a `model` of its own, so that it stays in the '
        "run's process"
    )
