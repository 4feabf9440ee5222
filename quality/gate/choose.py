"""Choose samples by their scores, each choice with its first reason and all its reasons.

Rules speak in this order: held out, a human's decision, status, bounds, length; then, among
what is left, duplicates; then, among what is left, how many and which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from quality.gate.decontaminate import HeldOut, Match
from quality.gate.dedup import form, near, repeats, semantic
from quality.gate.diversity import balance, spread
from quality.gate.policy import Duplicates, GatePolicy
from quality.review.decisions import decisions
from warehouse.records import Choice, Sample, Score, make_id
from warehouse.text.words import count_words
from warehouse.tool_calls import text_of

_GROUPS: dict[str, Callable[[Sample], str]] = {
    "recipe": lambda sample: sample.recipe,
    "question": lambda sample: form(sample.question),
    "completion": lambda sample: form(sample.completion),
}


def selection_id_of(
    samples: Sequence[Sample],
    scorers: Sequence[Mapping[str, Any]],
    policy: GatePolicy,
    duplicates: Duplicates,
    held_out: HeldOut,
    human: Iterable[Score] = (),
) -> str:
    """The id of a selection: what went in, who scored, the policy, what is held out, who decided."""
    here = sorted(sample.sample_id for sample in samples)
    decided = decisions(human)
    return make_id(
        "selection",
        here,
        [dict(scorer) for scorer in scorers],
        policy.model_dump(),
        duplicates.model_dump(),
        held_out.digest,
        sorted(decided[sample_id].score_id for sample_id in set(here) & set(decided)),
    )


def decide(samples: pl.DataFrame, scores: pl.DataFrame, policy: GatePolicy) -> pl.DataFrame:
    """What the rules on single samples say: one row per sample, in order.

    Args:
        samples: Columns sample_id, recipe, status, words, held_out (the kind of a match with a
            held-out item, or null) and human (1.0 accepted, 0.0 rejected, or null).
        scores: Columns sample_id, scorer (`toxicity`, or `toxicity.insult` for a label), value,
            why.
        policy: The gate's policy.

    Returns:
        sample_id, reasons (an empty list: kept so far).
    """
    rules: list[pl.Expr] = [_status(policy)]
    frame = samples
    keys = {key for name in (None, *policy.recipe) for key in policy.bounds(name)}
    order = [*policy.thresholds, *sorted(keys - set(policy.thresholds))]
    for key in order:
        scorer = key.rpartition("_")[0]
        own = scores.filter(pl.col("scorer") == scorer).select(
            "sample_id", pl.col("value").alias(f"value {key}"), pl.col("why").alias(f"why {key}"),
            pl.lit(True).alias(f"scored {key}"),
        )  # fmt: skip
        frame = frame.join(own, on="sample_id", how="left", maintain_order="left")
        rules.append(_bound(key, scorer, policy))
    if policy.max_words is not None:
        reason = f"more than {policy.max_words} words"
        rules.append(pl.when(pl.col("words") > policy.max_words).then(pl.lit(reason)))
    accepted = (pl.col("human") == 1).fill_null(False)
    rules = [pl.when(~accepted).then(rule) for rule in rules]
    first = [
        pl.when(pl.col("held_out").is_not_null()).then("held_out: " + pl.col("held_out")),
        pl.when(pl.col("human") == 0).then(pl.lit("human: rejected")),
    ]
    reasons = pl.concat_list([*first, *rules]).list.drop_nulls().alias("reasons")
    return frame.select("sample_id", reasons)


def _status(policy: GatePolicy) -> pl.Expr:
    return pl.when(~pl.col("status").is_in(policy.fit_statuses)).then("status: " + pl.col("status"))


def _bound(key: str, scorer: str, policy: GatePolicy) -> pl.Expr:
    value, why = pl.col(f"value {key}"), pl.col(f"why {key}")
    bound = pl.lit(policy.thresholds.get(key), dtype=pl.Float64)
    for recipe, bounds in policy.recipe.items():
        if key in bounds:
            bound = pl.when(pl.col("recipe") == recipe).then(pl.lit(bounds[key])).otherwise(bound)
    outside = value < bound if key.endswith("_min") else value > bound
    side = "below" if key.endswith("_min") else "above"
    lenient = policy.keeps_abstained(scorer.partition(".")[0])
    silent = value.is_null() | value.is_nan()
    abstained = (
        pl.lit(None) if lenient else pl.lit(f"{scorer} abstained: ") + why.fill_null("no number")
    )
    bound_text = bound.map_elements(lambda b: f"{b:g}", return_dtype=pl.String) if policy.recipe else (
        pl.lit(f"{policy.thresholds[key]:g}")
    )  # fmt: skip
    return (
        pl.when(bound.is_null())
        .then(pl.lit(None, dtype=pl.String))
        .when(pl.col(f"scored {key}").is_null())
        .then(pl.lit(f"{scorer}: not scored"))
        .when(silent)
        .then(abstained)
        .when(outside)
        .then(pl.lit(f"{scorer} {side} ") + bound_text)
    )


def choose(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    policy: GatePolicy,
    duplicates: Duplicates,
    held_out: HeldOut,
    selection_id: str,
    higher_is_better: Mapping[str, bool | None],
    matches: Sequence[Match | None] | None = None,
) -> list[Choice]:
    """One choice per sample, in order. A held-out item is never kept, whatever the policy says.

    `scores` hold those of scorers and the decisions of humans (scorer `human`);
    `higher_is_better` has the plan's scorers by name, of which `rank_by` may name any; `matches` are
    the samples' matches with held-out items where they are known.

    Raises:
        AssetError: the encoder of a semantic comparison could not be downloaded.
    """
    if matches is None:
        matches = [held_out.match(sample) for sample in samples]
    decided = decisions([score for score in scores if score.scorer == "human"])
    human = [decided[s.sample_id].value if s.sample_id in decided else None for s in samples]
    table = pl.DataFrame(
        {
            "sample_id": [sample.sample_id for sample in samples],
            "recipe": [sample.recipe for sample in samples],
            "status": [sample.status for sample in samples],
            "words": [count_words(sample.completion) for sample in samples],
            "held_out": [match.kind if match else None for match in matches],
            "human": human,
        },
        schema_overrides={"held_out": pl.String, "human": pl.Float64, "sample_id": pl.String},
    )
    reasons = [list(row) for row in decide(table, _frame(scores, policy), policy)["reasons"]]
    details: list[dict[str, Any]] = [{} for _ in samples]
    for number, match in enumerate(matches):
        if match:
            details[number]["held_out"] = match.as_json()
    _tell_why(samples, scores, reasons, details)
    _drop_duplicates(samples, duplicates, reasons, details)
    _drop_beyond(samples, scores, policy, reasons, higher_is_better)
    return [
        Choice(
            selection_id=selection_id,
            sample_id=sample.sample_id,
            kept=not why,
            reason=why[0] if why else "kept",
            reasons=why,
            details=more or None,
        )
        for sample, why, more in zip(samples, reasons, details, strict=True)
    ]


def _frame(scores: Sequence[Score], policy: GatePolicy) -> pl.DataFrame:
    keys = {key for name in (None, *policy.recipe) for key in policy.bounds(name)}
    labelled = sorted({key.rpartition("_")[0] for key in keys if "." in key})
    rows = [(s.sample_id, s.scorer, s.value, s.why) for s in scores]
    for score in scores:
        labels = (score.details or {}).get("labels") or {}
        for key in labelled:
            scorer, _, name = key.partition(".")
            if scorer == score.scorer:
                why = score.why if name in labels else f"{score.model} gives no '{name}' here"
                rows.append((score.sample_id, key, labels.get(name), why))
    schema = {"sample_id": pl.String, "scorer": pl.String, "value": pl.Float64, "why": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").unique(
        ["sample_id", "scorer"], keep="last", maintain_order=True
    )


def _tell_why(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    reasons: Sequence[Sequence[str]],
    details: Sequence[dict[str, Any]],
) -> None:
    """What the scorers that spoke against a sample had to say."""
    explanations = {(score.sample_id, score.scorer): score.why for score in scores if score.why}
    for sample, row, more in zip(samples, reasons, details, strict=True):
        against = {reason.split(" ")[0].partition(".")[0].rstrip(":") for reason in row}
        why = {
            name: explanations[key]
            for name in sorted(against)
            if (key := (sample.sample_id, name)) in explanations
        }
        if why:
            more["why"] = why


def _drop_duplicates(
    samples: Sequence[Sample],
    policy: Duplicates,
    reasons: list[list[str]],
    details: list[dict[str, Any]],
) -> None:
    """Drop what was said before, of what is left; the first one stays."""

    def drop(
        reason: str, duplicates: Sequence[tuple[int, float] | None], left: Sequence[int]
    ) -> None:
        for number, hit in zip(left, duplicates, strict=True):
            if hit is not None:
                reasons[number].append(reason)
                first = samples[left[hit[0]]].sample_id
                details[number]["duplicate"] = {"of": first, "similarity": round(hit[1], 4)}

    def texts(of: Sequence[int]) -> list[str]:
        return [f"{_asked(samples[n])}\n{samples[n].completion}" for n in of]

    left = _left(reasons)
    same = repeats([_whole(samples[n]) for n in left])
    drop("duplicate", [None if first is None else (first, 1.0) for first in same], left)
    if policy.near is not None:
        left = _left(reasons)
        drop("near duplicate", near(texts(left), policy.near), left)
    if policy.semantic is not None:
        from quality.models.embeddings import Encoder

        left = _left(reasons)
        duplicates = semantic(texts(left), policy.semantic, Encoder(policy.encoder))
        drop("semantic duplicate", duplicates, left)


def _drop_beyond(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    policy: GatePolicy,
    reasons: list[list[str]],
    higher_is_better: Mapping[str, bool | None],
) -> None:
    """Drop what is beyond `top_k`, of what is left."""
    left = _left(reasons)
    if policy.top_k is None or len(left) <= policy.top_k:
        return
    if policy.diverse:
        taken = spread([_asked(samples[n]) for n in left], policy.top_k)
        reason = f"not among the {policy.top_k} most diverse"
    else:
        ranks = _ranks([samples[n] for n in left], scores, policy.rank_by, higher_is_better)
        best = f" by {policy.rank_by}" if policy.rank_by else ""
        if policy.balance_by:
            groups = [_GROUPS[policy.balance_by](samples[n]) for n in left]
            reason = f"beyond its share of {policy.top_k} over each {policy.balance_by}{best}"
        else:
            groups = ["all"] * len(left)
            reason = f"not among the best {policy.top_k}{best}"
        taken = balance(groups, ranks, policy.top_k)
    keep = {left[n] for n in taken}
    for number in left:
        if number not in keep:
            reasons[number].append(reason)


def _ranks(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    scorer: str | None,
    higher_is_better: Mapping[str, bool | None],
) -> list[float] | None:
    """How good each sample is by a scorer, higher is better; without a score it comes last."""
    if scorer is None:
        return None
    sign = -1.0 if higher_is_better.get(scorer) is False else 1.0
    values = {s.sample_id: s.value for s in scores if s.scorer == scorer and s.value is not None}
    return [sign * values.get(sample.sample_id, -sign * float("inf")) for sample in samples]


def _left(reasons: Sequence[Sequence[str]]) -> list[int]:
    return [number for number, row in enumerate(reasons) if not row]


def _whole(sample: Sample) -> str:
    messages = [f"{message['role']} {form(text_of(message))}" for message in sample.messages]
    return "\n".join([*messages, form(sample.completion)])


def _asked(sample: Sample) -> str:
    return sample.question or str(sample.messages[-1]["content"])
