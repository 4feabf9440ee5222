"""How often a student that is no better than the base would have passed `[ship]`."""

import random

import numpy as np
import pytest
from scipy import stats

from distill.evaluation.compare import compare
from distill.evaluation.comparison import PAIRS
from distill.evaluation.findings import Evaluation
from distill.evaluation.intervals import difference_interval
from distill.evaluation.ship_chance import Bound, _Change, _changes, chance_of_passing
from distill.evaluation.ship_gate import check_ship
from distill.evaluation.statistics import Interval
from tests.distill.test_compare import answer, items, series


def outcomes(wins, losses, n, right=0):
    """Grades of student and base: so many that one alone has right, and some that both have."""
    rest = n - wins - losses
    both = [1.0] * right + [0.0] * (rest - right)
    return [1.0] * wins + [0.0] * losses + both, [0.0] * wins + [1.0] * losses + both


def verdict(conditions, *boards, certain=True, roles=()):
    """The verdict on benchmarks, each {contestant: grades}."""
    comparisons, given = [], {}
    for number, board in enumerate(boards):
        name = f"b{number}"
        answers = [one for who, grades in board.items() for one in series(who, grades)]
        texts = items(len(next(iter(board.values()))))
        role = roles[number] if roles else "task"
        comparisons.append(compare(name, answers, texts, pairs=PAIRS, role=role))
        given[name] = (answers, texts)
    return check_ship(conditions, Evaluation(comparisons), certain, given)


def exact(wins, losses, n, limit, certain):
    """Every outcome of the discordant items, by its binomial probability."""
    number, chance = wins + losses, 0.0
    for won in range(number + 1):
        student, base = outcomes(won, number - won, n)
        interval = difference_interval(student, base)
        value = interval.low if certain else interval.value
        chance += stats.binom.pmf(won, number, 0.5) * (value >= limit - 1e-9)
    return chance


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize(("wins", "losses", "n"), [(9, 3, 20), (14, 10, 60), (30, 6, 120)])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_one_condition_is_the_binomial_probability(wins, losses, n, margin, certain):
    student, base = outcomes(wins, losses, n, 4)
    found = verdict(
        [f"student >= base + {margin}"], {"student": student, "base": base}, certain=certain
    )
    assert found.by_chance == pytest.approx(exact(wins, losses, n, margin, certain), abs=0.015)
    turned = verdict(
        [f"base <= student - {margin}"], {"student": student, "base": base}, certain=certain
    )
    assert turned.by_chance == found.by_chance


def test_the_interval_of_a_draw_is_the_one_that_would_be_measured():
    draw = random.Random(3)
    old, new = ([draw.random() for _ in range(24)] for _ in range(2))
    answers = series("base", old) + series("student", new)
    texts = items(24)
    bound = Bound("b", "exact_match", "student", "base", True, 0.0, Interval(0, -1, 1), 24)
    for size in (1, 3, 5):  # items of a passage
        groups = [f"g{n // size}" for n in range(24)]
        units = sorted(set(groups))
        sums, counts = np.zeros(len(units)), np.zeros(len(units))
        for group, one, other in zip(groups, new, old, strict=True):
            sums[units.index(group)] += one - other
            counts[units.index(group)] += 1
        signs = np.array([[draw.choice((-1, 1)) for _ in units] for _ in range(4)])
        drawn = _Change(sums, counts).drawn(signs)
        for number, row in enumerate(signs):
            sign = [row[units.index(group)] for group in groups]
            left = [(1 + s * (a - b)) / 2 for s, a, b in zip(sign, new, old, strict=True)]
            right = [(1 - s * (a - b)) / 2 for s, a, b in zip(sign, new, old, strict=True)]
            wanted = difference_interval(left, right, groups)
            assert drawn.value[number] == pytest.approx(wanted.value)
            assert drawn.low[number] == pytest.approx(wanted.low)
            assert drawn.high[number] == pytest.approx(wanted.high)
    change = _changes([bound], answers, texts)["student", "exact_match"]
    assert change.mean == pytest.approx(np.mean(new) - np.mean(old))
    assert change.counts.sum() == 24


def test_benchmarks_multiply_and_conditions_on_one_do_not():
    one, other = outcomes(14, 10, 60), outcomes(9, 3, 40)
    boards = [{"student": s, "base": b} for s, b in (one, other)]
    alone = [verdict(["student >= base"], board, certain=False).by_chance for board in boards]
    assert all(0.4 < chance < 0.8 for chance in alone)
    both = verdict(["student >= base"], *boards, certain=False)
    assert both.by_chance == pytest.approx(alone[0] * alone[1])
    named = verdict(["student >= base on b0", "student >= base on b1"], *boards, certain=False)
    assert named.by_chance == both.by_chance
    twice = verdict(["student >= base", "base <= student"], boards[0], certain=False)
    assert twice.by_chance == alone[0]
    stricter = ["student >= base", "student >= base + 0.05"]
    only = verdict(stricter[1:], boards[0], certain=False).by_chance
    assert verdict(stricter, boards[0], certain=False).by_chance == only < alone[0]


def test_a_copy_of_the_base_passes_where_the_value_alone_decides():
    same = outcomes(0, 0, 60, 20)[0]
    board = {"student": same, "base": same}
    found = verdict(["student >= base"], board, certain=False)
    assert found.ships and found.by_chance == 1.0
    assert found.chance_sentence == (
        "A student no better than the base would have passed in about 100.0 % of evaluations on "
        "items like these: passing does not show that the student is better."
    )
    assert found.rule == (
        "Point estimates decide (certain = false): the measured values have to meet the conditions, "
        "not the bounds of their 95 % intervals, so a student no better than the base would often pass."
    )
    found = verdict(["student >= base"], board)
    assert not found.ships and found.by_chance == 0.0 and found.rule == ""
    assert found.chance_sentence == (
        "A student no better than the base would have passed in less than 0.1 % of evaluations on "
        "items like these."
    )


def test_forgetting_is_met_by_a_student_that_learned_nothing():
    student, base = outcomes(10, 10, 200, 80)
    board = {"student": student, "base": base}
    found = verdict(["forgetting <= 0.1"], board, roles=["off_task"])
    assert found.by_chance > 0.9
    assert found.chance_sentence.endswith(": passing does not show that the student is better.")
    task = {k: v for k, v in zip(("student", "base"), outcomes(30, 6, 120), strict=True)}
    gain = verdict(["student >= base"], task).by_chance
    both = verdict(
        ["student >= base", "forgetting <= 0.1"], task, board, roles=["task", "off_task"]
    )
    assert both.by_chance == pytest.approx(gain * found.by_chance)


def test_a_number_or_a_teacher_is_held_against_where_the_base_stands():
    student, base = outcomes(40, 10, 100, 20)  # 60 % and 30 %
    board = {"student": student, "base": base, "teacher": [1.0] * 90 + [0.0] * 10}

    def chance(*conditions):
        return verdict(conditions, board, certain=False).by_chance

    assert chance("student >= 0.3") == pytest.approx(0.5, abs=0.08)
    assert chance("student >= 0.6") < 0.001 < chance("student >= 0.4") < 0.12
    assert chance("student >= teacher - 0.6") == chance("student >= 0.3")
    assert chance("student >= teacher - 0.3") < 0.001
    assert chance("student <= 0.3") > 0.4
    assert chance("teacher >= base + 0.1") == 1.0  # is not of the student, and is met
    assert chance("teacher >= base + 0.7", "student >= base - 0.5") == 0.0


def test_it_is_not_known_without_the_base():
    found = verdict(["student >= 0.3"], {"student": [1.0] * 20})
    assert found.ships and found.by_chance is None
    assert found.chance_sentence.startswith("How often a student no better than the base would")
    unmeasured = verdict(["student >= teacher"], {"student": [1.0] * 20})
    assert (unmeasured.by_chance, unmeasured.chance_sentence) == (None, "")
    loose = verdict(["student >= teacher"], {"student": [1.0] * 20}, certain=False)
    assert loose.rule.endswith("so a student no better than the base can pass by chance.")


def test_few_items_pass_nobody():
    found = verdict(["student >= base"], {"student": [1.0] * 9, "base": [0.0] * 9}, certain=False)
    assert found.by_chance == 0.0


@pytest.mark.parametrize("certain", [True, False])
def test_what_is_told_is_how_often_equal_students_pass(certain):
    draw, passed, told, times = random.Random(5), 0, 0.0, 150
    for _ in range(times):
        sides = [[float(draw.random() < 0.4) for _ in range(40)] for _ in range(2)]
        answers = series("student", sides[0]) + series("base", sides[1])
        interval = difference_interval(*sides)
        bound = Bound("b", "exact_match", "student", "base", True, 0.0, interval, 40)
        passed += bool(bound.is_met(bound.value(interval, certain)))
        told += chance_of_passing([bound], {"b": (answers, items(40))}, certain)
    assert told / times == pytest.approx(passed / times, abs=0.03 if certain else 0.1)
    assert (told / times < 0.04) == certain


def test_grades_by_another_metric_and_answers_that_are_missing():
    answers = [answer("student", n, 0.0, contains=1.0) for n in range(20)]
    answers += [answer("base", n, 1.0, contains=0.0) for n in range(15)]
    bound = Bound("b", "contains", "student", "base", True, 0.0, Interval(1, 0, 1), 15)
    change = _changes([bound], answers, items(20))["student", "contains"]
    assert (change.mean, change.counts.sum()) == (1.0, 15)
