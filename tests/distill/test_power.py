"""Power of McNemar's exact test against sums by hand, and sentences that hold."""

from __future__ import annotations

import math
import re
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial

from distill.evaluation.power import (
    _table,
    detectable,
    detectable_mean,
    difference_sentence,
    items_needed,
    loss_rates,
    power_of,
)

shares = st.floats(0.0, 0.5)


def at(n, difference, losses, level=0.05):
    """Power where the worse one alone is right on `losses` of the items."""
    return power_of(n, difference, min(1.0, 2 * losses + difference), level)


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
    least = detectable(2000, 0.2)
    discordant = 0.4 + least
    z = 1.959964 * math.sqrt(discordant) + 0.841621 * math.sqrt(
        discordant - least**2
    )  # Connor 1987
    assert 0 < least - z / math.sqrt(2000) < 0.002  # the exact test asks for a little more


@given(n=st.integers(6, 400), losses=shares, power=st.floats(0.3, 0.95))
@settings(max_examples=40, deadline=None)
def test_what_is_detectable_is_found_and_less_is_not(n, losses, power):
    least = detectable(n, losses, power)
    assert at(n, least, losses) >= power
    assert at(n, max(0.0, least - 1e-4), losses) < power


@given(n=st.integers(20, 300), losses=shares)
@example(n=30, losses=0.5)
@settings(max_examples=15, deadline=None)
def test_four_times_as_many_items_show_less_and_more_losses_hide_more(n, losses):
    assert detectable(4 * n, losses) < detectable(n, losses)
    # the exact test's power has teeth: where nearly all items differ, up to 0.013 were found
    assert detectable(n, losses / 2) <= detectable(n, losses) + 0.02


def test_too_few_items_show_nothing():
    # with five, the most one-sided outcome has p = 0.0625
    assert detectable(5, 0.0) is None and detectable(0) is None
    assert detectable(6, 0.0) is not None
    assert difference_sentence(1).startswith("1 item cannot show a difference: even if one ")
    assert difference_sentence(5).endswith("would miss it more often than one time in five.")


def test_items_without_wins_and_losses_show_small_differences():
    """Six wins without a loss are the fewest that p allows: about 7.9 of 2,000 have to be expected."""
    low, high = loss_rates(0, 0, 2_000)
    assert (low, high) == (0.0, pytest.approx(0.0015, abs=1e-5))  # 3 / n, the rule of three
    assert detectable(2_000, low) == pytest.approx(0.00395, abs=2e-5)
    assert binom.sf(5, 2_000, detectable(2_000, low)) == pytest.approx(0.8, abs=2e-3)
    assert detectable(2_000, high) == pytest.approx(0.0061, abs=1e-4)
    assert difference_sentence(2_000, low, high) == (
        "With 2,000 items, a true difference of 0.4 points or more (0.7 by a cautious estimate) is "
        "found four times in five. This assumes that the worse contestant alone is right on 0 % of the "
        "items, by the cautious estimate on 0.1 %."
    )


def test_a_loss_rate_is_that_of_the_worse_one_with_its_upper_bound():
    assert loss_rates(20, 9, 120) == loss_rates(9, 20, 120)
    low, high = loss_rates(20, 9, 120)
    assert low == 9 / 120 and binom.cdf(9, 120, high) == pytest.approx(0.05)
    assert loss_rates(20, 20, 40) == (0.5, 0.5)


@given(n=st.integers(6, 5000), losses=shares, more=st.floats(0, 0.2), score=st.floats(0, 1))
@example(n=110, losses=0.34375, more=0.125, score=0.0)
@settings(max_examples=40, deadline=None)
def test_the_sentence_holds_for_its_numbers(n, losses, more, score):
    most = min(0.5, losses + more)
    sentence = difference_sentence(n, losses, most, score=score)
    points = re.search(
        r"a true difference of ([\d.]+) points? or more(?: \(([\d.]+) by a cautious estimate\))? is "
        r"found four times in five\.",
        sentence,
    )
    assert at(n, min(1.0, float(points[1]) / 100), losses) >= 0.8
    assert at(n, min(1.0, float(points[2] or points[1]) / 100), most) >= 0.8
    assert float(points[2] or points[1]) >= float(points[1])
    assert at(n, max(0.0, float(points[1]) / 100 - 0.0011), losses) < 0.8  # and no more is asked
    pair = re.search(r"such as between (\d+) % and (\d+) %, is missed more often", sentence)
    assert ("missed" in sentence) == bool(pair)
    if pair:
        low, high = (int(part) / 100 for part in pair.groups())
        assert high - low < float(points[1]) / 100  # a smaller one, as the sentence says
        assert 0 < at(n, high - low, losses) < 0.5
        alone = min(losses, (1 - (high - low)) / 2)  # what the lower one alone gets right
        assert alone <= low + 1e-9 and alone <= 1 - high + 1e-9


def test_sentences_as_they_are_read():
    assert difference_sentence(60, 0.1) == (
        "With 60 items, a true difference of 25 points or more is found four times in five. A smaller "
        "one, such as between 30 % and 46 %, is missed more often than not. This assumes that the "
        "worse contestant alone is right on 10 % of the items."
    )
    assert difference_sentence(20_000, 0.1).startswith(
        "With 20,000 items, a true difference of 1 point or more is found four times in five. This "
    )
    assert "is found in 90 % of cases" in difference_sentence(60, power=0.9)
    assert "more often than in 10 % of cases" in difference_sentence(5, power=0.9)


@pytest.mark.parametrize(
    ("difference", "discordance"),
    [(0.1, 0.3), (0.1, 0.1), (0.4, 1.0), (1.0, 1.0), (0.3, 0.35), (0.07, 0.5)],
)
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_the_items_needed_are_the_fewest(difference, discordance, power):
    needed = items_needed(difference, discordance, power)
    assert power_of(needed, difference, discordance) >= power
    assert all(power_of(n, difference, discordance) < power for n in range(needed))


def test_many_items_are_found_without_counting_up():
    needed = items_needed(0.002, 0.1)
    assert power_of(needed, 0.002, 0.1) >= 0.8 > power_of(needed - 1, 0.002, 0.1)
    assert needed == pytest.approx((1.959964 + 0.841621) ** 2 * 0.1 / 0.002**2, rel=0.01)
    assert items_needed(0.1, 0.3, level=0.01) > items_needed(0.1, 0.3)


@pytest.mark.parametrize("arguments", [(0.0, 0.3), (0.4, 0.3), (0.1, 1.2), (0.1, 0.3, 1.0)])
def test_no_number_of_items_is_given_for_what_cannot_be(arguments):
    with pytest.raises(ValueError, match="it is"):
        items_needed(*arguments)


@pytest.mark.parametrize(
    "arguments", [(-1,), (10, 1.5), (10, 0.6), (10, 0.5, 1.0), (10, 0.5, 0.01), (10, 0.5, 0.8, 0.0)]
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
    assert detectable_mean(error) == pytest.approx((2.8016 * error,) * 2, rel=1e-3)
    assert detectable_mean(error, level=0.05 / 7)[0] == pytest.approx(3.5318 * error, rel=1e-2)
    few, cautious = detectable_mean(error, groups=8)
    assert few == pytest.approx((2.3646 + 0.8960) * error, rel=1e-3)  # Student's, 7 degrees
    assert cautious == pytest.approx(few * (7 / 2.1673) ** 0.5, rel=1e-3)  # chi-square at 0.05


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 20, 2_000])
def test_the_table_of_outcomes_is_scipys(n, share):
    number, probability, losses = _table(n, share, 0.05)
    assert probability == pytest.approx(binom.pmf(number, n, share), rel=1e-8)
    assert probability.sum() == pytest.approx(1, abs=1e-10)
    assert list(losses) == list(binom.ppf(0.025, number, 0.5) - 1)
