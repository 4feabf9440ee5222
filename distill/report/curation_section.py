"""Build the report's curation section: scorers, drop reasons and how good the scores are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from distill.report.kept_right import RightLine, is_reason_of, right_lines
from warehouse.records import Choice, Measurement, Sample, Score

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


def curation_of(
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    scores: Sequence[Score],
    models: Mapping[str, str],
    bounds: Mapping[str, float],
    measurements: Sequence[Measurement],
    agreement: Sequence[dict[str, Any]] = (),
    judges: Collection[str] = (),
) -> Curation:
    """Summarise one selection.

    Args:
        samples: Those that were chosen from.
        choices: One for each.
        scores: Those of the plan's scorers.
        models: Scorer -> what really scored, in the order of the plan.
        bounds: The gate's bounds.
        measurements: Those of the plan's scorers, where they were audited.
        agreement: Of humans and scorers, where humans decided.
        judges: Scorers that judge whether an answer is right.
    """
    by_id = {sample.sample_id: sample for sample in samples}
    reasons = Counter(reason for choice in choices for reason in choice.reasons)
    overlapping = [c for c in choices if c.details and "held_out" in c.details]
    repeated = [c for c in choices if c.details and "duplicate" in c.details]
    return Curation(
        scorers=[
            _scorer(name, model, scores, choices, bounds, len(samples))
            for name, model in models.items()
        ],
        all_reasons=reasons.most_common(),
        matches=[_match(c, by_id[c.sample_id]) for c in overlapping[:SHOWN]],
        matches_in_all=len(overlapping),
        duplicates=[_duplicate(c, by_id) for c in repeated[:SHOWN]],
        duplicates_in_all=len(repeated),
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
            samples,
            choices,
            scores,
            [name for name in models if name in judges and bounds_text(name, bounds) != NO_BOUND],
            measurements,
        ),
        agreement=list(agreement),
    )


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
    scores: Sequence[Score],
    choices: Sequence[Choice],
    bounds: Mapping[str, float],
    samples: int,
) -> ScorerLine:
    own = [score for score in scores if score.scorer == name]
    values = [score.value for score in own if score.value is not None]
    return ScorerLine(
        scorer=name,
        model=model,
        bounds=bounds_text(name, bounds),
        scored=len(values),
        abstained=len(own) - len(values),
        not_scored=samples - len(own),
        median=median(values) if values else None,
        against=sum(any(is_reason_of(reason, name) for reason in c.reasons) for c in choices),
    )


def _match(choice: Choice, sample: Sample) -> MatchLine:
    met = (choice.details or {})["held_out"]
    return MatchLine(
        kind=met["kind"],
        benchmark=met["benchmark"],
        item_id=met["item_id"],
        share=met["share"],
        question=sample.question,
        shown=met["shown"],
        shared=", ".join(met.get("shared", ())),  # older choices have none
    )


def _duplicate(choice: Choice, by_id: Mapping[str, Sample]) -> DuplicateLine:
    duplicate = (choice.details or {})["duplicate"]
    sample, first = by_id[choice.sample_id], by_id[duplicate["of"]]
    similarity = duplicate["similarity"]
    return DuplicateLine(
        sample.question, sample.completion, first.question, first.completion, similarity
    )
