"""The curate stage: samples -> scores -> choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import flow

from flows.generate import samples_on_hand
from flows.progress import bar, say
from flows.tasks import Work, at_work, shard
from quality.gate import HeldOut, choose, selection_id_of
from warehouse.catalog import name_of, table_of
from warehouse.errors import StageError
from warehouse.records import Choice, Sample, Score

_SHARD = 256


@flow(name="stillhouse-curate", validate_parameters=False)
def curate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the samples of the plan's recipes and choose which to keep."""
    with at_work(plan_path, overrides, "curate") as work:
        samples = samples_on_hand(work)
        choices = curate_stage(work, samples)
        return {
            "run_id": work.run.run_id,
            "plan_hash": work.plan.plan_hash,
            "selection_id": choices[0].selection_id,
            "samples": len(samples),
            "kept": sum(choice.kept for choice in choices),
            "reasons": dict(Counter(choice.reason for choice in choices).most_common()),
        }


def curate_stage(work: Work, samples: Sequence[Sample]) -> list[Choice]:
    """Score what is not scored, then let the gate choose. Choices for every sample.

    Raises:
        StageError: the gate keeps nothing; the message says what to loosen.
    """
    with work.stage("curate"):
        scorers = work.plan.quality.scorers
        scores = _scores(work, scorers, samples)
        held_out = HeldOut.of(
            item
            for benchmark in work.plan.evaluate.benchmarks
            for item in benchmark.items(work.plan.folder)
        )
        policy = work.plan.quality.gate
        if work.plan.datagen.on_length == "keep":
            policy = policy.model_copy(update={"keep_truncated": True})
        made_by = [
            {**table_of(scorer), "version": scorer.version, "model": scorer.model}
            for scorer in scorers
        ]
        selection_id = selection_id_of(
            [sample.sample_id for sample in samples], made_by, policy, held_out
        )
        choices = list(choose(samples, scores, policy, held_out, selection_id))
        work.store.insert(choices)
        work.count("kept", sum(choice.kept for choice in choices))
        if not any(choice.kept for choice in choices):
            raise StageError(_kept_nothing(choices))
        return choices


def _kept_nothing(choices: Sequence[Choice]) -> str:
    reasons = Counter(choice.reason for choice in choices).most_common(3)
    told = "; ".join(f"{number}x {reason}" for reason, number in reasons)
    return (
        f"the gate keeps none of {len(choices)} samples ({told or 'there are none'}); "
        "loosen [quality] gate or look at the samples with `distill show`"
    )


def _scores(work: Work, scorers: Sequence[Any], samples: Sequence[Sample]) -> list[Score]:
    wanted: list[str] = []
    for scorer in scorers:
        ids = {scorer.score_id(sample): sample for sample in samples}
        wanted.extend(ids)
        note = getattr(scorer, "note", None)
        if note:
            work.notes.append(note)
            say(f"note: {note}")
        known = {score.score_id for score in work.store.by_ids(Score, "score_id", list(ids))}
        todo = [sample for score_id, sample in ids.items() if score_id not in known]
        with bar(f"scoring {name_of(scorer)}", len(todo)) as advance:
            for start in range(0, len(todo), _SHARD):
                part = todo[start : start + _SHARD]
                scores: list[Score] = shard(partial(_all, scorer, part))
                work.store.insert(scores)
                advance(len(part))
    found: list[Score] = work.store.by_ids(Score, "score_id", wanted)
    return found


def _all(scorer: Any, samples: Sequence[Sample]) -> list[Score]:
    return list(scorer.score(samples))
