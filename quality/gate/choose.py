"""Choose samples by their scores, each choice with its first reason and all its reasons.

Rules speak in this order: held out, a human's decision, status, bounds, length; then, among
what is left, duplicates; then, among what is left, how many and which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from quality.gate.decontaminate import Match
from quality.gate.dedup import Embeds, form, near, semantic
from quality.gate.diversity import balance, spread
from quality.gate.policy import Duplicates, GatePolicy
from quality.gate.sketch_shard import MapShards, map_here
from quality.review.decisions import decisions
from warehouse.records import Sample, Score, make_id
from warehouse.text.words import count_words
from warehouse.tool_calls import text_of

VERSION = "2"
"""Of the gate's rules and of how duplicates are found; a change makes it choose again."""
ROWS = {
    "sample_id": pl.String,
    "recipe": pl.String,
    "status": pl.String,
    "words": pl.UInt32,
    "question": pl.String,
    "asked": pl.String,
    "completion": pl.String,
    "whole": pl.String,
    "held_out": pl.String,
    "match": pl.String,
}
"""The columns of samples that the gate reads; see `rows_of`."""
SCORES = {"row": pl.UInt32, "scorer": pl.String, "value": pl.Float64, "why": pl.String}
"""The columns of scores: whose they are, as the number of its row, and who gave them."""


def rows_of(samples: Sequence[Sample], matches: Sequence[Match | None]) -> pl.DataFrame:
    """What the gate needs of samples: one row each, with the columns `ROWS`.

    Args:
        samples: The samples.
        matches: The held-out item that each gives away, if any.
    """
    return pl.DataFrame(
        {
            "sample_id": [sample.sample_id for sample in samples],
            "recipe": [sample.recipe for sample in samples],
            "status": [sample.status for sample in samples],
            "words": [count_words(sample.completion) for sample in samples],
            "question": [_plain(sample.question) for sample in samples],
            "asked": [_plain(_asked(sample)) for sample in samples],
            "completion": [_plain(sample.completion) for sample in samples],
            "whole": [_digest(_whole(sample)) for sample in samples],
            "held_out": [match.kind if match else None for match in matches],
            "match": [
                orjson.dumps(match.as_json()).decode() if match else None for match in matches
            ],
        },
        schema=ROWS,
    )


def _plain(text: str) -> str:
    """The text, with half a character written out: no frame holds one."""
    return text.encode("utf-8", "backslashreplace").decode()


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def selection_id_of(
    sample_ids: Iterable[str],
    scorers: Sequence[Mapping[str, Any]],
    policy: GatePolicy,
    duplicates: Duplicates,
    held_out: str,
    human: Iterable[Score] = (),
) -> str:
    """The id of a selection: what went in, who scored, the policy, what is held out, who decided.

    `held_out` is the digest of the items (`quality.gate.decontaminate.digest_of`).
    """
    here = sorted(sample_ids)
    decided = decisions(human)
    return make_id(
        "selection",
        VERSION,
        here,
        [dict(scorer) for scorer in scorers],
        policy.model_dump(),
        duplicates.model_dump(),
        held_out,
        sorted(decided[sample_id].score_id for sample_id in set(here) & set(decided)),
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
    samples: pl.DataFrame,
    scores: pl.DataFrame,
    human: Iterable[Score],
    policy: GatePolicy,
    duplicates: Duplicates,
    higher_is_better: Mapping[str, bool | None],
    encoder: Embeds | None = None,
    map_shards: MapShards = map_here,
) -> pl.DataFrame:
    """One choice per sample, in order. A held-out item is never kept, whatever the policy says.

    Args:
        samples: One row each, with the columns `ROWS`.
        scores: Those of the scorers, with the columns `SCORES`; of several of one scorer the last
            one counts.
        human: The decisions of humans (scorer `human`); other scores are passed over.
        policy: The gate's policy.
        duplicates: What is dropped as said before.
        higher_is_better: The plan's scorers by name, of which `rank_by` may name any.
        encoder: What embeds texts for a semantic comparison; left out, the policy's, here.
        map_shards: What runs the sketches of near duplicates; left out, this process.

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
    table = samples.with_row_index("row").join(
        of_humans, on="sample_id", how="left", maintain_order="left"
    )
    scores = scores.unique(["row", "scorer"], keep="last", maintain_order=True)
    reasons = decide(table, scores, policy)["reasons"]
    gate = _Choosing(samples, reasons)
    gate.tell_why(scores)
    _drop_duplicates(gate, duplicates, encoder, map_shards)
    _drop_beyond(gate, scores, policy, higher_is_better)
    return gate.choices()


class _Choosing:
    """What speaks against each sample so far."""

    def __init__(self, samples: pl.DataFrame, reasons: pl.Series) -> None:
        self.samples = samples
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
        return self.samples[name].gather(rows).to_list()

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


def _drop_duplicates(
    gate: _Choosing, policy: Duplicates, encoder: Embeds | None, map_shards: MapShards
) -> None:
    """Drop what was said before, of what is left; the first one stays."""
    left = gate.left
    whole = pl.DataFrame({"row": left, "whole": gate.samples["whole"].gather(left)})
    first = whole.with_columns(pl.col("row").first().over("whole").alias("first"))
    for row, of in (
        first.filter(pl.col("row") != pl.col("first")).select("row", "first").iter_rows()
    ):
        gate.drop_repeat(row, "duplicate", of, 1.0)

    def drop(reason: str, hits: Sequence[tuple[int, float] | None], left: list[int]) -> None:
        for row, hit in zip(left, hits, strict=True):
            if hit is not None:
                gate.drop_repeat(row, reason, left[hit[0]], hit[1])

    def texts(rows: NDArray[np.int64]) -> Iterator[str]:
        pairs = gate.samples.select(pl.col("asked", "completion").gather(rows)).iter_rows()
        return (f"{asked}\n{completion}" for asked, completion in pairs)

    if policy.near is not None:
        left = gate.left
        drop("near duplicate", near(texts(left), policy.near, map_shards), left.tolist())
    if policy.semantic is not None:
        from quality.models.embeddings import Encoder

        left = gate.left
        encoder = encoder or Encoder(policy.encoder)
        hits = semantic(list(texts(left)), policy.semantic, encoder)
        drop("semantic duplicate", hits, left.tolist())


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


def _whole(sample: Sample) -> str:
    messages = [f"{message['role']} {form(text_of(message))}" for message in sample.messages]
    return "\n".join([*messages, form(sample.completion)])


def _asked(sample: Sample) -> str:
    return sample.question or str(sample.messages[-1]["content"])
