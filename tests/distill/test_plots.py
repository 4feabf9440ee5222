"""Where marks and labels stand: inside the plot, true to scale, none over another."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.statistics import Interval
from distill.report.label_placement import BOTTOM, LEFT, RIGHT, TOP, Mark, box_of, place_labels
from distill.report.plots import cost_plot, plane_plot, scaling_plot, top_of
from tests.support.evaluations import near, rich_evaluation


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def assert_readable(plot):
    boxes = [box_of(mark.label, mark.text_x, mark.text_y) for mark in plot.marks]
    boxes += [box_of(rule.label, rule.text_x, rule.text_y) for rule in plot.rules]
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    for box, mark in itertools.product(boxes, plot.marks):
        assert not overlap(box, (mark.x - 5, mark.y - 5, mark.x + 5, mark.y + 5)), mark
    for mark in plot.marks:
        assert LEFT <= mark.x <= RIGHT and TOP <= mark.y <= BOTTOM


def sciq():
    return [line for line in rich_evaluation().economics if line.benchmark == "sciq"]


def test_cost_is_on_a_log_scale_and_who_has_no_price_is_named():
    plot = cost_plot(sciq())
    assert_readable(plot)
    assert plot.left_out == ["student+retrieval"]
    at = {mark.label: mark for mark in plot.marks}
    ten = cost_plot(
        [replace(sciq()[0], usd_per_1000=usd, contestant=str(usd)) for usd in (1, 10, 100)]
    )
    xs = [mark.x for mark in ten.marks]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert at["teacher"].y < at["student"].y < at["base"].y  # higher scores stand higher
    assert at["student"].x < at["base"].x < at["teacher"].x
    assert "teacher: 58.0 % at 0.4 dollars." in plot.desc
    assert cost_plot(sciq()[:1]) is None
    assert cost_plot([replace(line, usd_per_1000=0.0) for line in sciq()]) is None


def test_the_plane_has_its_crosses_and_cuts_them_at_the_frame():
    plot = plane_plot(rich_evaluation().style)
    assert_readable(plot)
    assert all(mark.across and mark.along for mark in plot.marks)
    wild = replace(rich_evaluation().style[0], style=Interval(0.5, -9.0, 9.0))
    (mark,) = plane_plot([wild]).marks
    assert mark.across == (LEFT, RIGHT)
    assert plane_plot([replace(wild, style=None)]) is None


def test_the_forecast_stands_at_twice_the_rows():
    (scaling,) = rich_evaluation().scaling
    plot = scaling_plot(scaling)
    assert_readable(plot)
    *points, forecast = plot.marks
    assert forecast.kind == "forecast"
    steps = [after.x - before.x for before, after in itertools.pairwise(plot.marks)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.2)  # each doubles the rows
    assert [text for _, text in plot.x_ticks] == ["50", "100", "200", "400", "800"]
    bare = scaling_plot(replace(scaling, forecast=None, base=None))
    assert len(bare.marks) == len(points)
    assert bare.rules == []
    assert scaling_plot(replace(scaling, points=[])) is None


def test_a_scale_from_zero_holds_every_value():
    assert [top_of([v]) for v in (0.0, 0.05, 0.051, 0.33, 1.0, 1.2)] == [
        0.05,
        0.05,
        0.1,
        0.4,
        1.0,
        2,
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 500), st.floats(0, 1)), min_size=2, max_size=7))
def test_labels_of_up_to_seven_contestants_never_overlap(places):
    names = [
        "base",
        "student",
        "teacher",
        "base+fewshot",
        "base+knn",
        "base+retrieval",
        "student+x",
    ]
    lines = [
        replace(sciq()[0], contestant=name, usd_per_1000=usd, score=near(score, 0.05))
        for name, (usd, score) in zip(names, places, strict=False)
    ]
    boxes = [box_of(mark.label, mark.text_x, mark.text_y) for mark in cost_plot(lines).marks]
    assert not [pair for pair in itertools.combinations(boxes, 2) if overlap(*pair)]


def test_a_label_too_long_for_the_plot_still_has_a_place():
    (mark,) = place_labels([Mark("n" * 200, "other", 300.0, 100.0)])
    assert mark.text_y > 0
