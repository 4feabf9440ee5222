"""Groups of items: who is in which, and that nothing but the answers counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.breakdown import break_down_scores
from distill.evaluation.comparison import ItemText
from warehouse.records import Answer


def answer(contestant, item_id, grade, number=0):
    return Answer(
        f"{contestant}-{item_id}-{number}", "b", "1", item_id, contestant, contestant, {}, "x",
        {"exact_match": grade}, None, "stop", 1, 1, 0.1, 0.0, "run",
    )  # fmt: skip


def item(number, category=None, words=3, passage=None):
    return ItemText(f"i{number:02}", " ".join(["word"] * words), passage, ["yes"], category)


def of(by, groups):
    return {group.name: group for group in groups if group.by == by}


def test_scores_by_category_and_the_small_ones_together():
    names = ["law"] * 6 + ["art"] * 8 + ["sea", "sky", None]
    items = [item(number, name) for number, name in enumerate(names)]
    right = [answer("student", one.item_id, float(one.category == "law")) for one in items]
    found = break_down_scores(right, items, "exact_match")
    groups = of("category", found)
    assert [(name, group.n) for name, group in groups.items()] == [
        ("art", 8),
        ("law", 6),
        ("other", 3),
    ]
    assert groups["law"].scores["student"].value == 1.0
    assert groups["art"].scores["student"].value == groups["other"].scores["student"].value == 0.0
    assert set(groups["law"].scores) == {"student"}


def test_one_category_and_many_tiny_ones_are_no_grouping():
    alike = [item(number, "law") for number in range(12)]
    tiny = [item(number, f"c{number}") for number in range(12)]
    given_ = [answer("base", one.item_id, 1.0) for one in alike]
    assert break_down_scores(given_, alike, "exact_match") == []
    assert break_down_scores(given_, tiny, "exact_match") == []


def test_an_ungraded_answer_is_not_a_zero():
    items = [item(number, "ab"[number % 2]) for number in range(12)]
    given_ = [
        answer("base", one.item_id, None if index < 4 else 1.0) for index, one in enumerate(items)
    ]
    given_ += [answer("teacher", one.item_id, None) for one in items]
    groups = of("category", break_down_scores(given_, items, "exact_match"))
    assert groups["a"].n == 6 and groups["a"].scores["base"].value == 1.0
    assert "teacher" not in groups["a"].scores


def test_thirds_of_length_count_the_passage_and_name_their_range():
    items = [item(number, words=4, passage="w " * number) for number in range(30)]
    given_ = [answer("student", one.item_id, float(index >= 20)) for index, one in enumerate(items)]
    groups = of("length", break_down_scores(given_, items, "exact_match"))
    assert list(groups) == [
        "short (4 to 13 words)",
        "middle (14 to 23 words)",
        "long (24 to 33 words)",
    ]
    assert [group.scores["student"].value for group in groups.values()] == [0.0, 0.0, 1.0]
    assert of("length", break_down_scores(given_, items[:14], "exact_match")) == {}


def test_items_of_equal_length_stay_together():
    items = [item(number, words=3 if number < 15 else 9) for number in range(20)]
    groups = of("length", break_down_scores([], items, "exact_match"))
    assert {name: group.n for name, group in groups.items()} == {
        "short (3 words)": 15,
        "long (9 words)": 5,
    }
    alike = [item(number) for number in range(20)]
    assert of("length", break_down_scores([], alike, "exact_match")) == {}


def test_quarters_of_the_teachers_confidence():
    items = [item(number) for number in range(24)]
    sure = {one.item_id: index / 100 for index, one in enumerate(items)} | {"elsewhere": 0.9}
    given_ = [answer("teacher", one.item_id, float(index > 11)) for index, one in enumerate(items)]
    groups = of("teacher confidence", break_down_scores(given_, items, "exact_match", sure))
    assert list(groups) == [
        "least sure quarter (0.00 to 0.05)", "second quarter (0.06 to 0.11)",
        "third quarter (0.12 to 0.17)", "surest quarter (0.18 to 0.23)",
    ]  # fmt: skip
    assert [group.scores["teacher"].value for group in groups.values()] == [0.0, 0.0, 1.0, 1.0]
    few = {one.item_id: sure[one.item_id] for one in items[:19]} | {"elsewhere": 0.9}
    assert of("teacher confidence", break_down_scores(given_, items, "exact_match", few)) == {}


def test_base_student_and_teacher_come_first():
    items = [item(number, "ab"[number % 2]) for number in range(12)]
    names = ["zebra", "teacher", "base+knn", "student", "base"]
    given_ = [answer(name, one.item_id, 1.0) for name in names for one in items]
    (first, _) = break_down_scores(given_, items, "exact_match")
    assert list(first.scores) == ["base", "student", "teacher", "base+knn", "zebra"]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=15, max_size=40),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None)
def test_every_item_is_in_one_group_of_each_kind_and_order_is_nothing(lengths, seed):
    rng = random.Random(seed)
    items = [item(n, rng.choice("abc"), words) for n, words in enumerate(lengths)]
    given_ = [answer("student", one.item_id, float(rng.random() < 0.5)) for one in items]
    found = break_down_scores(given_, items, "exact_match")
    for by in {group.by for group in found}:
        assert sum(group.n for group in found if group.by == by) == len(items)
        groups = [group for group in found if group.by == by]
        mean = sum(group.n * group.scores["student"].value for group in groups) / len(items)
        assert mean == pytest.approx(sum(a.grades["exact_match"] for a in given_) / len(given_))
    again = [answer("student", given_[0].item_id, 0.5, number=1), answer("student", "gone", 1.0)]
    shuffled = rng.sample([*given_, *again], len(given_) + 2)
    assert break_down_scores(shuffled, items[::-1], "exact_match") == found
