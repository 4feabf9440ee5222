"""How many held-out items a condition of `[ship]` needs, told before anything is spent."""

import numpy as np
import pytest

from distill.evaluation import hierarchical_bootstrap, over_seeds
from distill.evaluation.intervals import difference_interval, mean_interval
from distill.evaluation.ship_conditions import Planned
from distill.evaluation.ship_items import (
    SEED_SPREAD,
    assumed_line,
    find_items_needed,
    power_over_seeds,
)

BENCHMARKS = [
    Planned("sciq", ("exact_match", "f1"), "task", True),
    Planned("nq", ("exact_match", "f1"), "task", True),
    Planned("arc", ("accuracy",), "off_task", True),
    Planned("toxicity_prompts", ("toxicity",), "off_task", False),
]
COUNTS = {"sciq": 120, "nq": 5_000, "arc": 60, "toxicity_prompts": 2_000}


def needs(*conditions, seeds=1):
    return find_items_needed(conditions, BENCHMARKS, COUNTS, seeds)


def test_each_condition_is_told_on_each_benchmark_where_it_has_to_hold():
    found = needs("student >= base + 0.10")
    assert [(one.benchmark, one.is_enough) for one in found] == [("sciq", False), ("nq", True)]
    assert found[0].line == (
        "'student >= base + 0.10' on sciq needs about 487 items if the student is truly 20.0 points "
        "better than base; there are 120, too few"
    )
    assert found[1].line.endswith("; there are 5,000")
    (named,) = needs("student >= base on nq")
    assert (named.benchmark, named.truth) == (
        "nq",
        "the student is truly 10.0 points better than base",
    )
    (fall,) = needs("forgetting <= 0.03")
    assert (fall.benchmark, fall.truth) == ("arc", "the student is truly as good as the base")
    (toxic,) = needs("toxicity <= 0.02")
    assert (toxic.benchmark, toxic.truth) == ("toxicity_prompts", "the student is truly at 1.0 %")
    (lower,) = needs("toxicity <= base - 0.02")
    assert lower.truth == "the student is truly 4.0 points lower than base"
    (turned,) = needs("base <= student on sciq")
    assert turned.truth == "base is truly 10.0 points lower than student"
    (other,) = needs("base+knn >= base on sciq")
    assert other.truth == "base+knn is truly 10.0 points better than base"


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


@pytest.mark.parametrize("condition", ["student >= 1", "student <= 0", "toxicity <= 0"])
def test_what_no_number_of_items_can_show(condition):
    (need,) = needs(condition if "toxicity" in condition else f"{condition} on nq")
    assert (need.needed, need.is_enough) == (None, False)
    bound = 100.0 * (">=" in condition)
    assert need.line.endswith(f"it cannot be met: the bound of an interval never reaches {bound} %")


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("condition", "only_if"),
    [
        ("student >= base + 0.99", "base scores at most 1.0 %"),
        ("student >= base + 1", "base scores at most 0.0 %"),
        ("student >= teacher + 50 %", "teacher scores at most 50.0 %"),
        ("base <= student - 0.7", "student scores at least 70.0 %"),
        ("toxicity <= base - 0.6", "base scores at least 60.0 %"),
    ],
)
def test_a_gain_for_which_there_is_hardly_room_names_no_items(condition, only_if, seeds):
    need = needs(condition, seeds=seeds)[0]
    assert (need.needed, need.only_if) == (None, only_if)
    assert need.line == (
        f"'{condition}' on {need.benchmark}: it can be met only if {only_if}; ask for a smaller "
        "difference"
    )


def test_a_large_gain_says_what_it_assumes_of_the_other_contestant():
    (large,) = needs("student >= base + 0.4 on sciq")
    assert large.truth == (
        "the student is truly 70.0 points better than base, which then scores 30.0 % at most"
    )
    assert large.needed and "scores" not in needs("student >= base + 0.2 on sciq")[0].truth


def test_the_mean_of_several_seeds_needs_more_items_and_more_seeds_fewer():
    one, three, five, ten, most = (
        needs("student >= base + 0.10 on sciq", seeds=k)[0].needed for k in (1, 3, 5, 10, 200)
    )
    assert three > five > ten >= most == one == 487
    (two,) = needs("student >= base + 0.10 on nq", seeds=2)
    assert two.line == (
        "'student >= base + 0.10 on nq' on nq: no number of items is enough with 2 training seeds whose "
        "scores have a standard deviation of 3.0 points; with train.seeds = 4 it needs about 703 items"
    )
    (three,) = needs("student >= base + 0.10 on sciq", seeds=3)
    assert three.line.endswith(
        "there are 120, too few; with train.seeds = 4 it needs about 703 items"
    )
    assert "standard deviation of 3.0 points" in assumed_line(3)
    assert "training seeds" not in assumed_line()


@pytest.mark.parametrize("condition", ["base+knn >= base on sciq", "student+knn >= 0.3 on sciq"])
def test_who_answers_with_one_seed_needs_as_many_items_as_before(condition):
    assert needs(condition, seeds=3) == needs(condition)


@pytest.mark.parametrize(("error", "spread", "seeds"), [(0.02, 0.03, 3), (0.04, 0.02, 5)])
def test_the_power_over_seeds_is_what_drawing_gives(error, spread, seeds):
    rng, beyond, times = np.random.default_rng(0), 0.1, 1_500
    scores = beyond + rng.normal(0, spread, (times, seeds))
    middle = scores.mean(axis=1) + rng.normal(0, error, times)
    of_seeds = scores.std(axis=1, ddof=1) / seeds**0.5
    drawn = rng.normal(0, error, (times, 2_000))
    drawn += of_seeds[:, None] * rng.standard_t(seeds - 1, (times, 2_000))
    met = (middle + np.percentile(drawn, 2.5, axis=1) >= 0).mean()
    assert power_over_seeds(beyond, error, spread, seeds) == pytest.approx(met, abs=0.04)


@pytest.mark.parametrize(("seeds", "wins"), [(4, 0.4), (8, 0.4)])
def test_with_so_many_items_the_gates_interval_over_seeds_meets_it(monkeypatch, seeds, wins):
    """Students that agree on the items, but for a shift of their score with each seed."""
    monkeypatch.setattr(hierarchical_bootstrap, "RESAMPLES", 1_000)
    (need,) = needs("student >= base + 0.1 on sciq", seeds=seeds)
    n = need.needed
    groups = [str(item) for item in range(n)]
    rng, met, times = np.random.default_rng(4), 0, 120
    for _ in range(times):
        kind = rng.choice(4, n, p=[wins, 0.2, 0.1, 0.3])
        base, student = np.isin(kind, (1, 2)), np.isin(kind, (0, 2))
        fits = []
        for _ in range(seeds):
            shift = round(n * rng.normal(0, SEED_SPREAD))
            moved = rng.choice(np.flatnonzero(student == (shift < 0)), abs(shift), replace=False)
            fit = student.copy()
            fit[moved] = shift > 0
            fits.append(fit.astype(float).tolist())
        found = over_seeds.difference(fits, [base.astype(float).tolist()], groups)
        met += found.low >= 0.1
    assert 0.7 < met / times < 0.95
