"""Run the curate stage: score samples and choose which to keep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from distill.plan.plan import Plan
from flows.engines.engine import LocalEngine, ShardEngine, engine_of
from flows.runtime.progress import bar, say
from flows.runtime.run import RunContext, open_run
from flows.stages.curated import Curated, find_choices, maker_of
from flows.stages.embed_shard import ShardedEncoder
from flows.stages.gate_inputs import GateInputs
from flows.stages.generate import as_edited, load_samples
from flows.stages.likelihood import BaseLikelihood
from flows.stages.sample_set import SampleSet, batched
from flows.stages.score_shard import (
    SCORED_AT_ONCE,
    ScoredShard,
    score_here,
    score_in_worker,
    sent_scorer,
)
from flows.stages.teacher_client import ScorerClient
from quality.gate.choose import choose, selection_id_of
from quality.review.decisions import decisions
from quality.scoring.scorer import Scorer, ScorerContext
from warehouse.catalog import name_of, options_of, table_of
from warehouse.db.score_frames import redacted_by, scores_of
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Failure, Message, Prompt, Sample, Score, make_id
from warehouse.wording import format_count

STORED_AT_ONCE = 32 * SCORED_AT_ONCE
"""Scores that are gathered before they are stored: a write costs as much as some hundred of them."""
STORED_EVERY_S = 10.0
"""Seconds after which they are stored, however few: a model may take a minute for a shard."""


def curate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the samples of the plan's recipes and choose which to keep."""
    with open_run(plan_path, overrides, "curate") as context:
        curated = curate_stage(context, load_samples(context))
        return {
            **context.result("calls_made", "failures"),
            "selection_id": curated.selection_id,
            "samples": len(curated.sample_set),
            "kept": curated.kept_count,
            "reasons": dict(curated.reasons.most_common()),
        }


def curate_stage(context: RunContext, samples: SampleSet) -> Curated:
    """Score unscored samples, then let the gate choose: one choice per sample.

    Raises:
        NothingToDoError: the gate keeps nothing; the message says what to loosen.
    """
    with context.stage("curate"):
        scorers = prepare_scorers(context)
        for scorer in scorers:
            if scorer.note:
                context.notes.append(scorer.note)
                say(f"note: {scorer.note}")
        with engine_of(context.plan.run) as engine:
            settled = settle(samples, scorers, partial(_score_missing, context, engine, scorers))
            inputs = GateInputs(context.store, context.plan.name)
            curated = apply_gate(context.plan, scorers, settled, inputs, engine)
        context.store.put_gate_inputs(list(inputs.new.values()))
        if not curated.is_recorded:
            rows = curated.choice_rows.with_columns(
                pl.lit(curated.selection_id).alias("selection_id"),
                pl.col("reasons").map_elements(_json, return_dtype=pl.String, skip_nulls=False),
            )
            context.store.put_choices(curated.selection_id, rows)
        context.summarize(
            selection_id=curated.selection_id,
            scorers=[_identity(scorer) for scorer in scorers],  # whose scores decided
        )
        context.count("kept", curated.kept_count)
        if not curated.kept_count:
            raise NothingToDoError(_kept_nothing(curated.reasons))
        return curated


def apply_gate(
    plan: Plan,
    scorers: Sequence[Scorer],
    settled: Settled,
    inputs: GateInputs,
    engine: ShardEngine | None = None,
    with_details: bool = True,
) -> Curated:
    """Apply the plan's gate to recorded scores; makes no calls and writes nothing.

    Args:
        plan: The plan.
        scorers: Its scorers.
        settled: The samples, and what humans decided.
        inputs: What the gate reads of the samples, where that is known.
        engine: Where samples are looked up among held-out items, sketched and embedded; left out,
            here.
        with_details: Whether it is noted what scorers had to say; otherwise no choices on record are
            read, which takes as long.
    """
    samples = settled.samples
    human = settled.human_here
    policy, duplicates = plan.gate_policy, plan.quality.duplicates
    made_by = [
        {**table_of(scorer), "version": scorer.version, "model": scorer.model} for scorer in scorers
    ]
    digest = inputs.held_out_digest(plan)
    selection_id = selection_id_of(samples.digest, made_by, policy, duplicates, digest, human)
    if with_details and not settled.newly_scored:
        known = find_choices(samples, selection_id)
        if known is not None:
            return Curated(samples, known, selection_id, list(scorers), settled.human, True)
    engine = engine or LocalEngine()
    # Of one shard no worker has to start.
    where = engine if len(samples) > SCORED_AT_ONCE else LocalEngine()
    candidates = inputs.candidates(plan, samples, digest, where)
    better = {name_of(scorer): scorer.higher_is_better for scorer in scorers}
    scores = inputs.scores(samples, scorers, policy, with_why=with_details)
    encoder = ShardedEncoder(duplicates.encoder, engine)
    choices = choose(candidates, scores, human, policy, duplicates, better, encoder, with_details)
    return Curated(samples, choices, selection_id, list(scorers), settled.human)


def _json(reasons: pl.Series) -> str:
    return orjson.dumps(reasons.to_list()).decode()


def prepare_scorers(context: RunContext) -> list[Scorer]:
    """The plan's scorers, with access to the run's teacher, judge and base model."""
    plan = context.plan
    tools = ScorerContext(
        teacher=ScorerClient(context, plan.teacher, "asking the teacher again"),
        judge=ScorerClient(context, plan.judge, "asking the judge"),
        prompt_messages=partial(_teacher_messages, context.store),
        likelihood=BaseLikelihood(plan.training.base) if plan.train else None,
        folder=plan.folder,
    )
    return [scorer.with_tools(tools) for scorer in plan.quality.scorers]


def _identity(scorer: Scorer) -> dict[str, Any]:
    """What a scorer's scores carry: its name, version, model and options."""
    return {
        "scorer": name_of(scorer),
        "version": scorer.version,
        "model": scorer.model,
        "options": options_of(scorer),
    }


def _teacher_messages(store: Store, prompt_ids: Sequence[str]) -> dict[str, list[Message]]:
    prompts = store.by_ids(Prompt, "prompt_id", list(prompt_ids))
    return {prompt.prompt_id: prompt.messages for prompt in prompts}


def describe_reasons(reasons: Mapping[str, int]) -> str:
    """The three commonest reasons of choices, with their numbers."""
    commonest = Counter(reasons).most_common(3)
    return "; ".join(f"{number}x {reason}" for reason, number in commonest) or "there are none"


def _kept_nothing(reasons: Mapping[str, int]) -> str:
    if reasons and all(reason.endswith(": not scored") for reason in reasons):
        advice = "every scorer error is in `distill show failures`; fix the scorer"
    elif reasons and all(reason.startswith("status: ") for reason in reasons):
        advice = "no reply could be used; look at them with `distill show samples --only dropped`"
    else:
        advice = "loosen [quality] gate or look at them with `distill show samples --only dropped`"
    number = format_count(sum(reasons.values()), "sample")
    return f"the gate keeps none of {number} ({describe_reasons(reasons)}); {advice}"


def _score_missing(
    context: RunContext, engine: ShardEngine, scorers: Sequence[Scorer], samples: SampleSet
) -> bool:
    """Have every sample scored by every scorer; what is scored already is not scored again.

    Rules go over the samples together, so that each is read once.

    Returns:
        Whether a score was missing.
    """
    newly_scored = False
    numbered = samples.numbered()
    rules = [scorer for scorer in scorers if _goes_to_workers(scorer) and scorer.model == "rule"]
    wanted = np.zeros((len(samples), len(rules)), dtype=bool)
    for scorer in scorers:
        is_missing = np.ones(len(samples), dtype=bool)
        is_missing[scores_of(context.store, maker_of(scorer), numbered)["row"].to_numpy()] = False
        newly_scored |= bool(is_missing.any())
        if scorer in rules:
            wanted[:, rules.index(scorer)] = is_missing
        else:  # one model after the other, since a worker has memory for one
            where = engine if _goes_to_workers(scorer) else LocalEngine()
            _score_by(context, where, [scorer], samples, np.flatnonzero(is_missing))
    for pattern in np.unique(wanted[wanted.any(axis=1)], axis=0):  # mostly one: all of them
        these = list(compress(rules, pattern.tolist()))
        _score_by(context, engine, these, samples, np.flatnonzero((wanted == pattern).all(axis=1)))
    return newly_scored


def _goes_to_workers(scorer: Scorer) -> bool:
    """Whether it needs neither a teacher nor the warehouse, which only the run's process has."""
    return not (scorer.asks or scorer.reads_prompts)


def _score_by(
    context: RunContext,
    engine: ShardEngine,
    scorers: Sequence[Scorer],
    samples: SampleSet,
    rows: NDArray[np.int64],
) -> None:
    """Have some samples scored, and store the scores some thousand at a time."""
    asks = any(scorer.asks for scorer in scorers)  # whose asking is a task with a bar of its own
    size = context.plan.datagen.shard if asks else SCORED_AT_ONCE
    shards = (shard for block in samples.blocks(rows.tolist()) for shard in batched(block, size))
    label = f"scoring {', '.join(map(name_of, scorers))}"
    waiting: list[pl.DataFrame] = []
    stored_at = time.monotonic()

    def is_due() -> bool:
        late = time.monotonic() - stored_at >= STORED_EVERY_S
        return asks or late or sum(map(len, waiting)) >= STORED_AT_ONCE

    def store() -> None:
        nonlocal stored_at
        if waiting:
            context.store.insert_frame(Score, pl.concat(waiting))
            waiting.clear()
        stored_at = time.monotonic()

    with bar(label, 0 if asks else len(rows)) as advance:

        def finished(scored: ScoredShard) -> None:
            advance((len(scored.scores) + len(scored.failed)) // len(scorers))

        try:
            for scored in _scored(engine, scorers, shards, asks, len(rows), finished):
                waiting.append(scored.scores)
                if is_due():
                    store()
                _record_failures(context, scored.failed)
        finally:
            store()


def _scored(
    engine: ShardEngine,
    scorers: Sequence[Scorer],
    shards: Iterator[list[Sample]],
    asks: bool,
    count: int,
    finished: Callable[[ScoredShard], None],
) -> Iterator[ScoredShard]:
    """The scores of samples, shard by shard; `finished` is called in any order."""
    if asks:
        yield from (score_here(scorers, shard) for shard in shards)
    elif engine.is_local or count <= SCORED_AT_ONCE:
        yield from LocalEngine().map(score_here, scorers, shards, finished)
    else:
        yield from engine.map(score_in_worker, list(map(sent_scorer, scorers)), shards, finished)


def _record_failures(context: RunContext, failed: Sequence[tuple[str, str, str]]) -> None:
    by_scorer: dict[str, list[tuple[str, str]]] = {}
    for scorer, sample_id, error in failed:
        by_scorer.setdefault(scorer, []).append((sample_id, error))
    for scorer, several in by_scorer.items():
        say(f"{scorer} failed on {format_count(len(several), 'sample')}, first: {several[0][1]}")
    context.store.insert(
        [
            Failure(
                run_id=context.run.run_id,
                stage="curate",
                subject=sample_id,
                error=f"{scorer}: {error}",
                permanent=False,
            )
            for scorer, sample_id, error in failed
        ]
    )
    context.count("failures", len(failed))


@dataclass(frozen=True)
class Settled:
    """Samples ready for the gate, and the human decisions. `cleaned` are the redacted ones among them,
    by the id of the original."""

    samples: SampleSet
    cleaned: dict[str, Sample]
    human: list[Score]
    newly_scored: bool
    """Whether there were samples without a score."""

    @property
    def human_here(self) -> list[Score]:
        """The decisions on these samples."""
        here = set(self.samples.ids) if self.human else set()
        return [score for score in self.human if score.sample_id in here]


def settle(
    samples: SampleSet,
    scorers: Sequence[Scorer],
    score: Callable[[SampleSet], bool] | None = None,
) -> Settled:
    """Replace samples by their redacted, and then by their human-edited, versions.

    Args:
        samples: The samples.
        scorers: The plan's scorers.
        score: Has samples scored, and tells whether one was not yet; left out, the scores on
            record count.
    """
    newly_scored = score is not None and score(samples)
    store = samples.store
    human = store.read(Score, "scorer = 'human'")
    cleaned = _redacted(samples, scorers)
    if cleaned:
        if score is not None:
            store.insert(list(cleaned.values()))
        ids = [cleaned[each].sample_id if each in cleaned else each for each in samples.ids]
        new = {sample.sample_id: sample for sample in cleaned.values()}
        placed = SampleSet(store, ids, {**samples.unstored, **({} if score is not None else new)})
        samples = as_edited(placed, human)  # a redacted sample may have been edited
        newly_scored |= score is not None and score(samples)
    return Settled(samples, cleaned, _carried(human, cleaned), newly_scored)


def _redacted(samples: SampleSet, scorers: Sequence[Scorer]) -> dict[str, Sample]:
    """The samples with personal data taken out, by the id of the original."""
    numbered = samples.numbered() if any(scorer.redacts for scorer in scorers) else pl.DataFrame()
    texts: dict[int, str] = {}
    for scorer in scorers:
        if scorer.redacts:
            texts.update(redacted_by(samples.store, maker_of(scorer), numbered).iter_rows())
    rows = sorted(texts)
    old = (sample for block in samples.blocks(rows) for sample in block)
    return {
        sample.sample_id: _with_text(sample, texts[row])
        for row, sample in zip(rows, old, strict=True)
        if texts[row] != sample.completion
    }


def _carried(human: Sequence[Score], cleaned: Mapping[str, Sample]) -> list[Score]:
    """Human decisions, those on a sample holding for its redacted form too, unless that has its own."""
    decided = decisions(human)
    return [
        *human,
        *(
            replace(decided[old], sample_id=new.sample_id)
            for old, new in cleaned.items()
            if old in decided and new.sample_id not in decided
        ),
    ]


def _with_text(sample: Sample, text: str) -> Sample:
    version = f"{sample.recipe_version}+redacted"
    made_of = ("sample", sample.prompt_id, sample.call_ids, version, text)
    return replace(sample, sample_id=make_id(*made_of), recipe_version=version, completion=text)
