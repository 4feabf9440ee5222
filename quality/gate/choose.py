"""Choose samples by their scores, each choice with its first reason and all its reasons.

Rules speak in this order: held out, a human's decision, status, bounds, length; then, among
what is left, duplicates; then, among what is left, how many and which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
_LIST = pl.List(pl.String)


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
    """What the rules on single samples say against them.

    Args:
        samples: Columns row (its number, from zero), recipe, status, words, held_out (the kind of a
            match with a held-out item, or null) and human (1.0 accepted, 0.0 rejected, or null).
        scores: The columns `SCORES`; scorer is `toxicity`, or `toxicity.insult` for a label. Of
            several for one row the last one counts.
        policy: The gate's policy.

    Returns:
        row, reasons (list of strings) of each sample against which there is one, in order.
    """
    keys = {key for name in (None, *policy.recipe) for key in policy.bounds(name)}
    order = [*policy.thresholds, *sorted(keys - set(policy.thresholds))]
    by_scorer = scores.partition_by("scorer", as_dict=True)
    frame = samples.with_columns(
        column
        for scorer in dict.fromkeys(key.rpartition("_")[0] for key in order)
        for column in _columns_of(scorer, by_scorer.get((scorer,)), len(samples))
    )
    unfit = ~pl.col("status").is_in(policy.fit_statuses)
    rules = [_Rule(unfit, "status: " + pl.col("status")), *(_bound(key, policy) for key in order)]
    if policy.max_words is not None:
        reason = f"more than {policy.max_words} words"
        rules.append(_Rule(pl.col("words") > policy.max_words, pl.lit(reason)))
    accepted = (pl.col("human") == 1).fill_null(False)
    rules = [
        _Rule(pl.col("held_out").is_not_null(), "held_out: " + pl.col("held_out")),
        _Rule(pl.col("human") == 0, pl.lit("human: rejected")),
        *(_Rule(~accepted & rule.applies, rule.reason) for rule in rules),
    ]
    against = frame.filter(pl.any_horizontal(rule.applies.fill_null(False) for rule in rules))
    reasons = [pl.when(rule.applies).then(rule.reason) for rule in rules]
    return against.select("row", pl.concat_list(reasons).list.drop_nulls().alias("reasons"))


class _Rule(NamedTuple):
    applies: pl.Expr
    reason: pl.Expr


def _columns_of(scorer: str, scores: pl.DataFrame | None, count: int) -> Iterator[pl.Series]:
    """Columns of what a scorer gave each sample: its value, NaN where it abstained, whether it gave
    any, and why it abstained."""
    values, scored = np.full(count, np.nan), np.zeros(count, dtype=bool)
    why = pl.repeat(None, count, dtype=pl.String, eager=True)
    if scores is not None:
        rows = scores["row"].to_numpy()
        values[rows] = scores["value"].fill_null(np.nan).to_numpy()
        scored[rows] = True
        silent = scores.filter(pl.col("value").fill_null(np.nan).is_nan())
        why = why.scatter(silent["row"], silent["why"]) if len(silent) else why
    yield pl.Series(f"value {scorer}", values)
    yield pl.Series(f"scored {scorer}", scored)
    yield why.alias(f"why {scorer}")


def _bound(key: str, policy: GatePolicy) -> _Rule:
    scorer = key.rpartition("_")[0]
    value, scored = pl.col(f"value {scorer}"), pl.col(f"scored {scorer}")
    bound = pl.lit(policy.thresholds.get(key), dtype=pl.Float64)
    bound_text = pl.lit(f"{policy.thresholds[key]:g}" if key in policy.thresholds else "")
    for recipe, bounds in policy.recipe.items():
        if key in bounds:
            here = pl.when(pl.col("recipe") == recipe)
            bound = here.then(pl.lit(bounds[key])).otherwise(bound)
            bound_text = here.then(pl.lit(f"{bounds[key]:g}")).otherwise(bound_text)
    outside = value < bound if key.endswith("_min") else value > bound
    side = "below" if key.endswith("_min") else "above"
    lenient = policy.keeps_abstained(scorer.partition(".")[0])
    silent = scored & value.is_nan()
    abstained = pl.lit(f"{scorer} abstained: ") + pl.col(f"why {scorer}").fill_null("no number")
    reason = (
        pl.when(~scored)
        .then(pl.lit(f"{scorer}: not scored"))
        .when(silent)
        .then(abstained)
        .otherwise(pl.lit(f"{scorer} {side} ") + bound_text)
    )
    speaks = ~scored | (outside & ~silent)
    return _Rule(bound.is_not_null() & (speaks if lenient else speaks | silent), reason)


def choose(
    candidates: Candidates,
    scores: pl.DataFrame,
    human: Iterable[Score],
    policy: GatePolicy,
    duplicates: Duplicates,
    higher_is_better: Mapping[str, bool | None],
    encoder: Embeds | None = None,
    with_details: bool = True,
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
        with_details: Whether it is noted what scorers had to say, which takes a while.

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
    gate = _Choosing(candidates, decide(table, scores, policy))
    if with_details:
        gate.tell_why(scores)
    _drop_duplicates(gate, duplicates, encoder)
    _drop_beyond(gate, scores, policy, higher_is_better)
    return gate.choices()


class _Choosing:
    """What speaks against each sample so far."""

    def __init__(self, candidates: Candidates, against: pl.DataFrame) -> None:
        self.candidates = candidates
        self.samples = samples = candidates.rows
        self._against = against  # as `decide` gives it
        self._later: dict[int, str] = {}  # row -> why it is dropped, of what is left by the rules
        self._is_left: NDArray[np.bool_] = np.ones(len(samples), dtype=bool)
        self._is_left[against["row"].to_numpy()] = False
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
        against = self._against.explode("reasons").select("row", name.alias("scorer")).unique()
        told = against.join(scores.filter(pl.col("why").str.len_bytes() > 0), on=["row", "scorer"])
        for row, scorer, why in (
            told.select("row", "scorer", "why")
            .sort("row", "scorer", maintain_order=True)
            .iter_rows()
        ):
            self._details.setdefault(row, {}).setdefault("why", {})[scorer] = why

    def choices(self) -> pl.DataFrame:
        """A choice for each row."""
        later = pl.DataFrame(
            {
                "row": pl.Series(list(self._later), dtype=pl.UInt32),
                "reasons": pl.Series([[reason] for reason in self._later.values()], dtype=_LIST),
            }
        )
        dropped = pl.concat([self._against, later])
        rows = self.samples.select("sample_id").with_row_index("row")
        rows = rows.join(dropped, on="row", how="left", maintain_order="left")
        details = {row: orjson.dumps(each).decode() for row, each in self._details.items()}
        return rows.select(
            "sample_id",
            pl.Series("kept", self._is_left),
            pl.col("reasons").list.first().fill_null("kept").alias("reason"),
            pl.col("reasons").fill_null(pl.lit([], dtype=_LIST)),
            self._placed(details).alias("details"),
        )

    def _placed(self, texts: Mapping[int, str]) -> pl.Series:
        """A column of texts, null in all other rows."""
        column = pl.repeat(None, len(self.samples), dtype=pl.String, eager=True)
        return column.scatter(list(texts), list(texts.values())) if texts else column


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
