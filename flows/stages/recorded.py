"""Apply the gate to recorded samples and scores; makes no model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.plan.plan import Plan
from flows.stages.curate import Settled, apply_gate, settle
from flows.stages.curated import Curated
from flows.stages.gate_inputs import GateInputs
from flows.stages.generate import load_recorded_samples
from flows.stages.likelihood import BaseLikelihood
from quality.scoring.scorer import Question, Scorer, ScorerContext
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Sample


@dataclass(frozen=True)
class OfflineModel:
    """Has the name of a model and makes no calls."""

    name: str

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """Refuse.

        Raises:
            NothingToDoError: always.
        """
        raise NothingToDoError("this makes no model calls; run `distill curate` first")


def curate_recorded_samples(plan: Plan, store: Store) -> Curated:
    """What `curate` would give by the recorded scores; writes nothing."""
    return choose_recorded_samples(plan, settle_recorded_samples(plan, store))


def settle_recorded_samples(plan: Plan, store: Store) -> Settled:
    """The samples as `curate` would see them; writes nothing."""
    return settle(load_recorded_samples(plan, store).edited, _offline_scorers(plan))


def choose_recorded_samples(
    plan: Plan,
    settled: Settled,
    inputs: GateInputs | None = None,
    with_details: bool = True,
) -> Curated:
    """What the plan's gate keeps of them by the recorded scores; see `apply_gate`."""
    inputs = inputs or GateInputs(settled.samples.store, plan.name)
    return apply_gate(plan, _offline_scorers(plan), settled, inputs, with_details=with_details)


def load_kept_samples(plan: Plan, store: Store) -> list[Sample]:
    """The recorded samples that the gate keeps."""
    curated = curate_recorded_samples(plan, store)
    return curated.sample_set.of(curated.kept_ids).all()


def _offline_scorers(plan: Plan) -> list[Scorer]:
    """The plan's scorers with offline models: they know scores by id and make no calls."""
    tools = ScorerContext(
        teacher=OfflineModel(plan.teacher.identity),
        judge=OfflineModel(plan.judge.identity),
        likelihood=BaseLikelihood(plan.training.base) if plan.train else None,
        folder=plan.folder,
    )
    return [scorer.with_tools(tools) for scorer in plan.quality.scorers]
