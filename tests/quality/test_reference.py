"""Reference: exact match, numbers and dates in any form, else F1; the best of the aliases."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.scorers.reference import Reference
from tests.quality.test_grounded import STRANGE
from warehouse.records import Score


def verdict(completion, *reference, **options):
    one = replace(sample_of("x"), completion=completion, reference=list(reference))
    scorer = Reference(**options)
    (score,) = scorer.score([one])
    assert isinstance(score, Score), score
    assert score.score_id == scorer.score_id(one)
    return score


@pytest.mark.parametrize(
    ("completion", "reference", "value", "label"),
    [
        ("The Cat.", "cat", 1.0, "exact"),
        ("one thousand", "1,000", 1.0, "number"),
        ("fifty percent", "50 %", 1.0, "number"),
        ("forty-seven", "47 years", 1.0, "number"),
        ("March 3, 1999", "1999-03-03", 1.0, "number"),
        ("1.5 million", "1,500,000", 1.0, "number"),
        ("red blood cells", "blood cells", 0.8, "contains"),
        ("cells of blood", "blood cells", 0.8, None),
        ("penguins", "cat", 0.0, None),
        ("1.5", "15", 0.0, "exact"),  # exact in SQuAD's normalisation, and wrong
        ("-5", "5", 0.0, "exact"),
        ("48 years", "47 years", 0.5, None),
        ("not 47", "47", 2 / 3, "contains"),
        ("+", "-", 0.0, None),
        ("+", "+", 1.0, "exact"),
    ],
)
def test_by_hand(completion, reference, value, label):
    found = verdict(completion, reference)
    assert found.value == pytest.approx(value)
    labels = found.details["labels"]
    assert set(labels) == set(Reference.labels)
    assert label is None or labels[label] == 1.0
    assert label in ("exact", "number") or labels["exact"] == labels["number"] == 0.0
    assert (found.why is None) == (value == 1.0)


def test_the_best_alias_counts():
    found = verdict("a cat", "feline", "house cat", "cat")
    assert found.value == 1.0 and found.details["reference"] == "cat"
    near = verdict("the old cat", "feline", "house cat")
    assert near.details["reference"] == "house cat" and '"house cat"' in near.why


@pytest.mark.parametrize(
    ("metric", "value"), [("match", 1.0), ("exact", 0.0), ("f1", 0.0), ("contains", 0.0)]
)
def test_the_metric_is_an_option(metric, value):
    assert verdict("one thousand", "1,000", metric=metric).value == value
    long = verdict("It is the red fox.", "red fox", metric=metric).value
    assert long == {"contains": 1.0, "exact": 0.0}.get(metric, pytest.approx(2 / 3))


def test_it_abstains_with_a_reason():
    for references in ((), ("", " ")):
        assert (verdict("cat", *references).value, verdict("cat").why) == (None, "no reference")
    assert verdict(" \n", "cat").why == "no completion"


@pytest.mark.parametrize("what", STRANGE)
def test_strange_texts(what):
    for reference in ("cat", "47", STRANGE[what]):
        found = verdict(STRANGE[what], reference)
        assert found.value is None or 0 <= found.value <= 1
        assert found.value == 1 or found.why
        json.dumps(found.details, ensure_ascii=False).encode()
