"""Score a shard of samples, and look it up among held-out items: what workers run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from quality.gate.decontaminate import HeldOut, Match
from quality.scoring.scorer import Scorer, ScorerContext, Unscored
from warehouse.errors import PlanError
from warehouse.records import Message, Sample, Score, canonical


@dataclass(frozen=True)
class ScorerOfPlan:
    """A scorer by the plan that names it: one from a user's file can be loaded, not sent."""

    plan_path: str
    overrides: tuple[str, ...]
    table: str
    """Its table in the plan, as `canonical` writes it."""


def score_here(scorer: Scorer, samples: Sequence[Sample]) -> list[Score | Unscored]:
    """Every score of a shard."""
    return list(scorer.score(samples))


def score_in_worker(of: ScorerOfPlan, samples: Sequence[Sample]) -> list[Score | Unscored]:
    """The same, of a scorer that is loaded from its plan."""
    return score_here(_scorer(of), samples)


def match_shard(held_out: HeldOut, samples: Sequence[Sample]) -> list[Match | None]:
    """The held-out item that each sample gives away, if any."""
    return [held_out.match(sample) for sample in samples]


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
