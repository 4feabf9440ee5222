"""Choose samples by their scores, each choice with its first reason and all its reasons.

Rules speak in this order: held out, a human's decision, status, bounds, length; then, among
what is left, duplicates; then, among what is left, how many and which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from quality.gate.candidates import TEXTS, Candidates
from quality.gate.dedup import Embeds, form, semantic
from quality.gate.diversity import balance, spread
from quality.gate.policy import Duplicates, GatePolicy
from quality.review.decisions import decisions
from warehouse.records import Score, make_id

VERSION = "3"
"""Of the gate's rules and of how duplicates are found; a change makes it choose again."""
SCORES = {"row": pl.UInt32, "scorer": pl.String, "value": pl.Float64, "why": pl.String}
"""The columns of scores: whose they are, as the number of its row, and who gave them."""


def selection_id_of(
    samples: str,
    scorers: Sequence[Mapping[str, Any]],
    policy: GatePolicy,
    duplicates: Duplicates,
    held_out: str,
    human: Iterable[Score] = (),
) -> str:
    """The id of a selection: what went in, who scored, the policy, what is held out, who decided.

    Args:
        samples: Identifies the samples and their order, of which the first of equal ones stays.
        scorers: Name, version, model and options of each.
        policy: The gate's policy.
        duplicates: What is dropped as said before.
        held_out: The digest of the items (`quality.gate.decontaminate.digest_of`).
        human: The decisions of humans on these samples; other scores are passed over.
    """
    return make_id(
        "selection",
        VERSION,
        samples,
        [dict(scorer) for scorer in scorers],
        policy.model_dump(),
        duplicates.model_dump(),
        held_out,
        sorted(decision.score_id for decision in decisions(human).values()),
    )


def decide(samples: pl.DataFrame, scores: pl.DataFrame, policy: GatePolicy) -> pl.DataFrame:
    """What the rules on single samples say: one row per sample, in order.

    Args:
        samples: Columns row (its number), recipe, status, words, held_out (the kind of a match
            with a held-out item, or null) and human (1.0 accepted, 0.0 rejected, or null).
        scores: The columns `SCORES`; scorer is `toxicity`, or `toxicity.insult` for a label.
        policy: The gate's policy.

    Returns:
        row, reasons (an empty list: kept so far).
    """
    rules: list[pl.Expr] = [_status(policy)]
    frame = samples
    keys = {key for name in (None, *policy.recipe) for key in policy.bounds(name)}
    order = [*policy.thresholds, *sorted(keys - set(policy.thresholds))]
    for key in order:
        scorer = key.rpartition("_")[0]
        own = scores.filter(pl.col("scorer") == scorer).select(
            "row", pl.col("value").alias(f"value {key}"), pl.col("why").alias(f"why {key}"),
            pl.lit(True).alias(f"scored {key}"),
        )  # fmt: skip
        frame = frame.join(own, on="row", how="left", maintain_order="left")
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
    return frame.select("row", reasons)


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
    candidates: Candidates,
    scores: pl.DataFrame,
    human: Iterable[Score],
    policy: GatePolicy,
    duplicates: Duplicates,
    higher_is_better: Mapping[str, bool | None],
    encoder: Embeds | None = None,
) -> pl.DataFrame:
    """One choice per sample, in order. A held-out item is never kept, whatever the policy says.

    Args:
        candidates: The samples.
        scores: Those of the scorers, with the columns `SCORES`; of several of one scorer the last
            one counts.
        human: The decisions of humans (scorer `human`); other scores are passed over.
        policy: The gate's policy.
        duplicates: What is dropped as said before.
        higher_is_better: The plan's scorers by name, of which `rank_by` may name any.
        encoder: What embeds texts for a semantic comparison; left out, the policy's, here.

    Returns:
        sample_id, kept, reason, reasons (list of strings), details (JSON text, or null).

    Raises:
        AssetError: the encoder of a semantic comparison could not be downloaded.
    """
    decided = {sample_id: score.value for sample_id, score in decisions(human).items()}
    of_humans = pl.DataFrame(
        {"sample_id": list(decided), "human": list(decided.values())},
        schema={"sample_id": pl.String, "human": pl.Float64},
    )
    table = candidates.rows.with_row_index("row").join(
        of_humans, on="sample_id", how="left", maintain_order="left"
    )
    scores = scores.unique(["row", "scorer"], keep="last", maintain_order=True)
    reasons = decide(table, scores, policy)["reasons"]
    gate = _Choosing(candidates, reasons)
    gate.tell_why(scores)
    _drop_duplicates(gate, duplicates, encoder)
    _drop_beyond(gate, scores, policy, higher_is_better)
    return gate.choices()


class _Choosing:
    """What speaks against each sample so far."""

    def __init__(self, candidates: Candidates, reasons: pl.Series) -> None:
        self.candidates = candidates
        self.samples = samples = candidates.rows
        self._reasons = reasons
        self._later: dict[int, str] = {}  # row -> why it is dropped, of what is left by the rules
        self._is_left: NDArray[np.bool_] = (reasons.list.len() == 0).to_numpy().copy()
        self._details: dict[int, dict[str, Any]] = {}
        matched = samples.with_row_index("row").filter(pl.col("match").is_not_null())
        for row, match in matched.select("row", "match").iter_rows():
            self._details[row] = {"held_out": orjson.Fragment(match)}

    @property
    def left(self) -> NDArray[np.int64]:
        """The rows that nothing speaks against."""
        return np.flatnonzero(self._is_left)

    def column(self, name: str, rows: NDArray[np.int64]) -> list[str]:
        """A column of some rows."""
        frame = self.candidates.texts(rows) if name in TEXTS else self.samples[rows]
        return frame[name].to_list()

    def drop(self, row: int, reason: str) -> None:
        """Drop a row that was left."""
        self._later[row] = reason
        self._is_left[row] = False

    def drop_repeat(self, row: int, reason: str, of: int, similarity: float) -> None:
        """Drop a row as said before by another one."""
        self.drop(row, reason)
        first = self.samples["sample_id"][of]
        found = {"of": first, "similarity": round(similarity, 4)}
        self._details.setdefault(row, {})["duplicate"] = found

    def tell_why(self, scores: pl.DataFrame) -> None:
        """Note what the scorers that spoke against a sample had to say."""
        name = (
            pl.col("reasons")
            .str.extract("^([^ ]*)")
            .str.extract("^([^.]*)")
            .str.strip_chars_end(":")
        )
        against = (
            pl.DataFrame({"reasons": self._reasons})
            .with_row_index("row")
            .explode("reasons")
            .drop_nulls()
            .select("row", name.alias("scorer"))
            .unique()
        )
        told = against.join(scores.filter(pl.col("why").str.len_bytes() > 0), on=["row", "scorer"])
        for row, scorer, why in (
            told.select("row", "scorer", "why").sort("row", "scorer").iter_rows()
        ):
            self._details.setdefault(row, {}).setdefault("why", {})[scorer] = why

    def choices(self) -> pl.DataFrame:
        """A choice for each row."""
        rows = pl.Series("row", list(self._later), dtype=pl.UInt32)
        later = pl.DataFrame(
            {"row": rows, "later": list(self._later.values())},
            schema_overrides={"later": pl.String},
        )
        details = pl.DataFrame(
            {
                "row": pl.Series(list(self._details), dtype=pl.UInt32),
                "details": pl.Series(
                    [orjson.dumps(each).decode() for each in self._details.values()],
                    dtype=pl.String,
                ),
            }
        )
        found = pl.DataFrame(
            {"sample_id": self.samples["sample_id"], "reasons": self._reasons}
        ).with_row_index("row")
        found = found.join(later, on="row", how="left", maintain_order="left")
        found = found.join(details, on="row", how="left", maintain_order="left")
        reasons = pl.concat_list(pl.col("reasons"), pl.col("later")).list.drop_nulls()
        found = found.with_columns(reasons.alias("reasons"))
        return found.select(
            "sample_id",
            (pl.col("reasons").list.len() == 0).alias("kept"),
            pl.col("reasons").list.first().fill_null("kept").alias("reason"),
            "reasons",
            "details",
        )


def _drop_duplicates(gate: _Choosing, policy: Duplicates, encoder: Embeds | None) -> None:
    """Drop what was said before, of what is left; the first one stays."""
    candidates = gate.candidates
    repeats, firsts = candidates.whole.among(gate.left)
    for row, of in zip(repeats.tolist(), firsts.tolist(), strict=True):
        gate.drop_repeat(row, "duplicate", of, 1.0)
    if policy.near is not None:
        for row, hit in candidates.alike.drops(gate.left, candidates.compared_texts):
            gate.drop_repeat(row, "near duplicate", *hit)
    if policy.semantic is not None:
        from quality.models.embeddings import Encoder

        left = gate.left
        encoder = encoder or Encoder(policy.encoder)
        hits = semantic(candidates.compared_texts(left), policy.semantic, encoder)
        for row, found in zip(left.tolist(), hits, strict=True):
            if found is not None:
                gate.drop_repeat(row, "semantic duplicate", int(left[found[0]]), found[1])


def _drop_beyond(
    gate: _Choosing,
    scores: pl.DataFrame,
    policy: GatePolicy,
    higher_is_better: Mapping[str, bool | None],
) -> None:
    """Drop what is beyond `top_k`, of what is left."""
    left = gate.left
    if policy.top_k is None or len(left) <= policy.top_k:
        return
    if policy.diverse:
        taken = spread(gate.column("asked", left), policy.top_k)
        reason = f"not among the {policy.top_k} most diverse"
    else:
        ranks = _ranks(left, scores, policy.rank_by, higher_is_better)
        best = f" by {policy.rank_by}" if policy.rank_by else ""
        if policy.balance_by:
            groups = gate.column(policy.balance_by, left)
            if policy.balance_by != "recipe":
                groups = [form(text) for text in groups]
            reason = f"beyond its share of {policy.top_k} over each {policy.balance_by}{best}"
        else:
            groups = ["all"] * len(left)
            reason = f"not among the best {policy.top_k}{best}"
        taken = balance(groups, ranks, policy.top_k)
    keep = {int(left[n]) for n in taken}
    for row in left.tolist():
        if row not in keep:
            gate.drop(row, reason)


def _ranks(
    left: NDArray[np.int64],
    scores: pl.DataFrame,
    scorer: str | None,
    higher_is_better: Mapping[str, bool | None],
) -> list[float] | None:
    """How good each row is by a scorer, higher is better; without a score it comes last."""
    if scorer is None:
        return None
    sign = -1.0 if higher_is_better.get(scorer) is False else 1.0
    own = scores.filter((pl.col("scorer") == scorer) & pl.col("value").is_not_null())
    values = dict(own.select("row", "value").iter_rows())
    return [sign * values.get(row, -sign * float("inf")) for row in left.tolist()]
