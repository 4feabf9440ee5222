"""Choosing what covers the set, and choosing evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.gate.diversity import balance, spread

ASKED = [
    "What is a living cell?",
    "What is a living cell made of?",
    "Who wrote Hamlet?",
    "What is a cell?",
    "Who wrote Macbeth?",
    "How far away is the moon?",
]


def test_farthest_first_takes_one_of_each_subject():
    subjects = {0: "cell", 1: "cell", 2: "play", 3: "cell", 4: "play", 5: "moon"}
    taken = spread(ASKED, 3)
    assert {subjects[n] for n in taken} == {"cell", "play", "moon"}
    vectors = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99], [-1, 0]], dtype=np.float32)
    assert set(spread(vectors, 3)) & {4} and len(set(spread(vectors, 3)) & {2, 3}) == 1


def test_an_encoder_says_how_far_apart():
    class Lengths:
        def encode(self, texts):
            long = np.array([len(text) > 20 for text in texts])
            return np.stack([long, ~long], axis=1).astype(np.float32)

    taken = spread(["a", "b", "c" * 30, "d"], 2, Lengths())
    assert sorted(taken) == [0, 2]
    assert spread([" ", "c" * 30, "d"], 3, Lengths())[-1] == 0


def test_blank_and_equal_texts_come_last():
    taken = spread(["", "a cell", "a cell", " ", "🙂", "the moon"], 6)
    assert sorted(taken) == list(range(6))
    assert set(taken[:3]) == {1, 4, 5}
    assert taken[3:] == [2, 0, 3]
    assert sorted(spread(["", " "], 2)) == [0, 1]
    assert spread([], 3) == [] == spread(["a"], 0)


@given(st.lists(st.text(max_size=12), max_size=12), st.integers(0, 14))
def test_a_smaller_limit_takes_the_beginning(texts, limit):
    taken = spread(texts, limit)
    assert taken == spread(texts, len(texts))[:limit]
    assert len(set(taken)) == len(taken) == min(limit, len(texts))


def test_evenly_over_groups_of_unlike_size():
    groups = ["a"] * 10 + ["b"] * 3 + ["c"]
    taken = balance(groups, None, 9)
    assert sorted(groups[n] for n in taken) == ["a"] * 5 + ["b"] * 3 + ["c"]
    assert taken[:3] == [0, 10, 13]
    assert sorted(balance(groups)) == list(range(14))
    assert balance(groups, None, 0) == []


def test_the_best_of_each_group_and_of_the_last_round():
    groups = ["a", "a", "b", "b", "c"]
    ranks = [0.1, 0.9, 0.5, float("nan"), -float("inf")]
    assert balance(groups, ranks, 3) == [1, 2, 4]
    assert balance(groups, ranks, 2) == [1, 2]
    assert balance(groups, ranks) == [1, 2, 4, 0, 3]
    assert balance(["all"] * 3, [1.0, 3.0, 3.0], 2) == [1, 2]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(allow_nan=True)), max_size=20),
    st.integers(0, 20),
)
def test_no_group_has_two_more_than_another_that_could_give(rows, limit):
    groups, ranks = [group for group, _ in rows], [rank for _, rank in rows]
    taken = balance(groups, ranks, limit)
    assert len(set(taken)) == len(taken) == min(limit, len(rows))
    counts = {group: sum(groups[n] == group for n in taken) for group in set(groups)}
    for group, count in counts.items():
        if count < groups.count(group):
            assert max(counts.values()) <= count + 1


def test_what_makes_no_sense_is_refused():
    for bad in (
        lambda: spread(["a"], -1),
        lambda: balance(["a"], None, -1),
        lambda: balance(["a"], []),
    ):
        with pytest.raises(ValueError):
            bad()
