"""Gather the card of a data set from a plan's records; makes no calls."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from datagen.imported_calls import IMPORTED
from distill.plan.plan import Plan
from distill.report.data_card import (
    DataCard,
    DataSplit,
    RecipeShare,
    ScoreSummary,
    TeacherShare,
    WholeCost,
    public_name,
    render_data_card,
)
from distill.report.model_card import public
from flows.data.rows import ExportedSample
from flows.data.sources import public_origin
from flows.runtime.run import git_sha, versions
from flows.stages.curated import Curated
from quality.scoring.scorer import Scorer
from warehouse.catalog import name_of, options_of
from warehouse.db.store import Store

_MEANINGS = {
    "messages": "the conversation: what is asked, then the reply to learn, role assistant",
    "tools": "JSON schemas of the tools that may be called, as JSON text",
    "id": "of the sample, a hash of its content",
    "recipe": "the recipe that made it",
    "scores": "by scorer; null where it abstained",
    "status": "ok, refused, truncated or invalid",
    "kept": "whether the gate kept it",
    "reason": "the first reason why the gate kept or dropped it",
    "reasons": "all reasons why it was dropped",
    "reference": "right answers that the source gives",
    "passage": "the text that the question is about",
    "source": "the file or data set that it is from, with row, page and headings",
    "question": "the question alone",
    "call_ids": "the calls to the teacher behind it",
    "facts": "what else the recipe says of it, as JSON text",
}


def card_of(
    plan: Plan,
    store: Store,
    curated: Curated,
    samples: Sequence[ExportedSample],
    splits: Sequence[DataSplit],
    columns: Sequence[str],
    which: str,
    holdout: float,
) -> str:
    """The card of the exported samples, as Markdown."""
    return render_data_card(
        DataCard(
            name=plan.name,
            which=which,
            splits=list(splits),
            columns=[(name, _MEANINGS[name]) for name in columns],
            samples=len(curated.sample_set),
            kept=curated.kept_count,
            exported=len(samples),
            reasons=dict(Counter(c.reason for c in curated.choices if not c.kept).most_common()),
            recipes=_recipes(plan, curated, samples),
            sources=_sources(samples),
            teachers=_teachers(plan, store, samples),
            whole=_whole_cost(store, curated),
            sampling={
                key: value for key, value in vars(plan.datagen.sampling).items() if _is_set(value)
            },
            benchmarks=list(dict.fromkeys(b.label for b in plan.evaluate.every_benchmark)),
            gate=_gate(plan),
            scores=[_summary(scorer, samples) for scorer in curated.scorers],
            holdout=holdout,
            plan_hash=plan.plan_hash,
            selection_id=curated.selection_id,
            git_sha=git_sha(),
            versions={name: versions()[name] for name in ("python", "stillhouse")},
            language=plan.language,
        )
    )


def _recipes(plan: Plan, curated: Curated, samples: Sequence[ExportedSample]) -> list[RecipeShare]:
    """What each recipe gave; one that stands in the plan several times has all its options."""
    made = Counter(sample.recipe for sample in curated.samples)
    here = Counter(each.sample.recipe for each in samples)
    options: dict[str, list[dict[str, Any]]] = {}
    for recipe in plan.datagen.recipe:
        given = {key: value for key, value in options_of(recipe).items() if value is not None}
        options.setdefault(name_of(recipe), []).append(public(given))
    return [RecipeShare(name, every, made[name], here[name]) for name, every in options.items()]


def _sources(samples: Sequence[ExportedSample]) -> dict[str, int]:
    """How many samples come from each file or data set."""
    counts = Counter(public_origin(each.source or "") or "not recorded" for each in samples)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _teachers(plan: Plan, store: Store, samples: Sequence[ExportedSample]) -> list[TeacherShare]:
    """The teachers behind the samples, with the calls, tokens and costs of these samples."""
    wanted = {call_id for each in samples for call_id in each.sample.call_ids}
    calls = store.query(
        "SELECT call_id, teacher, prompt_tokens, completion_tokens, cost_usd FROM calls"
    )
    by_teacher: dict[str, list[dict[str, Any]]] = {}
    for call in calls.iter_rows(named=True):
        if call["call_id"] in wanted:
            by_teacher.setdefault(_teacher_name(plan, call["teacher"]), []).append(call)
    shares = []
    for name, own in sorted(by_teacher.items()):
        costs = [call["cost_usd"] for call in own if call["cost_usd"] is not None]
        shares.append(
            TeacherShare(
                name=name,
                calls=len({call["call_id"] for call in own}),
                prompt_tokens=sum(call["prompt_tokens"] for call in own),
                completion_tokens=sum(call["completion_tokens"] for call in own),
                cost_usd=sum(costs) if costs else None,
                unpriced=len(own) - len(costs),
            )
        )
    return shares


def _whole_cost(store: Store, curated: Curated) -> WholeCost:
    """The calls behind all samples of the plan, kept or not."""
    wanted = {call_id for sample in curated.samples for call_id in sample.call_ids}
    calls = store.query("SELECT call_id, cost_usd, created_at FROM calls")
    own = [call for call in calls.iter_rows(named=True) if call["call_id"] in wanted]
    costs = [call["cost_usd"] for call in own if call["cost_usd"] is not None]
    days = sorted(f"{call['created_at']:%Y-%m-%d}" for call in own) or [""]
    return WholeCost(
        calls=len({call["call_id"] for call in own}),
        cost_usd=sum(costs) if costs else None,
        unpriced=len(own) - len(costs),
        first=days[0],
        last=days[-1],
    )


def _teacher_name(plan: Plan, identity: str) -> str:
    """What a reader calls a teacher; the identity of a model's file is a hash."""
    if identity == plan.teacher.identity:
        return str(public(getattr(plan.teacher, "model", name_of(plan.teacher))))
    if identity.startswith(IMPORTED):
        return f"{identity.removeprefix(IMPORTED)} (imported)"
    return public_name(identity)


def _gate(plan: Plan) -> dict[str, Any]:
    """The gate's keys that are set, with what counts as a duplicate."""
    policy = plan.gate_policy.model_dump(mode="json")
    given = {key: value for key, value in policy.items() if _is_set(value)}
    return {**given, "duplicates": plan.quality.duplicates.model_dump(mode="json")}


def _is_set(value: Any) -> bool:
    """Whether a key says something; a bound or a temperature of 0 does."""
    return value is not None and value is not False and value not in ([], {})


def _summary(scorer: Scorer, samples: Sequence[ExportedSample]) -> ScoreSummary:
    name = name_of(scorer)
    values = sorted(value for each in samples if (value := each.scores.get(name)) is not None)
    return ScoreSummary(
        name=name,
        version=scorer.version,
        model=public_name(scorer.model),
        options=public(options_of(scorer)),
        meaning=(type(scorer).__doc__ or "").partition("\n")[0].strip(),
        better={True: "high", False: "low", None: "neither"}[scorer.higher_is_better],
        scored=len(values),
        mean=statistics.fmean(values) if values else None,
        low=_quantile(values, 0.05),
        median=_quantile(values, 0.5),
        high=_quantile(values, 0.95),
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest of sorted values at a share of them."""
    return values[round(share * (len(values) - 1))] if values else None
