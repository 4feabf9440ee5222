"""Build the report's curation section: scorers, drop reasons and how good the scores are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import orjson
import polars as pl

from distill.report.kept_right import RightLine, reason_is_of, right_lines
from warehouse.records import Measurement, Sample

NO_BOUND = "none"
SHOWN = 50
"""Held-out matches and duplicates that a report lists, of each."""


@dataclass(frozen=True)
class ScorerLine:
    """One scorer's results on a selection's samples."""

    scorer: str
    model: str
    bounds: str
    scored: int
    abstained: int
    not_scored: int
    median: float | None
    against: int
    """Samples that failed one of its bounds."""


@dataclass(frozen=True)
class MatchLine:
    """A sample that overlaps with a held-out item."""

    kind: str
    benchmark: str
    item_id: str
    share: float
    question: str
    shown: str
    shared: str
    """The rarest words that both have."""


@dataclass(frozen=True)
class DuplicateLine:
    """A sample that duplicates an earlier one."""

    question: str
    completion: str
    first_question: str
    first_completion: str
    similarity: float


@dataclass(frozen=True)
class MeasurementLine:
    """How good a scorer was on labelled data; `figures` as `quality.audit.roc` makes them."""

    scorer: str
    model: str
    dataset: str
    rows: int
    bound: str
    figures: dict[str, Any]
    note: str | None


@dataclass(frozen=True)
class Curation:
    """The report's content on curation."""

    scorers: list[ScorerLine] = field(default_factory=list)
    all_reasons: list[tuple[str, int]] = field(default_factory=list)
    matches: list[MatchLine] = field(default_factory=list)
    matches_in_all: int = 0
    duplicates: list[DuplicateLine] = field(default_factory=list)
    duplicates_in_all: int = 0
    measurements: list[MeasurementLine] = field(default_factory=list)
    right: list[RightLine] = field(default_factory=list)
    """How many kept samples hold a reference: overall, then by the scorer that decided."""
    agreement: list[dict[str, Any]] = field(default_factory=list)
    """Per scorer with a bound: n, agreement, kappa and ROC AUC with the decisions of humans."""


@dataclass(frozen=True)
class Chosen:
    """A selection, of which samples are read where they are shown."""

    choices: pl.DataFrame
    """row, sample_id, kept, reason, reasons (list of strings) and details (JSON, or null) of each
    sample, in order."""
    scores: Mapping[str, pl.DataFrame]
    """row and value of the scores of each of the plan's scorers."""
    references: pl.DataFrame
    """As `distill.report.kept_right.references_held` gives them."""
    samples_of: Callable[[Sequence[str]], Mapping[str, Sample]]
    """Reads samples by id."""


def curation_of(
    chosen: Chosen,
    models: Mapping[str, str],
    bounds: Mapping[str, float],
    measurements: Sequence[Measurement],
    agreement: Sequence[dict[str, Any]] = (),
    judges: Collection[str] = (),
) -> Curation:
    """Summarise one selection.

    Args:
        chosen: The selection.
        models: Scorer -> what really scored, in the order of the plan.
        bounds: The gate's bounds.
        measurements: Those of the plan's scorers, where they were audited.
        agreement: Of humans and scorers, where humans decided.
        judges: Scorers that judge whether an answer is right.
    """
    choices = chosen.choices
    reasons = choices.select("row", "reasons").explode("reasons").drop_nulls()
    counts = reasons.group_by("reasons", maintain_order=True).len()
    matches = _with_detail(choices, "held_out")
    repeats = _with_detail(choices, "duplicate")
    shown = [
        (sample_id, orjson.loads(found)) for sample_id, found in matches.head(SHOWN).iter_rows()
    ]
    repeated = [
        (sample_id, orjson.loads(found)) for sample_id, found in repeats.head(SHOWN).iter_rows()
    ]
    ids = [sample_id for sample_id, _ in shown]
    ids += [each for sample_id, found in repeated for each in (sample_id, found["of"])]
    samples = chosen.samples_of(list(dict.fromkeys(ids)))
    return Curation(
        scorers=[
            _scorer(
                name,
                model,
                chosen.scores[name]["value"],
                reasons.filter(reason_is_of(pl.col("reasons"), name))["row"].n_unique(),
                bounds,
                len(choices),
            )
            for name, model in models.items()
        ],
        all_reasons=Counter(dict(counts.iter_rows())).most_common(),
        matches=[_match(found, samples[sample_id]) for sample_id, found in shown],
        matches_in_all=len(matches),
        duplicates=[
            _duplicate(found, samples[sample_id], samples[found["of"]])
            for sample_id, found in repeated
        ],
        duplicates_in_all=len(repeats),
        measurements=[
            MeasurementLine(
                measurement.scorer,
                measurement.model,
                measurement.dataset,
                measurement.rows,
                bounds_text(measurement.scorer, bounds),
                measurement.figures,
                measurement.note,
            )
            for measurement in measurements
        ],
        right=right_lines(
            choices,
            chosen.references,
            chosen.scores,
            [name for name in models if name in judges and bounds_text(name, bounds) != NO_BOUND],
            measurements,
        ),
        agreement=list(agreement),
    )


def _with_detail(choices: pl.DataFrame, key: str) -> pl.DataFrame:
    """sample_id, and that part of the details as JSON, of the choices that have it."""
    found = pl.col("details").str.json_path_match(f"$.{key}").alias(key)
    return choices.select("sample_id", found).drop_nulls(key)


def bounds_text(scorer: str, bounds: Mapping[str, float]) -> str:
    """The bounds on a scorer and its labels: `>= 1`, `insult <= 0.3`."""
    texts = []
    for key, bound in bounds.items():
        name, _, end = key.rpartition("_")
        if name.partition(".")[0] == scorer:
            label = name.partition(".")[2]
            sign = "≥" if end == "min" else "≤"
            texts.append(f"{label} {sign} {bound:g}".strip())
    return ", ".join(texts) or NO_BOUND


def _scorer(
    name: str,
    model: str,
    given: pl.Series,
    against: int,
    bounds: Mapping[str, float],
    samples: int,
) -> ScorerLine:
    values = given.drop_nulls().to_list()
    return ScorerLine(
        scorer=name,
        model=model,
        bounds=bounds_text(name, bounds),
        scored=len(values),
        abstained=len(given) - len(values),
        not_scored=samples - len(given),
        median=median(values) if values else None,
        against=against,
    )


def _match(met: Mapping[str, Any], sample: Sample) -> MatchLine:
    return MatchLine(
        kind=met["kind"],
        benchmark=met["benchmark"],
        item_id=met["item_id"],
        share=met["share"],
        question=sample.question,
        shown=met["shown"],
        shared=", ".join(met.get("shared", ())),  # older choices have none
    )


def _duplicate(duplicate: Mapping[str, Any], sample: Sample, first: Sample) -> DuplicateLine:
    return DuplicateLine(
        sample.question,
        sample.completion,
        first.question,
        first.completion,
        duplicate["similarity"],
    )
