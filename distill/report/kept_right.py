"""Count how many of the kept samples hold a reference, beside what the audit measured.

An audit's precision is that of labelled data, half of it good. What a teacher really says is wrong
in other ways and at another rate, so the same bound may keep far more that is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
import polars as pl

from distill.evaluation.intervals import mean_interval
from distill.evaluation.statistics import Interval
from warehouse.records import Measurement
from warehouse.text.normalize import contains_answer

BY_REFERENCE = "reference"
"""The scorer that keeps a sample for its reference."""


@dataclass(frozen=True)
class RightLine:
    """How many samples hold a reference, of those kept and of those that one scorer dropped."""

    scorer: str | None
    """Whose bound the kept ones met with a value; None: all, whoever kept or dropped them."""
    kept: int
    right: int
    share: Interval
    """right / kept, 0..1, with its 95 % interval over passages."""
    dropped: int
    """Samples that it was the first to drop."""
    dropped_right: int
    precision: float | None
    """Share of good ones among what its bound kept of all its labelled data; None: not measured."""
    warning: str | None
    """In words, where `precision` lies above the interval of `share`, or where the rows were kept for
    their reference, so that `share` measures nothing."""


NO_TEXTS = pl.DataFrame(
    schema={
        "row": pl.UInt32,
        **dict.fromkeys(("completion", "reference", "passage", "question"), pl.String),
    }
)
"""The columns of samples that `references_held` reads; reference is a JSON list."""


def references_held(texts: pl.DataFrame) -> pl.DataFrame:
    """Which samples that have a reference hold it, as whole words.

    Args:
        texts: The columns of `NO_TEXTS`.

    Returns:
        row, right, and group (UInt64): a hash of the passage, or of the question without one.
    """
    with_any = texts.filter(pl.col("reference") != "[]")
    read = [orjson.loads(reference) for reference in with_any["reference"]]
    known = with_any.filter(
        pl.Series([any(map(str.strip, each)) for each in read], dtype=pl.Boolean)
    )
    right = [
        any(contains_answer(completion, text) for text in orjson.loads(reference))
        for completion, reference in known.select("completion", "reference").iter_rows()
    ]
    passage = pl.when(pl.col("passage") != "").then("passage")
    return known.select(
        "row",
        pl.Series("right", right, dtype=pl.Boolean),
        pl.coalesce(passage, "question").hash().alias("group"),
    )


def right_lines(
    choices: pl.DataFrame,
    references: pl.DataFrame,
    scores: Mapping[str, pl.DataFrame],
    scorers: Collection[str],
    measurements: Sequence[Measurement],
) -> list[RightLine]:
    """One line for all samples and one for each scorer; none where no kept sample has a reference.

    A sample is right if a reference stands in its completion as whole words; a right answer in
    other words counts as wrong.

    Args:
        choices: row, kept and reason of each sample.
        references: As `references_held` gives them.
        scores: row and value of the scores of each scorer.
        scorers: Names of those that have a bound and judge whether an answer is right.
        measurements: Those of the audit at the gate's bounds.
    """
    known = references.join(choices, on="row", maintain_order="left")
    kept, dropped = known.filter("kept"), known.filter(~pl.col("kept"))
    lines = []
    for scorer in (None, *scorers):
        own, lost = kept, dropped
        if scorer is not None:
            rated = scores[scorer].drop_nulls("value")
            own = kept.join(rated, on="row", how="semi", maintain_order="left")
            lost = dropped.filter(reason_is_of(pl.col("reason"), scorer))
        if own.is_empty():
            continue
        numbers = own.select(pl.col("group").unique(maintain_order=True)).with_row_index("number")
        groups = own.join(numbers, on="group", maintain_order="left")["number"]
        share = mean_interval(own["right"].cast(pl.Float64).to_list(), groups.to_list())
        precision = _precision([m for m in measurements if m.scorer == scorer])
        lines.append(
            RightLine(
                scorer=scorer,
                kept=len(own),
                right=int(own["right"].sum()),
                share=share,
                dropped=len(lost),
                dropped_right=int(lost["right"].sum()),
                precision=precision,
                warning=_warning(scorer, len(own), share, precision),
            )
        )
    return [_kept_for_it(line) if line.scorer == BY_REFERENCE else line for line in lines]


def reason_is_of(reason: pl.Expr, scorer: str) -> pl.Expr:
    """Whether a reason for dropping a sample is a scorer's: it begins with its name, or a label's."""
    first = reason.str.extract("^([^ ]*)").str.strip_chars_end(":")
    return first.str.extract(r"^([^.]*)") == scorer


def _precision(measurements: Sequence[Measurement]) -> float | None:
    """Of all labelled rows that the bound keeps, the share of good ones; None where none is kept."""
    kept = good = 0.0
    for figures in (measurement.figures for measurement in measurements):
        cut: Mapping[str, float] | None = figures.get("at_gate")
        if cut and cut["precision"] is not None:
            count = cut["kept"] * (figures["n"] - figures["abstained"])
            kept += count
            good += count * cut["precision"]
    return good / kept if kept else None


def _warning(scorer: str | None, kept: int, share: Interval, precision: float | None) -> str | None:
    if scorer is None or precision is None or share.high >= precision:
        return None
    return (
        f"The audit measured precision {precision:.2f} for {scorer}; of the {kept:,} rows kept here "
        f"{_percent(share.value)} % hold the reference ({_percent(share.low)} to "
        f"{_percent(share.high)} %). Its figure does "
        f"not hold for these data: read some kept rows, or keep by the reference where it is known "
        "(reference_min)."
    )


def _kept_for_it(line: RightLine) -> RightLine:
    """The line of the scorer that compares with the reference; says that its share is no measurement."""
    everyone = line.kept + line.dropped
    right = line.right + line.dropped_right
    said = (
        f"The {line.kept:,} rows were chosen by their reference, so how many of them "
        f"are right is no measurement of the data. Of the {everyone:,} rows that {BY_REFERENCE} kept or was "
        f"the first to drop, {right:,} ({_percent(right / everyone)} %) hold their reference."
    )
    return replace(line, warning=said)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
