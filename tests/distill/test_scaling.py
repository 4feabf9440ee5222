"""The score's slope over the size of the data, against planted curves."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.evaluation.scaling import ScalePoint, fit_scaling
from distill.evaluation.statistics import Interval


def curve(tables, rows):
    return [
        ScalePoint(
            size / max(rows), size, f"s{size}", Interval(sum(t.values()) / max(1, len(t)), 0, 1)
        )
        for size, t in zip(rows, tables, strict=True)
    ]


def found(tables, rows=(100, 200, 400), **options):
    tables = [{f"i{n:03d}": grade for n, grade in enumerate(table)} for table in tables]
    base = Interval(0.1, 0.0, 0.2)
    return fit_scaling("quiz", "exact_match", curve(tables, rows), base, tables, **options)


def share(right, n=100):
    return [1.0] * right + [0.0] * (n - right)


def test_a_rise_is_found_and_carried_on():
    rise = found([share(20), share(30), share(40)])
    assert rise.per_doubling.value == pytest.approx(0.1)
    assert 0 < rise.per_doubling.low < 0.1 < rise.per_doubling.high
    assert rise.forecast.value == pytest.approx(0.5)
    assert 0.3 < rise.forecast.low < 0.5 < rise.forecast.high < 0.7
    assert rise.sentence.startswith(
        "More data would probably help: 10.0 points exact match for twice the rows (95 % interval "
    )
    assert "over 100 items, not over training seeds" in rise.sentence
    assert "If the trend continues, 800 rows would give about 50.0 % (" in rise.sentence
    assert rise.base == Interval(0.1, 0.0, 0.2)
    assert "small" not in rise.sentence


def test_the_slope_is_that_of_least_squares():
    import numpy as np

    rows, right = (50, 130, 260, 1000), (10, 31, 37, 60)
    slope, start = np.polyfit([math.log2(size) for size in rows], [r / 100 for r in right], 1)
    fit = found([share(r) for r in right], rows)
    assert fit.per_doubling.value == pytest.approx(slope)
    assert fit.forecast.value == pytest.approx(start + slope * math.log2(2000))


def test_the_same_items_are_taken_at_all_points():
    """Hard and easy items make scores uncertain, but hardly the slope of equal tables."""
    flat = found([share(50)] * 3)
    assert flat.per_doubling.value == pytest.approx(0)
    assert -0.02 < flat.per_doubling.low < 0 < flat.per_doubling.high < 0.02


def test_no_sign_and_no_forecast_where_zero_is_in_the_interval():
    draw = random.Random(3)
    noise = found(
        [[float(draw.random() < 0.4) for _ in range(100)] for _ in range(4)], (1, 2, 4, 8)
    )
    assert noise.per_doubling.low < 0 < noise.per_doubling.high
    assert noise.forecast is None
    assert noise.sentence.startswith("No sign that more data would help: ")
    assert "not over training seeds" in noise.sentence


def test_a_fall_is_told():
    fall = found([share(60), share(40), share(20)])
    assert fall.per_doubling.high < 0
    assert fall.forecast.value == pytest.approx(0.0)
    assert fall.sentence.startswith("More data of this kind would probably not help: -20.0 points")
    assert "not over training seeds" in fall.sentence


def test_a_forecast_stays_below_everything():
    steep = found([share(20), share(60), share(100)])
    assert steep.forecast.value == steep.forecast.high == 1.0


def test_two_points_are_no_line():
    two = found([share(20), share(40)], (100, 200))
    assert (two.per_doubling, two.forecast) == (None, None)
    assert two.sentence == (
        "Whether more data would help is unknown: at least 3 data sizes with rows are needed, and "
        "there are 2."
    )
    twice = found([share(20), share(30), share(40)], (100, 100, 200))
    assert twice.per_doubling is None
    assert "there is 1." in found([share(20)], (100,)).sentence
    assert "there are 0." in found([], ()).sentence


def test_no_common_item_says_nothing():
    tables = [{"a": 1.0}, {"b": 1.0}, {"a": 1.0, "b": 0.0}]
    none = fit_scaling("quiz", "f1", curve(tables, (1, 2, 3)), None, tables)
    assert none.per_doubling is None
    assert none.sentence.endswith(
        "unknown: 0 items graded at every size are too few to claim anything."
    )


def test_only_items_graded_at_all_points_count():
    shared = [str(n) for n in range(12)]
    tables = [{item: grade for item in shared} for grade in (0.0, 0.5, 1.0)]
    tables[0]["c"], tables[2]["d"] = 1.0, 0.0
    some = fit_scaling("quiz", "f1", curve(tables, (1, 2, 4)), None, tables)
    assert some.per_doubling.value == pytest.approx(0.5)
    assert "over 12 items" in some.sentence
    assert "n = 12 is small" in some.sentence


@pytest.mark.parametrize("n", [1, 3, 9])
def test_a_few_items_say_nothing(n):
    few = found([[0.0] * n, [0.5] * n, [1.0] * n])
    assert (few.per_doubling, few.forecast) == (None, None)
    items = "1 item graded at every size is" if n == 1 else f"{n} items graded at every size are"
    assert few.sentence.endswith(f"{items} too few to claim anything.")


def test_a_rise_of_what_should_be_low_is_no_help():
    rise = found([share(10), share(20), share(30)], higher_is_better=False)
    assert rise.sentence.startswith("More data of this kind would probably not help: 10.0 points")
    fall = found([share(30), share(20), share(10)], higher_is_better=False)
    assert fall.sentence.startswith("More data would probably help: -10.0 points")


def test_points_come_in_order_of_rows_with_their_own_grades():
    mixed = found([share(40), share(20), share(30)], (400, 100, 200))
    straight = found([share(20), share(30), share(40)])
    assert [point.rows for point in mixed.points] == [100, 200, 400]
    assert mixed.per_doubling == straight.per_doubling
    with pytest.raises(ValueError):
        fit_scaling("quiz", "f1", mixed.points, None, [{}])


@given(st.floats(-0.2, 0.2), st.floats(0.3, 0.7), st.integers(1, 500))
def test_a_planted_line_is_given_back(slope, start, least):
    rows = [least, 2 * least, 4 * least]
    tables = [[start + slope * step] * 12 for step in range(3)]
    line = found(tables, rows)
    assert line.per_doubling.value == pytest.approx(slope, abs=1e-9)
    assert line.points[0].rows == least
