"""Kept samples that hold a reference are counted, and an audit that says otherwise is named."""

import json
from dataclasses import asdict

import polars as pl
import pytest

from distill.report.curation_section import Chosen, curation_of
from distill.report.kept_right import NO_TEXTS, references_held
from quality.audit.roc import measure
from warehouse.records import Measurement

CHOICES = {
    "row": pl.UInt32,
    "sample_id": pl.String,
    "kept": pl.Boolean,
    "reason": pl.String,
    "reasons": pl.List(pl.String),
    "details": pl.String,
}
SCORES = {"row": pl.UInt32, "value": pl.Float64}


def a_measurement(good, bad):
    """A scorer that kept so many good and bad ones and dropped as many."""
    values = [1.0] * (good + bad) + [0.0] * (good + bad)
    labels = [True] * good + [False] * bad + [True] * bad + [False] * good
    figures = asdict(measure(values, labels, True, 1.0))
    return Measurement(
        measurement_id="m", scorer="grounded", version="5", model="rule", options={},
        dataset="sciq: echo", rows=len(values), figures=figures, note=None,
    )  # fmt: skip


def curated(
    right,
    wrong,
    measurements=(),
    judges=("grounded",),
    reference=("stars",),
    lost=4,
    scorer="grounded",
):
    """So many right and wrong kept samples, and dropped right ones."""
    texts, choices, scores = [], [], []
    for number in range(right + wrong + lost):
        kept, is_right = number < right + wrong, not right <= number < right + wrong
        texts.append(
            {
                "row": number,
                "completion": "The stars." if is_right else "the sky",
                "reference": json.dumps(list(reference)),
                "passage": f"Sky {number} has stars.",
                "question": f"What is in sky {number}?",
            }
        )
        reason = "" if kept else f"{scorer} below 1"
        reasons = [reason] if reason else []
        choices.append((number, f"s{number}", kept, reason, reasons, None))
        scores.append((number, float(kept)))
    chosen = Chosen(
        choices=pl.DataFrame(choices, CHOICES, orient="row"),
        references=references_held(pl.DataFrame(texts, NO_TEXTS.schema)),
        samples_of=lambda ids: {},
        scores={
            scorer: pl.DataFrame(scores, SCORES, orient="row"),
            "toxicity": pl.DataFrame(schema=SCORES),
        },
    )
    models, bounds = {scorer: "rule", "toxicity": "rule"}, {f"{scorer}_min": 1.0}
    return curation_of(chosen, models, bounds, measurements, (), judges).right


def test_rows_are_counted_overall_and_by_scorer_with_an_interval():
    everyone, grounded = curated(44, 51, [a_measurement(98, 2)])
    assert (everyone.scorer, everyone.kept, everyone.right) == (None, 95, 44)
    assert (grounded.scorer, grounded.kept, grounded.right) == ("grounded", 95, 44)
    assert (grounded.dropped, grounded.dropped_right) == (4, 4)
    assert grounded.share.value == pytest.approx(44 / 95)
    assert 0.35 < grounded.share.low < grounded.share.high < 0.58
    assert everyone.precision is None and everyone.warning is None


def test_an_audit_that_does_not_carry_over_is_named():
    _, line = curated(44, 51, [a_measurement(98, 2)])
    assert line.precision == pytest.approx(0.98)
    assert "measured precision 0.98" in line.warning and "46 %" in line.warning


def test_there_is_no_warning_where_the_interval_holds_the_audits_figure():
    _, line = curated(94, 1, [a_measurement(98, 2)])
    assert line.precision == pytest.approx(0.98) and line.warning is None
    _, line = curated(44, 51, [a_measurement(1, 1)])
    assert line.precision == pytest.approx(0.5) and line.warning is None
    _, line = curated(44, 51)
    assert line.precision is None and line.warning is None


def test_precision_is_of_all_that_the_bound_keeps_of_its_sets():
    _, line = curated(44, 51, [a_measurement(98, 2), a_measurement(150, 150)])
    assert line.precision == pytest.approx(248 / 400)


def test_nothing_is_said_without_references_or_kept_rows():
    assert curated(3, 3, reference=()) == []
    assert curated(3, 3, reference=(" ",)) == []
    assert curated(0, 0) == []


def test_a_scorer_that_judges_no_answers_has_no_line():
    assert [line.scorer for line in curated(3, 3, judges=())] == [None]


def test_rows_that_were_kept_for_their_reference_measure_nothing():
    everyone, line = curated(15, 0, judges=("reference",), lost=5, scorer="reference")
    assert line.scorer == "reference" and (line.kept, line.right, line.dropped_right) == (15, 15, 5)
    assert "The 15 rows were chosen by their reference, so how many" in line.warning
    assert "is no measurement of the data" in line.warning
    assert "Of the 20 rows that reference kept or was the first to drop, 20 (100 %)" in line.warning
    assert everyone.warning is None
    _, line = curated(15, 5, lost=0)
    assert line.warning is None
