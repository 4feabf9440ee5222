"""Apply the gate to recorded samples and scores; makes no model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.plan.plan import Plan
from flows.stages.curate import Curated, apply_gate, settle
from flows.stages.generate import load_recorded_samples
from flows.stages.likelihood import BaseLikelihood
from quality.scoring.scorer import Question, Scorer, ScorerContext
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Choice, Sample, Score


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


def choose_recorded_samples(plan: Plan, store: Store) -> tuple[list[Sample], list[Choice]]:
    """Samples as `curate` would see them, and its choices by the recorded scores."""
    curated = curate_recorded_samples(plan, store)
    return curated.samples, curated.choices


def curate_recorded_samples(plan: Plan, store: Store) -> Curated:
    """What `curate` would give by the recorded scores; writes nothing."""
    scorers = _offline_scorers(plan)

    def on_record(samples: Sequence[Sample]) -> list[Score]:
        wanted = [scorer.score_id(sample) for scorer in scorers for sample in samples]
        return store.by_ids(Score, "score_id", wanted)

    settled = settle(store, load_recorded_samples(plan, store).edited, on_record)
    choices = apply_gate(plan, scorers, settled.samples, settled.scores, settled.human)
    return Curated(settled.samples, choices, [*settled.scores, *settled.human], scorers)


def load_kept_samples(plan: Plan, store: Store) -> list[Sample]:
    """The recorded samples that the gate keeps."""
    samples, choices = choose_recorded_samples(plan, store)
    keep = {choice.sample_id for choice in choices if choice.kept}
    return [sample for sample in samples if sample.sample_id in keep]


def _offline_scorers(plan: Plan) -> list[Scorer]:
    """The plan's scorers with offline models: they know scores by id and make no calls."""
    tools = ScorerContext(
        teacher=OfflineModel(plan.teacher.identity),
        judge=OfflineModel(plan.judge.identity),
        likelihood=BaseLikelihood(plan.training.base) if plan.train else None,
        folder=plan.folder,
    )
    return [scorer.with_tools(tools) for scorer in plan.quality.scorers]
