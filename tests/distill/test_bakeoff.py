"""The bake-off's figures: who is best, who is near, how it is drawn."""

from __future__ import annotations

import pytest

from distill.evaluation.comparison import ItemText
from distill.evaluation.statistics import holm
from distill.report.bakeoff_page import (
    Bakeoff,
    Method,
    board_of,
    plot_of,
    render_html,
    render_markdown,
    verdict,
)
from warehouse.records import Answer

TEXTS = [ItemText(f"i{n:02}", f"question {n}", None, ["yes"]) for n in range(40)]


def answers(contestant, right):
    return [
        Answer(
            f"{contestant}{n}", "b", "1", f"i{n:02}", contestant, contestant, {}, "x",
            {"exact_match": float(n < right)}, None, "stop", 1, 1, 0.1, 0.0, "run",
        )
        for n in range(40)
    ]  # fmt: skip


def method(label, parameters=1000):
    return Method(label, "a paper", True, label * 4, parameters, 1e-3, 60.0, 10**9, 10**6, 3.0, 1.0)


METHODS = [method("lora", 5_000_000), method("ia3", 57_600), method("<b>", 20_000)]
GIVEN = [*answers("base", 4), *answers("lora", 30), *answers("ia3", 28), *answers("<b>", 1)]


@pytest.fixture(scope="module")
def board():
    return board_of("b", GIVEN, TEXTS, METHODS, "exact_match")


def test_the_best_comes_first_and_the_base_last(board):
    assert [line.label for line in board.lines] == ["lora", "ia3", "<b>", "base"]
    best, near, far, base = board.lines
    assert best.against_best is None and best.p_best is None
    assert near.against_best.metrics["exact_match"].value == pytest.approx(-0.05)
    assert near.p_best > 0.05 > far.p_best
    assert base.method is None and base.against_base is None


def test_the_verdict_names_who_is_near_and_who_is_worse_than_the_base(board):
    told = verdict(board)
    assert told.startswith("Highest mean: lora with exact match 75.0 %")
    assert "not clearly different from it on these 40 items: ia3" in told
    assert "none is clearly worse than the base" in told  # 1 against 4 of 40 is no evidence
    worse = board_of("b", [*answers("base", 20), *GIVEN[40:]], TEXTS, METHODS, "exact_match")
    assert "worse than the base: <b>. Each tuner was trained once" in verdict(worse)


CONTROLS = [
    *answers("base+fewshot", 29), *answers("control:copy", 39), *answers("control:majority", 2),
]  # fmt: skip


def test_controls_stand_below_the_base_and_are_a_family_of_their_own(board):
    found = board_of("b", [*GIVEN, *CONTROLS], TEXTS, METHODS, "exact_match")
    assert [line.label for line in found.lines] == [
        "lora", "ia3", "<b>", "base", "base+fewshot", "control:copy", "control:majority",
    ]  # fmt: skip
    assert [line.label for line in found.controls] == [line.label for line in found.lines[4:]]
    assert found.lines[1].p_best == board.lines[1].p_best  # the methods' p is as without controls
    fewshot, copy, _ = found.controls
    assert copy.against_best.metrics["exact_match"].value == pytest.approx(9 / 40)
    assert copy.against_base.metrics["exact_match"].value == pytest.approx(35 / 40)
    raw = [line.against_best.p_value for line in found.controls]
    assert [line.p_best for line in found.controls] == pytest.approx(holm(raw))
    assert fewshot.p_best > 0.05 > copy.p_best
    told = verdict(found)
    assert told.startswith("Highest mean: lora with exact match 75.0 %; not clearly different from")
    assert (
        "none is clearly worse than the base. Without training: control:copy is clearly better than "
        "lora; base+fewshot is not clearly different from lora; lora beats control:majority. Each "
        "tuner was trained once" in told
    )
    assert "Without training" not in verdict(board)
    plot = plot_of(found)
    assert [label for label, _, _ in plot.points] == ["<b>", "ia3", "lora"]
    page = Bakeoff(
        "run",
        "plan",
        "hash",
        97,
        0,
        METHODS,
        [found],
        {},
        notes=["control:copy: <i>no</i> passage"],
    )
    for text in (render_html(page), render_markdown(page)):
        assert "elow the base: controls, which need no training" in text
        assert "control:copy: &lt;i&gt;no" in text
        assert text.count("control:majority") == 2  # the verdict and its row


def test_where_lower_is_better_the_lowest_is_best_and_one_that_failed_comes_last():
    board = board_of("b", GIVEN, TEXTS, METHODS, "exact_match", higher_is_better=False)
    assert board.best == "<b>"
    assert any(
        f"worse than the base: {two}." in verdict(board) for two in ("ia3, lora", "lora, ia3")
    )
    lucky = [*GIVEN[:40], *answers("lora", 30), *answers("ia3", 40)[:3], *answers("<b>", 1)]
    assert [line.label for line in board_of("b", lucky, TEXTS, METHODS, "exact_match").lines] == [
        "lora", "<b>", "ia3", "base",
    ]  # fmt: skip


def test_where_all_failed_on_many_items_none_is_the_best():
    few = [*GIVEN[:40], *answers("lora", 3)[:5], *answers("ia3", 4)[:5], *answers("<b>", 1)[:5]]
    told = verdict(board_of("b", few, TEXTS, METHODS, "exact_match"))
    assert told == "Every method failed on too many of the held-out items to be ranked."
    one = [*GIVEN[:80], *answers("ia3", 4)[:5], *answers("<b>", 1)]
    told = verdict(board_of("b", one, TEXTS, METHODS, "exact_match"))
    assert told.startswith("Highest mean: lora") and "failed on many items: ia3)" in told


def test_the_plot_goes_from_few_parameters_to_many_between_powers_of_ten(board):
    plot = plot_of(board)
    assert [label for label, _, _ in plot.points] == ["<b>", "ia3", "lora"]
    assert plot.ticks[0] == ("10,000", 0.0) and plot.ticks[-1] == ("10,000,000", 1.0)
    assert all(0 <= place <= 1 for _, place, _ in plot.points)
    assert plot_of(board_of("b", [], TEXTS, METHODS, "exact_match")).points == []


def test_names_are_text_on_both_pages(board):
    found = Bakeoff("run", "<i>plan", "hash", 97, 0, METHODS, [board], {"torch": "2"})
    page, text = render_html(found), render_markdown(found)
    assert "<b>" not in page.replace("<body>", "") and "&lt;b&gt;" in page
    assert "<i>plan" not in page and "<i>plan" not in text
    assert text.count("| lora |") == 2


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
