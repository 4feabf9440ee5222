"""Templated data is normal data: its rows are neither held out nor duplicates of each other."""

import random

import pytest

from quality.gate.dedup import near
from quality.gate.held_out_index import HeldOutItem, telling_texts
from quality.tasks.benchmark import item_of
from tests.bench.held_out import change_word, edited, measure_templated, misspell
from tests.support.doc_tables import read_table
from tests.support.held_out import hold_out
from tests.support.templated import KINDS, capitals, reviews, row, sums

EDITS = (change_word, misspell)


def index(held, rows):
    return hold_out(
        [("made", item_of(one)) for one in held], rows=[(one.prompt, one.passage) for one in rows]
    )


def find(held_out, one):
    (answer,) = one.reference
    return held_out.match_text(one.prompt, one.passage or "", answer, one.reference)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [11, 12])
def test_no_row_of_a_template_is_dropped_for_the_template(kind, seed):
    make, trained, held = KINDS[kind]
    rows = make(trained + held, seed=seed)
    held_out = index(rows[trained:], rows[:trained])
    assert [one.prompt for one in rows[:trained] if find(held_out, one)] == []
    assert all(find(held_out, one) for one in rows[trained:])


@pytest.mark.parametrize("kind", ["reviews", "reviews as passages", "support cases"])
def test_what_an_edited_row_shares_with_its_item_is_not_the_template(kind):
    make, trained, held = KINDS[kind]
    rows = make(trained + held, seed=11)
    chance = random.Random(0)
    planted = [edited(one, edit, chance) for one in rows[trained:] for edit in EDITS]
    held_out = index(rows[trained:], [*rows[:trained], *planted])
    found = [match for one in planted if (match := find(held_out, one))]
    assert found
    assert all(match.shared and "classify" not in match.shared for match in found)


@pytest.mark.parametrize(
    ("kind", "dropped", "found"),
    [
        ("reviews", "0 of 800", "343 of 400"),
        ("reviews as passages", "3 of 800", "325 of 400"),
        ("support cases", "0 of 466", "230 of 240"),
    ],
)
def test_the_first_two_of_the_sets_that_the_documentation_tells_of(kind, dropped, found):
    figures = measure_templated(kind, range(100, 102))
    assert (f"{figures[1]} of {figures[0]}", f"{figures[3]} of {figures[2]}") == (dropped, found)


@pytest.mark.slow
def test_the_figures_are_those_of_the_documentation():
    claimed = {kind: cells[1:] for kind, cells in read_table("quality.md", "rows").items()}
    measured = {}
    for kind in KINDS:
        rows, dropped, planted, found = measure_templated(kind, range(100, 120))
        share = f"{found / planted:.3f}" if planted else "not planted"
        measured[kind] = [f"{dropped:,} of {rows:,}", share]
    assert measured == claimed


def test_what_many_rows_and_items_share_tells_nothing():
    shop = "Returns are free for thirty days and the shop pays for the parcel both ways."
    asked = [
        row(f"May I return the {thing}?", "yes", shop) for thing in ["lamp", "desk", "tent", "bed"]
    ]
    rows = [row(f"Is the {n} mine to keep?", "no", shop) for n in "abcdefgh"]
    held_out = index(asked, rows)
    assert held_out.match_text("Is the z mine to keep?", shop) is None
    assert held_out.match_text("May I return the desk?", shop).kind == "question"
    items = [HeldOutItem.of("made", item_of(one)) for one in asked]
    texts = telling_texts(items, [(one.prompt, one.passage) for one in rows])
    assert texts[0] == ("May I return the lamp?", None)
    # One that few have gives its item away.
    assert index(asked, []).match_text("Is it free?", shop).kind == "passage"


def test_sums_and_capitals_are_told_apart():
    held = [*sums(30, seed=1), *capitals(20, seed=1)]
    questions = {one.prompt.replace(" ", "") for one in held}
    rows = [
        one for one in [*sums(60), *capitals(56)] if one.prompt.replace(" ", "") not in questions
    ]
    assert len(rows) > 60
    held_out = index(held, rows)
    assert [one.prompt for one in rows if find(held_out, one)] == []


def test_rows_of_a_template_are_no_near_duplicates():
    long = "Answer in one word, without a full stop or any explanation. "
    texts = [f"{long}{one.prompt}\n{one.reference[0]}" for one in capitals(56)]
    assert near(texts, 0.8) == [None] * 56
    again = [*texts, texts[3].upper(), texts[5].replace("City", "Citty")]
    assert [hit and hit[0] for hit in near(again, 0.8)][56:] == [3, 5]
    reviewed = [one.prompt for one in reviews(300)]
    assert [n for n, hit in enumerate(near([*reviewed, reviewed[7] + "!"], 0.9)) if hit] == [300]
