"""Count how many of the kept samples hold a reference, beside what the audit measured.

An audit's precision is that of labelled data, half of it good. What a teacher really says is wrong
in other ways and at another rate, so the same bound may keep far more that is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from distill.evaluation.intervals import mean_interval
from distill.evaluation.statistics import Interval
from warehouse.records import Choice, Measurement, Sample, Score
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


def right_lines(
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    scores: Sequence[Score],
    scorers: Collection[str],
    measurements: Sequence[Measurement],
) -> list[RightLine]:
    """One line for all samples and one for each scorer; none where no kept sample has a reference.

    A sample is right if a reference stands in its completion as whole words; a right answer in
    other words counts as wrong.

    Args:
        samples: Those that were chosen from.
        choices: One for each.
        scores: Those of the plan's scorers.
        scorers: Names of those that have a bound and judge whether an answer is right.
        measurements: Those of the audit at the gate's bounds.
    """
    known = {one.sample_id: one for one in samples if any(map(str.strip, one.reference))}
    right = {key: float(_holds_reference(one)) for key, one in known.items()}
    kept = [c.sample_id for c in choices if c.kept and c.sample_id in known]
    dropped = {c.sample_id: c.reason for c in choices if not c.kept and c.sample_id in known}
    lines = []
    for scorer in (None, *scorers):
        rated = {s.sample_id for s in scores if s.scorer == scorer and s.value is not None}
        own = [key for key in kept if scorer is None or key in rated]
        lost = [key for key, why in dropped.items() if scorer is None or is_reason_of(why, scorer)]
        if not own:
            continue
        share = mean_interval(
            [right[key] for key in own], [known[key].passage or known[key].question for key in own]
        )
        precision = _precision([m for m in measurements if m.scorer == scorer])
        lines.append(
            RightLine(
                scorer=scorer,
                kept=len(own),
                right=int(sum(right[key] for key in own)),
                share=share,
                dropped=len(lost),
                dropped_right=int(sum(right[key] for key in lost)),
                precision=precision,
                warning=_warning(scorer, len(own), share, precision),
            )
        )
    return [_kept_for_it(line) if line.scorer == BY_REFERENCE else line for line in lines]


def is_reason_of(reason: str, scorer: str) -> bool:
    """Whether a reason for dropping a sample is a scorer's."""
    return reason.split(" ")[0].rstrip(":").partition(".")[0] == scorer


def _holds_reference(sample: Sample) -> bool:
    return any(contains_answer(sample.completion, text) for text in sample.reference)


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
