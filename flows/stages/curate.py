"""Run the curate stage: score samples and choose which to keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from distill.plan.plan import Plan
from flows.engines.engine import LocalEngine, ShardEngine, engine_of
from flows.runtime.progress import bar, say
from flows.runtime.run import RunContext, open_run
from flows.stages.generate import as_edited, load_samples
from flows.stages.held_out import held_out_of
from flows.stages.likelihood import BaseLikelihood
from flows.stages.score_shard import match_shard, score_here, score_in_worker, sent_scorer
from flows.stages.teacher_client import ScorerClient
from quality.gate.choose import choose, selection_id_of
from quality.review.decisions import decisions
from quality.scoring.scorer import Scorer, ScorerContext, Unscored
from warehouse.catalog import name_of, options_of, table_of
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Choice, Failure, Message, Prompt, Sample, Score, make_id
from warehouse.wording import format_count

SCORED_AT_ONCE = 1024
"""Samples of one shard of a scorer that asks nobody."""


@dataclass(frozen=True)
class Curated:
    """The result of the stage: samples (edited and redacted) and a choice for each."""

    samples: list[Sample]
    choices: list[Choice]
    scores: list[Score] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)

    @property
    def selection_id(self) -> str:
        """The id of the selection."""
        return self.choices[0].selection_id

    @property
    def kept(self) -> list[Sample]:
        """The samples to train on, in the order of their ids."""
        keep = {choice.sample_id for choice in self.choices if choice.kept}
        return sorted((s for s in self.samples if s.sample_id in keep), key=lambda s: s.sample_id)


def curate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the samples of the plan's recipes and choose which to keep."""
    with open_run(plan_path, overrides, "curate") as context:
        curated = curate_stage(context, load_samples(context))
        choices = curated.choices
        return {
            **context.result("calls_made", "failures"),
            "selection_id": curated.selection_id,
            "samples": len(choices),
            "kept": len(curated.kept),
            "reasons": dict(Counter(choice.reason for choice in choices).most_common()),
        }


def curate_stage(context: RunContext, samples: Sequence[Sample]) -> Curated:
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
            settled = settle(context.store, samples, partial(_scores, context, engine, scorers))
            context.store.insert(settled.cleaned)
            choices = apply_gate(
                context.plan, scorers, settled.samples, settled.scores, settled.human, engine
            )
        curated = Curated(settled.samples, choices, [*settled.scores, *settled.human], scorers)
        context.store.insert(curated.choices)
        context.summarize(
            selection_id=curated.selection_id,
            scorers=[_identity(scorer) for scorer in scorers],  # whose scores decided
        )
        context.count("kept", len(curated.kept))
        if not curated.kept:
            raise NothingToDoError(_kept_nothing(curated.choices))
        return curated


def apply_gate(
    plan: Plan,
    scorers: Sequence[Scorer],
    samples: Sequence[Sample],
    scores: Sequence[Score],
    human: Sequence[Score],
    engine: ShardEngine | None = None,
) -> list[Choice]:
    """Apply the plan's gate to scores; makes no calls and writes nothing.

    Args:
        plan: The plan.
        scorers: Its scorers.
        samples: The samples.
        scores: Their scores.
        human: Decisions of humans.
        engine: Where samples are looked up among held-out items; left out, here.
    """
    held_out = held_out_of(plan, samples)
    shards = batched(samples, SCORED_AT_ONCE)
    found = (engine or LocalEngine()).map(match_shard, held_out, shards)
    matches = [match for shard in found for match in shard]
    policy, duplicates = plan.gate_policy, plan.quality.duplicates
    made_by = [
        {**table_of(scorer), "version": scorer.version, "model": scorer.model} for scorer in scorers
    ]
    selection_id = selection_id_of(samples, made_by, policy, duplicates, held_out, human)
    better = {name_of(scorer): scorer.higher_is_better for scorer in scorers}
    return choose(
        samples, [*scores, *human], policy, duplicates, held_out, selection_id, better, matches
    )


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


def batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """The samples in lists of so many."""
    rest = iter(samples)
    while part := list(islice(rest, size)):
        yield part


def describe_reasons(choices: Sequence[Choice]) -> str:
    """The three commonest reasons of choices, with their numbers."""
    reasons = Counter(choice.reason for choice in choices).most_common(3)
    return "; ".join(f"{number}x {reason}" for reason, number in reasons) or "there are none"


def _kept_nothing(choices: Sequence[Choice]) -> str:
    if choices and all(choice.reason.endswith(": not scored") for choice in choices):
        advice = "every scorer error is in `distill show failures`; fix the scorer"
    elif choices and all(choice.reason.startswith("status: ") for choice in choices):
        advice = "no reply could be used; look at them with `distill show samples --only dropped`"
    else:
        advice = "loosen [quality] gate or look at them with `distill show samples --only dropped`"
    return (
        f"the gate keeps none of {format_count(len(choices), 'sample')} "
        f"({describe_reasons(choices)}); {advice}"
    )


def _scores(
    context: RunContext, engine: ShardEngine, scorers: Sequence[Scorer], samples: Sequence[Sample]
) -> list[Score]:
    """Every scorer's score of every sample; what is scored already is not scored again."""
    wanted: list[str] = []
    for scorer in scorers:
        ids = {scorer.score_id(sample): sample for sample in samples}
        wanted.extend(ids)
        known = context.store.known_ids(Score, "score_id", list(ids))
        todo = [sample for score_id, sample in ids.items() if score_id not in known]
        steps = 0 if scorer.asks else len(todo)  # one that asks has a bar of its own
        with bar(f"scoring {name_of(scorer)}", steps) as advance:
            for results in _score_shards(context, engine, scorer, todo, advance):
                context.store.insert([result for result in results if isinstance(result, Score)])
                _record_failures(
                    context, scorer, [result for result in results if isinstance(result, Unscored)]
                )
    return context.store.by_ids(Score, "score_id", wanted)


def _score_shards(
    context: RunContext,
    engine: ShardEngine,
    scorer: Scorer,
    samples: Sequence[Sample],
    advance: Callable[[int], None],
) -> Iterator[list[Score | Unscored]]:
    """The scores of samples, shard by shard; the bar advances with each, whoever has finished it."""
    if scorer.asks:  # its asking is a task already
        for shard in batched(samples, context.plan.datagen.shard):
            yield score_here(scorer, shard)
        return

    def finished(results: list[Score | Unscored]) -> None:
        advance(len(results))

    shards = batched(samples, SCORED_AT_ONCE)
    if engine.is_local or scorer.model != "rule" or len(samples) <= SCORED_AT_ONCE:
        yield from LocalEngine().map(score_here, scorer, shards, finished)
    else:
        yield from engine.map(score_in_worker, sent_scorer(scorer), shards, finished)


def _record_failures(context: RunContext, scorer: Scorer, failed: Sequence[Unscored]) -> None:
    if not failed:
        return
    say(
        f"{name_of(scorer)} failed on {format_count(len(failed), 'sample')}, first: {failed[0].error}"
    )
    context.store.insert(
        [
            Failure(
                run_id=context.run.run_id,
                stage="curate",
                subject=unscored.sample.sample_id,
                error=f"{name_of(scorer)}: {unscored.error}",
                permanent=False,
            )
            for unscored in failed
        ]
    )
    context.count("failures", len(failed))


@dataclass(frozen=True)
class Settled:
    """Samples ready for the gate, with their scores and the human decisions. `cleaned` are the
    redacted ones among them."""

    samples: list[Sample]
    cleaned: list[Sample]
    scores: list[Score]
    human: list[Score]


def settle(
    store: Store,
    samples: Sequence[Sample],
    scored: Callable[[Sequence[Sample]], list[Score]],
) -> Settled:
    """Replace samples by their redacted, and then by their human-edited, versions.

    `scored` gives the scores of samples, made now or on record.
    """
    scores = scored(samples)
    placed, cleaned = _redacted(samples, scores)
    if cleaned:
        placed = as_edited(store, placed)  # a redacted sample may have been edited
        scores = scored(placed)
    human = _carried(store.read(Score, "scorer = 'human'"), cleaned)
    return Settled(placed, list(cleaned.values()), scores, human)


def _redacted(
    samples: Sequence[Sample], scores: Sequence[Score]
) -> tuple[list[Sample], dict[str, Sample]]:
    """Samples after redaction, and the redacted ones by the id of the original."""
    texts = {
        score.sample_id: score.details["redacted"]
        for score in scores
        if score.details and isinstance(score.details.get("redacted"), str)
    }
    placed = list(_placed(samples, texts))
    pairs = zip(samples, placed, strict=True)
    return placed, {old.sample_id: new for old, new in pairs if old.sample_id != new.sample_id}


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


def _placed(samples: Sequence[Sample], texts: dict[str, str]) -> Iterator[Sample]:
    for sample in samples:
        text = texts.get(sample.sample_id, sample.completion)
        if text == sample.completion:
            yield sample
            continue
        version = f"{sample.recipe_version}+redacted"
        made_of = ("sample", sample.prompt_id, sample.call_ids, version, text)
        yield replace(sample, sample_id=make_id(*made_of), recipe_version=version, completion=text)
