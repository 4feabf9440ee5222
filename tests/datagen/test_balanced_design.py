"""An even design: counts of levels and of pairs, against what their weights say."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from datagen.balanced_design import _assign, _in_even_order, balanced_design


def levels(number: int) -> dict[str, float]:
    return {f"level {n}": 1.0 for n in range(number)}


def rows(factors, number: int) -> list[dict[str, str]]:
    return list(islice(balanced_design(factors), number))


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_steps_has_each_level_as_often_as_its_share_says(seed):
    chance = random.Random(seed)
    weights = {f"l{n}": chance.choice([0.1, 1, 2, 3, 7]) for n in range(chance.randrange(2, 12))}
    total = sum(weights.values())
    used: Counter[str] = Counter()
    shares = {level: weight / total for level, weight in weights.items()}
    for step, level in enumerate(islice(_in_even_order(shares), 400), start=1):
        used[level] += 1
        assert all(abs(used[name] - step * share) < 1 for name, share in shares.items())


@pytest.mark.parametrize("seed", range(10))
def test_every_handful_of_a_design_ends_even(seed):
    chance = random.Random(seed)
    factors = {
        f"f{n}": {f"l{k}": chance.choice([1, 1, 2, 5]) for k in range(chance.randrange(1, 8))}
        for n in range(4)
    }
    design = rows(factors, 210)
    for name, weights in factors.items():
        total, used = sum(weights.values()), Counter()
        for step, row in enumerate(design, start=1):
            used[row[name]] += 1
            if step % len(weights) == 0:
                assert all(abs(used[k] - step * w / total) < 1 for k, w in weights.items())


def test_equal_weights_are_used_equally_often():
    design = rows({"a": levels(7), "b": levels(3), "c": levels(40)}, 840)
    for name, times in (("a", 120), ("b", 280), ("c", 21)):
        assert set(Counter(row[name] for row in design).values()) == {times}


def test_pairs_meet_equally_often_as_soon_as_they_can():
    design = rows({"topic": levels(10), "persona": levels(10)}, 300)
    for number in (100, 200, 300):
        pairs = Counter((row["topic"], row["persona"]) for row in design[:number])
        assert len(pairs) == 100 and set(pairs.values()) == {number // 100}


def test_factors_of_two_levels_are_not_tied_to_each_other():
    design = rows({"a": levels(2), "b": levels(2), "c": levels(3)}, 24)
    assert set(Counter(tuple(row.values()) for row in design[:12]).values()) == {1}
    assert set(Counter(tuple(row.values()) for row in design).values()) == {2}


def test_weighted_levels_meet_others_by_their_weight():
    design = rows({"a": levels(10), "b": {"often": 3, "seldom": 1}}, 400)
    pairs = Counter((row["a"], row["b"]) for row in design)
    assert all(abs(pairs[f"level {n}", "often"] - 30) <= 2 for n in range(10))
    assert Counter(row["b"] for row in design) == {"often": 300, "seldom": 100}


def test_a_longer_design_begins_with_the_shorter_one():
    factors = {"a": levels(5), "b": {"x": 2, "y": 1}}
    assert rows(factors, 50)[:20] == rows(factors, 20)


def test_one_level_and_one_factor():
    assert rows({"a": {"x": 5}}, 3) == [{"a": "x"}] * 3


@pytest.mark.parametrize("seed", range(40))
def test_the_assignment_has_the_least_sum(seed):
    chance = random.Random(seed)
    size = chance.randrange(1, 12)
    costs = [[chance.choice([-1, 0, 0.5, 1, 2]) for _ in range(size)] for _ in range(size)]
    chosen = _assign(costs)
    assert sorted(chosen) == list(range(size))
    table = np.array(costs)
    best = table[linear_sum_assignment(table)].sum()
    assert sum(costs[n][chosen[n]] for n in range(size)) == pytest.approx(best)
