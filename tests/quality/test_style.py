"""Measures of style, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.scorers.style import Style
from quality.text.style import MEASURES, measures


def test_counts_by_hand():
    text = "Here is why. It may rain!\n- an umbrella\n2. a coat\nPerhaps not"
    found = measures(text)
    assert found["words"] == 13  # the 2 of the list is one
    assert found["sentences"] == 5
    assert found["list_lines"] == 2
    assert found["hedges"] == pytest.approx(100 * 2 / 13)  # may, perhaps
    assert found["authority"] == 0.0
    assert "overlap" not in found


def test_markers_are_whole_words_and_phrases():
    assert measures("Maybelline mayor")["hedges"] == 0.0
    assert measures("In fact, it must.")["authority"] == pytest.approx(100 * 2 / 4)
    assert measures("Of course.")["authority"] == pytest.approx(50.0)


def test_a_number_with_a_point_ends_no_sentence():
    assert measures("Pi is 3.14 or so. Right?")["sentences"] == 2
    assert measures("Wait... what?!")["sentences"] == 2
    assert measures("-5 degrees")["list_lines"] == 0


def test_overlap_is_the_f1_of_the_words():
    assert measures("the calm eye", "the eye")["overlap"] == pytest.approx(2 * 2 / 5)
    assert measures("a a a", "a")["overlap"] == pytest.approx(2 * 1 / 4)
    assert measures("The Eye", "the eye.")["overlap"] == 1.0
    assert measures("", "x")["overlap"] == measures("x", "")["overlap"] == 0.0
    assert tuple(measures("x", "x")) == MEASURES


def test_the_scorer_compares_with_the_nearest_reference_then_the_passage():
    def overlap(**fields):
        (score,) = Style().score([replace(sample_of("the calm eye"), **fields)])
        assert score.value == 3.0
        return score.details["labels"].get("overlap")

    assert overlap() is None
    assert overlap(passage="the calm eye") == 1.0
    assert overlap(reference=["nothing", "calm eye"], passage="x") == pytest.approx(0.8)
