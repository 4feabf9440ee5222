"""Means and differences over training seeds: they cover seeds and items, and claim no more."""

from dataclasses import replace

import numpy as np
import pytest

from distill.evaluation import over_seeds
from distill.evaluation.compare import compare
from distill.evaluation.evaluate import evaluate_answers
from distill.evaluation.hierarchical_bootstrap import hierarchical_bootstrap
from distill.evaluation.inputs import BenchmarkAnswers, Rules, TrainingProvenance
from distill.evaluation.intervals import difference_interval, mean_interval
from distill.evaluation.over_seeds import Trained
from distill.evaluation.statistics import permutation_p_value
from distill.evaluation.verdict import is_clear, verdict, warnings
from distill.plan.plan import load_plan
from quality.benchmarks.custom import Custom
from tests.bench.seeds import simulate
from tests.distill.test_compare import items, series
from tests.distill.test_evaluate import said
from tests.distill.test_nearest import sample
from tests.distill.test_plan import SMALL, write
from tests.support.plans import write_rows


def right(number, n=60):
    return [1.0] * number + [0.0] * (n - number)


def over(*counts, base=20, n=60):
    """Students with so many right answers each, one for each seed, against a base."""
    first, *others = (series("student", right(count, n)) for count in counts)
    answers = [*first, *series("base", right(base, n)), *series("teacher", right(50, n))]
    return compare("quiz", answers, items(n), other_seeds={"student": others})


def test_the_student_is_the_mean_over_its_seeds():
    found = over(30, 33, 36)
    assert found.standing("student").metrics["exact_match"].value == pytest.approx(33 / 60)
    pair = found.difference("student", "base")
    assert pair.fits == (3, 1) and pair.is_over_seeds
    assert pair.metrics["exact_match"].value == pytest.approx(13 / 60)
    assert (pair.wins, pair.losses, pair.ties) == (16, 0, 44)
    assert found.difference("teacher", "base").test == "McNemar"
    assert found.test == "paired test"
    assert found.gap_closed.interval.value == pytest.approx(13 / 30)


def test_seeds_that_differ_make_intervals_wider_and_claims_rarer():
    def gain(found):
        return found.difference("student", "base").metrics["exact_match"]

    near, far = over(34, 35, 36), over(22, 35, 48)
    assert width(gain(over(35))) <= width(gain(near)) and 1.5 * width(gain(near)) < width(gain(far))
    assert is_clear(over(35).difference("student", "base"), "exact_match")
    assert is_clear(near.difference("student", "base"), "exact_match")
    assert not is_clear(far.difference("student", "base"), "exact_match")
    assert near.gap_closed.interval.high < far.gap_closed.interval.high
    assert near.detectable < far.detectable


def test_the_verdict_says_what_seeds_it_rests_on():
    assert verdict(over(35)).endswith(
        "The student was trained once: another training seed may move its score by a few points."
    )
    three = verdict(over(34, 35, 36))
    assert three.endswith("The student's score is the mean over 3 training seeds.")
    assert "n = 60, 3 seeds, hierarchical bootstrap p" in three
    assert "two tell little of what a third would change" in verdict(over(34, 36))
    assert "training seed" not in verdict(over(5, base=2, n=9))
    assert (
        "With 60 items and 3 seeds as unequal as these, a true difference of"
        in warnings(over(34, 35, 36))[-1]
    )


def test_an_item_counts_where_every_seed_answered_it():
    first, other = series("student", right(30)), series("student", right(40))
    other = [replace(other[0], grades={"exact_match": None}), *other[2:]]  # abstained, failed
    answers = [*first, *series("base", right(20))]
    found = compare("quiz", answers, items(60), other_seeds={"student": [other]})
    standing = found.standing("student")
    assert (standing.graded, standing.abstained, standing.failed) == (58, 1, 1)
    assert found.difference("student", "base").n == 58
    assert any("student failed on 1 of 60" in note for note in found.notes)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize("count", [0, 1, 12, 30, 59, 60])
@pytest.mark.parametrize("size", [1, 5])
def test_three_equal_seeds_know_no_more_of_the_items_than_one(count, size):
    student, base = right(count), right(20)
    groups = [str(item // size) for item in range(60)]
    one, three = over_seeds.score([student], groups), over_seeds.score([student] * 3, groups)
    assert three.low <= one.low and one.high <= three.high and three.value == one.value
    assert width(three) < 1.15 * width(one)  # the seeds add nothing where they agree
    once = over_seeds.difference([student], [base], groups)
    thrice = over_seeds.difference([student] * 3, [base], groups)
    assert thrice.low <= once.low and once.high <= thrice.high
    p_values = [over_seeds.p_value([student] * k, [base], groups) for k in (1, 3)]
    assert p_values[1] >= p_values[0]


def test_of_many_zeros_the_interval_over_equal_seeds_is_that_of_one_seed():
    """Nothing right in 40 items: as was, three equal seeds gave 0.0 to 7.1, one 0.0 to 9.3."""
    groups = [str(item) for item in range(40)]
    one, three = (over_seeds.score([right(0, 40)] * k, groups) for k in (1, 3))
    assert three == one and three.high > 0.08


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("n", [10, 40, 300])
def test_an_interval_over_seeds_is_never_narrower_than_that_of_their_mean_answers(spread, n):
    rng = np.random.default_rng(n)
    groups = [str(item) for item in range(n)]
    for _ in range(5):
        chances, base = rng.random(n), [(rng.random(n) < 0.4).astype(float).tolist()]
        first = rng.random(n) < chances
        fits = [
            np.where(rng.random(n) < spread, ~first, first).astype(float).tolist() for _ in "abc"
        ]
        mean = over_seeds.mean_grades(fits)
        alone, over_all = mean_interval(mean, groups), over_seeds.score(fits, groups)
        assert over_all.low <= alone.low and alone.high <= over_all.high
        alone = difference_interval(mean, base[0], groups)
        over_all = over_seeds.difference(fits, base, groups)
        assert over_all.low <= alone.low and alone.high <= over_all.high
        assert over_seeds.p_value(fits, base, groups) >= permutation_p_value(
            over_seeds.gaps(fits, base), groups
        )


def test_two_sides_with_seeds_of_their_own():
    left, right_ = ([right(c) for c in counts] for counts in ((30, 34, 38), (29, 33, 40, 34)))
    groups = [str(n) for n in range(60)]
    gap = over_seeds.difference(left, right_, groups)
    assert gap.value == pytest.approx(0) and gap.low < -0.05 and gap.high > 0.05
    assert over_seeds.p_value(left, right_, groups) > 0.5
    error, freedom = over_seeds.error_of(left, right_, groups)
    assert error > over_seeds.seed_error(left) > 0 and 2 < freedom < 59


def test_items_of_one_passage_are_drawn_together():
    rng = np.random.default_rng(0)
    one_each = np.repeat(rng.random((1, 24)) < 0.5, 5, axis=1).astype(float)
    fits = [list(one_each[0]), list(one_each[0])]
    groups = [str(n // 5) for n in range(120)]
    together = hierarchical_bootstrap(fits, bounds=(0, 1), groups=groups).interval
    apart = hierarchical_bootstrap(fits, bounds=(0, 1)).interval
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


@pytest.mark.parametrize(("items_", "seeds"), [(120, 3), (2_000, 3)])
def test_intervals_cover_and_two_fits_are_seldom_called_different(items_, seeds):
    rates = simulate(items_, seeds, draws=100)
    assert rates.covered >= 0.93 and rates.score_covered >= 0.93
    assert rates.different <= 0.06


def test_with_one_seed_two_fits_are_often_called_different():
    """Why the verdict says so; at 2,000 items each second pair."""
    assert simulate(2_000, 1, draws=60).different > 0.3


def test_one_seed_is_as_before_and_more_are_another_plan(tmp_path):
    train = '[train]\nbase = "tiny"\n'
    plain = load_plan(write(tmp_path, SMALL + train))
    one = load_plan(write(tmp_path, SMALL + train + "seeds = 1\n"))
    three = load_plan(write(tmp_path, SMALL + train + "seeds = 3\nseed = 4\n"))
    assert plain.plan_hash == one.plan_hash != three.plan_hash
    assert [section.seed for section in three.train.of_each_seed] == [4, 5, 6]
    assert plain.train.of_each_seed == [plain.train]


def test_what_a_student_cost_counts_the_answers_of_every_seed(tmp_path):
    write_rows(
        tmp_path / "held_out.jsonl", [{"prompt": f"{n}?", "reference": "x"} for n in range(5)]
    )
    benchmark = Custom(path="held_out.jsonl")
    asked = list(benchmark.items(tmp_path))

    def answers(name, seconds):
        return [replace(a, latency_s=seconds) for a in said(benchmark, asked, name, lambda i: "x")]

    own, second, third = (answers(f"student{n}", 60.0 * (n + 1)) for n in range(3))
    own = [replace(answer, contestant="student") for answer in own]
    trained = [Trained(n, f"s{n}", given) for n, given in enumerate((own, second, third))]
    board = BenchmarkAnswers(benchmark, "task", asked, own, trained=trained)
    provenance = TrainingProvenance(kept=[sample("s", "Which?")], training_hours=1.0)
    found = evaluate_answers([board], Rules(["student"], usd_per_hour=1.0), provenance)
    assert found.cost.hours == pytest.approx(1.0 + 5 * (60 + 120 + 180) / 3600)
    (line,) = found.economics
    assert line.latency_s == pytest.approx(60.0)  # of the first seed alone, as the page says
