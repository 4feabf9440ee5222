"""How many held-out items a condition of `[ship]` needs, told before anything is spent."""

import numpy as np
import pytest

from distill.evaluation.intervals import difference_interval, mean_interval
from distill.evaluation.ship_conditions import Planned
from distill.evaluation.ship_items import find_items_needed

BENCHMARKS = [
    Planned("sciq", ("exact_match", "f1"), "task", True),
    Planned("nq", ("exact_match", "f1"), "task", True),
    Planned("arc", ("accuracy",), "off_task", True),
    Planned("toxicity_prompts", ("toxicity",), "off_task", False),
]
COUNTS = {"sciq": 120, "nq": 5_000, "arc": 60, "toxicity_prompts": 2_000}


def needs(*conditions):
    return find_items_needed(conditions, BENCHMARKS, COUNTS)


def test_each_condition_is_told_on_each_benchmark_where_it_has_to_hold():
    found = needs("student >= base + 0.10")
    assert [(one.benchmark, one.is_enough) for one in found] == [("sciq", False), ("nq", True)]
    assert found[0].line == (
        "'student >= base + 0.10' on sciq needs about 487 items if the student is truly 20.0 points "
        "better than base; there are 120, too few"
    )
    assert found[1].line.endswith("; there are 5,000")
    (named,) = needs("student >= base on nq")
    assert (named.benchmark, named.truth) == ("nq", "truly 10.0 points better than base")
    (fall,) = needs("forgetting <= 0.03")
    assert (fall.benchmark, fall.truth) == ("arc", "truly as good as the base")
    (toxic,) = needs("toxicity <= 0.02")
    assert (toxic.benchmark, toxic.truth) == ("toxicity_prompts", "truly at 1.0 %")
    (lower,) = needs("toxicity <= base - 0.02")
    assert lower.truth == "truly 4.0 points lower than base"


@pytest.mark.parametrize(
    ("margin", "wins", "losses"),
    [(0.0, 0.3, 0.2), (0.1, 0.4, 0.2), (0.2, 0.6, 0.2), (-0.1, 0.2, 0.2)],
)
def test_with_so_many_items_the_interval_meets_it_four_times_in_five(margin, wins, losses):
    (need,) = needs(f"student >= base {'+-'[margin < 0]} {abs(margin)} on sciq")
    rng, met, times = np.random.default_rng(2), 0, 400
    for _ in range(times):
        won, lost, _ = rng.multinomial(need.needed, [wins, losses, 1 - wins - losses])
        left = np.zeros(need.needed)
        left[:won], right = 1, np.zeros(need.needed)
        right[won : won + lost] = 1
        met += difference_interval(left, right).low >= margin
    assert 0.74 < met / times < 0.93


@pytest.mark.parametrize(("condition", "truth"), [("student >= 0.3", 0.4), ("student <= 0.3", 0.2)])
def test_the_same_against_a_number(condition, truth):
    (need,) = needs(f"{condition} on sciq")
    rng, met, times = np.random.default_rng(2), 0, 600
    for _ in range(times):
        right = rng.binomial(need.needed, truth)
        found = mean_interval([1.0] * right + [0.0] * (need.needed - right))
        met += found.low >= 0.3 if truth > 0.3 else found.high <= 0.3
    assert 0.74 < met / times < 0.88


def test_a_larger_margin_needs_fewer_items_and_ten_at_least():
    margins = [needs(f"student >= base + {m} on sciq")[0].needed for m in (0.02, 0.05, 0.1, 0.2)]
    assert margins == sorted(margins, reverse=True)
    assert needs("student >= base - 0.9 on sciq")[0].needed == 10


@pytest.mark.parametrize("condition", ["student >= 1", "student <= 0", "student >= base + 1"])
def test_what_no_number_of_items_can_show(condition):
    (need,) = needs(f"{condition} on nq")
    assert (need.needed, need.is_enough) == (None, False)
    assert need.line.endswith("no number of items makes this certain")
