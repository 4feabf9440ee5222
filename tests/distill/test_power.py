"""Power of McNemar's exact test against sums by hand, and sentences that hold."""

from __future__ import annotations

import math
import re
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial

from distill.evaluation.power import detectable, detectable_mean, difference_sentence, power_of

shares = st.floats(0.05, 1.0)


def by_hand(n, difference, discordant, level=0.05):
    """Over all outcomes: items that the better one, the other one, and neither alone got right."""
    chances = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    return sum(
        multinomial.pmf([wins, losses, n - wins - losses], n, chances)
        for wins in range(n + 1)
        for losses in range(n + 1 - wins)
        if wins + losses and binomtest(wins, wins + losses, 0.5).pvalue < level
    )


@pytest.mark.parametrize(
    ("n", "difference", "discordant"), [(12, 0.3, 0.5), (25, 0.35, 0.4), (18, 0.0, 0.7), (9, 1, 1)]
)
def test_power_is_the_sum_over_all_outcomes(n, difference, discordant):
    expected = by_hand(n, difference, discordant)
    assert power_of(n, difference, discordant) == pytest.approx(expected, abs=1e-9)


def test_the_normal_approximation_is_near_where_there_are_many_items():
    least = detectable(2000, 0.4)
    z = 1.959964 * math.sqrt(0.4) + 0.841621 * math.sqrt(0.4 - least**2)  # Connor 1987
    assert 0 < least - z / math.sqrt(2000) < 0.002  # the exact test asks for a little more


@given(n=st.integers(6, 400), discordant=shares, power=st.floats(0.3, 0.95))
@settings(max_examples=60, deadline=None)
def test_what_is_detectable_is_found_and_less_is_not(n, discordant, power):
    least = detectable(n, discordant, power)
    if least is None:
        assert power_of(n, discordant, discordant) < power
    else:
        assert power_of(n, least, discordant) >= power
        assert power_of(n, max(0.0, least - 1e-4), discordant) < power


@given(n=st.integers(20, 300), discordant=shares)
@settings(max_examples=30, deadline=None)
def test_four_times_as_many_items_show_less(n, discordant):
    few, many = detectable(n, discordant), detectable(4 * n, discordant)
    assert few is None or many < few


def test_too_few_items_show_nothing():
    # with five, the most one-sided outcome has p = 0.0625
    assert detectable(5, 1.0) is None
    assert detectable(6, 1.0) is not None
    assert detectable(60, 0.05) is None
    assert detectable(0) is None and detectable(100, 0.0) is None
    assert difference_sentence(1).startswith("1 item cannot show a difference: even if one ")
    assert difference_sentence(8).endswith("would miss it more often than one time in five.")


@given(n=st.integers(8, 5000), discordant=shares, score=st.floats(0, 1))
@example(n=4081, discordant=0.939453125, score=0.0)  # 3 points are found in 50.007 % of cases
@settings(max_examples=80, deadline=None)
def test_the_sentence_holds_for_its_numbers(n, discordant, score):
    sentence = difference_sentence(n, discordant, score=score)
    points = re.search(
        r"a difference of ([\d.]+) points or more shows four times in five", sentence
    )
    if points is None:
        assert power_of(n, discordant, discordant) < 0.8 and "would miss it" in sentence
        return
    assert power_of(n, min(discordant, float(points[1]) / 100), discordant) >= 0.8
    if pair := re.search(r"cannot tell (\d+) % from (\d+) %", sentence):
        low, high = (int(part) / 100 for part in pair.groups())
        assert 0 < power_of(n, high - low, discordant) < 0.5
        alone = (discordant - (high - low)) / 2  # what the lower one alone gets right
        assert alone <= low + 1e-9 and alone <= 1 - high + 1e-9


def test_sentences_as_they_are_read():
    assert difference_sentence(60, 0.2) == (
        "60 items cannot tell 30 % from 42 %: a difference of 16.3 points or more shows four "
        "times in five (where one contestant alone is right on 20 % of the items)."
    )
    assert difference_sentence(20_000, 0.2).startswith("On 20,000 items a difference of 0.9 points")
    assert "shows in 90 % of cases" in difference_sentence(60, power=0.9)
    assert "more often than in 10 % of cases" in difference_sentence(8, power=0.9)


@pytest.mark.parametrize(
    "arguments", [(-1,), (10, 1.5), (10, 0.5, 1.0), (10, 0.5, 0.01), (10, 0.5, 0.8, 0.0)]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="it is"):
        detectable(*arguments)


def test_a_difference_comes_of_discordant_items_alone():
    with pytest.raises(ValueError, match="0 to 0.2, since only discordant items"):
        power_of(10, 0.3, 0.2)


def test_a_mean_difference_that_items_can_show():
    gaps = [0.2, -0.1, 0.4, 0.0, -0.3, 0.1, 0.2, -0.2] * 10
    error = statistics.stdev(gaps) / math.sqrt(80)
    least = detectable_mean(error)
    assert least == pytest.approx(2.8016 * error, rel=1e-3)
    assert detectable_mean(error, level=0.05 / 7) == pytest.approx(3.5318 * error, rel=1e-2)
    assert detectable_mean(0.0) is None
