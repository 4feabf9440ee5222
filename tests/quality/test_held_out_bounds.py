"""Each bound of the held-out matcher has a case on either side of it."""

import pytest

from quality.gate.held_out_index import HeldOutItem, HeldOutText, telling_texts
from quality.gate.rarity import Rarity
from quality.gate.shared_words import answer_words, find_densest_share, has_same_answer
from quality.gate.text_cover import TextWords
from quality.tasks.benchmark import item_of
from tests.quality.test_decontaminate import LONG, SHORT, index, kind, row
from tests.support.held_out import hold_out

PASSAGE = "The shop is open from nine to five and closed on Sundays and holidays."


def among(held, rows):
    return hold_out(
        [("made", item_of(one)) for one in held], rows=[(one.prompt, one.passage) for one in rows]
    )


def passages(number):
    return [
        f"Text {n} says a thing that is its own, and tells of number {n}." for n in range(number)
    ]


@pytest.mark.parametrize("number", [1, 3, 30])
def test_a_held_out_question_without_a_passage_is_held_out_whoever_asks_it(number):
    rows = [row(SHORT, [], text) for text in passages(number)]
    held = row(SHORT, ["x"])
    held_out = among([held], rows)
    assert {kind(SHORT, held_out, passage=one.passage) for one in rows} == {"question"}
    items = [HeldOutItem.of("made", item_of(held))]
    assert telling_texts(items, [(one.prompt, one.passage) for one in rows]) == [(SHORT, None)]


def test_rows_do_not_make_a_held_out_question_one_about_passages():
    rows = [row(SHORT, [], text) for text in passages(30)]
    assert kind(SHORT, among([row(SHORT, ["x"], PASSAGE)], rows), passage="z") == "question"


@pytest.mark.parametrize(
    ("answers", "about", "found"),
    [
        (["calm", "angry"], [PASSAGE, "I want my money."], None),
        ([[], []], [PASSAGE, "I want my money."], None),
        (
            ["calm", "calm"],
            [PASSAGE, "I want my money."],
            "question",
        ),  # the question alone tells it
        (["calm", "angry"], [PASSAGE, PASSAGE], "question"),
        (["calm", "angry", "sad"], [PASSAGE, "I want my money.", None], "question"),
    ],
)
def test_a_question_tells_nothing_where_the_passage_alone_has_the_answer(answers, about, found):
    asked = "What is the tone of this text?"
    held = [
        row(asked, [answer] if isinstance(answer, str) else answer, text)
        for answer, text in zip(answers, about, strict=True)
    ]
    rows = [row(asked, [], text) for text in passages(5)]
    assert kind(asked, among(held, rows), passage=rows[0].passage) == found
    assert kind("Is it open?", among(held, rows), passage=about[0]) == "passage"


@pytest.mark.parametrize(("shared", "of", "found"), [(2, 8, "passage"), (3, 8, None)])
def test_a_passage_of_three_items_and_three_rows_may_be_common(shared, of, found):
    assert kind("Is it?", with_common(shared, of), passage=PASSAGE) == found


@pytest.mark.parametrize(
    ("shared", "of", "found"), [(4, 17, "passage"), (4, 16, None), (5, 17, None)]
)
def test_a_passage_of_a_quarter_of_the_items_and_of_the_rows_is_common(shared, of, found):
    assert kind("Is it?", with_common(shared, of), passage=PASSAGE) == found


def with_common(shared, of):
    """Held-out items and rows of which so many have one passage."""
    texts = [PASSAGE] * shared + passages(of - shared)
    held, rows = (
        [row(f"{start} thing {n}?", [f"{n}"], text) for n, text in enumerate(texts)]
        for start in ("Where is", "Why is")
    )
    return among(held, rows)


@pytest.mark.parametrize(("often", "found"), [(26, None), (27, "overlap")])
def test_words_that_tell_next_to_nothing_make_no_other_question(often, found):
    """log 25 / log 102 is just below 0.7, log 26 / log 102 above it."""
    rows = [
        row(f"w{n} v{n} if you please u{n}" if n < often else f"w{n} v{n} u{n}") for n in range(100)
    ]
    asked = "one bird sings while two cats sleep under some very old green trees"
    held_out = among([row(asked, ["a wren"])], rows)
    filled = asked.replace("sleep", "sleep if you please")
    assert kind(filled, held_out, completion="nobody knows") == found
    assert kind(filled, held_out, completion="a wren") == "overlap"


def test_what_else_stands_in_the_slot_of_a_template_makes_another_row():
    things = [
        "kettle",
        "lantern",
        "mattress",
        "blender",
        "printer",
        "jacket",
        "camera",
        "pillow",
        "ladder",
        "bucket",
        "hammer",
        "saddle",
        "candle",
        "mirror",
        "basket",
        "wallet",
        "curtain",
        "carpet",
        "bottle",
        "teapot",
    ]
    colours = ("green", "purple", "orange", "yellow")
    rows = [row(f"Is the {thing} sold in {colour}?") for thing in things for colour in colours]
    held_out = among([row("Is the kettle sold in green?", ["ask the shop"])], rows[1:])
    said = {"completion": "ask the shop"}
    assert kind("Is the kettle sold in greeen?", held_out, **said) == "overlap"
    assert kind("Is the kettle sold in purple?", held_out, **said) is None
    assert kind("Is the ladder sold in green?", held_out, **said) is None


@pytest.mark.parametrize(("typos", "found"), [(0, None), (1, "overlap")])
def test_a_misspelt_word_counts_as_the_word(typos, found):
    held_out = index(row("Which tall brown tree?", ["oak"]), share=1.0)
    asked = "Which tall brown treee?" if typos else "Which tall brown bush?"
    assert kind(asked, held_out, completion="oak") == found


@pytest.mark.parametrize(("asked", "found"), [("tall brown", "overlap"), ("tall", None)])
def test_two_words_are_evidence_and_one_is_none(asked, found):
    assert kind(asked, index(row("tall brown tree", ["oak"]), share=0.3), completion="oak") == found


@pytest.mark.parametrize(("words", "found"), [(8, None), (9, "quoted")])
def test_eight_words_around_an_edit_are_a_quotation(words, found):
    quoted = [f"w{n}" for n in range(words)]
    held_out = index(row("Which is it?", ["x"], " ".join(quoted)))
    quoted[words // 2] = "edited"
    assert kind("Which?", held_out, passage=f"Before {' '.join(quoted)} and so on") == found


@pytest.mark.parametrize(("often", "found"), [(10, "quoted"), (11, None)])
def test_common_words_are_little_evidence(often, found):
    """Eight words, each also in 10 or 11 of 101 texts: evidence of 8 (1 - log 10 / log 102) = 4.02,
    or of 3.85."""
    words = [f"w{n}" for n in range(10)]
    rows = [
        row(" ".join(f"{w} u{n}{w}" for w in words) if n < often else f"u{n} v{n}")
        for n in range(99)
    ]
    held_out = among([row("Which is it?", ["x"], " ".join(words))], rows)
    assert kind("What?", held_out, passage=" ".join([*words[:8], "and", "more"])) == found


@pytest.mark.parametrize(("gaps", "found"), [([2, 2, 2, 3, 3], "quoted"), ([2, 2, 3, 3, 3], None)])
def test_six_words_in_ten_of_a_passage_are_enough(gaps, found):
    """Runs of three words, 18 of 30 or of 31, with other words between them."""
    kept = [[f"w{n}a", f"w{n}b", f"w{n}c"] for n in range(6)]
    own, other = (
        " ".join(
            word
            for run, gap in zip(kept, [*gaps, 0], strict=True)
            for word in (*run, *(f"{mark}{run[0]}{k}" for k in range(gap)))
        )
        for mark in ("own", "other")
    )
    held_out = index(row("Which is it?", ["x"], own))
    assert kind("Which?", held_out, passage=other) == found


@pytest.mark.parametrize(("words", "found"), [(9, None), (10, "quoted")])
def test_a_stretch_of_more_than_three_words_in_ten_is_a_good_part(words, found):
    passage = [f"w{n}" for n in range(30)]
    held_out = index(row("Which is it?", ["x"], " ".join(passage)))
    assert kind("Which?", held_out, passage=" ".join([*passage[:words], "and", "more"])) == found


@pytest.mark.parametrize(("gap", "share"), [(5, 6 / 10), (6, 1.0)])
def test_a_stretch_ends_where_more_than_five_places_are_missing(gap, share):
    places = [0, 1, 2, 2 + gap, 3 + gap, 4 + gap]
    assert find_densest_share(places, [1.0] * (5 + gap)) == pytest.approx(share)


@pytest.mark.parametrize(("away", "found"), [(5, True), (6, False)])
def test_a_word_between_edits_is_looked_for_five_places_around(away, found):
    words = tuple(["a1", "b2", "c3", "lonely", "d4", "e5", "f6"])
    held = HeldOutText(None, words, True, [1.0] * 7, 7.0, {}, 7.0, ())
    text = " ".join(["a1 b2 c3", *(f"x{n}" for n in range(away)), "lonely d4 e5 f6"])
    moved = TextWords(text.replace(" d4 e5 f6", " y d4 e5 f6"), Rarity([]))
    assert (3 in moved.find_cover(held, 3).held) == found


@pytest.mark.parametrize(
    ("answer", "tells"),
    [
        ("Yes.", False), ("B", False), ("Nein", False), ("Faux.", False), ("Sí", False), ("नहीं", False),
        ("不是", False), ("正确。", False), ("はい", False), ("ア", False), ("Нет", False), ("乙", False),
        ("아니요", False), ("لا", False), ("oak", True), ("铁", True), ("물", True), ("нефть", True),
        ("पानी", True), ("七", True), ("7", True), ("not yes", True),
    ],
)  # fmt: skip
def test_an_answer_that_half_of_all_questions_have_tells_nothing(answer, tells):
    words = answer_words(answer)
    assert words
    assert has_same_answer([words], [words]) == tells


@pytest.mark.parametrize(("edits", "alone"), [(3, "overlap"), (5, "overlap"), (8, None)])
def test_a_long_question_with_edits_matches_by_itself_up_to_a_seventh(edits, alone):
    words = LONG.split()
    for place in range(2, 2 + 5 * edits, 5):
        words[place] = f"zq{place}"
    asked = " ".join(words)
    assert kind(asked, completion="Neither.") == alone
    assert kind(asked, completion="The first train has.") == "overlap"
    unlike = LONG.replace("river", "coast").replace("greater", "lesser").replace("noon", "one")
    assert kind(unlike, completion="Neither.") == "overlap"  # three words of forty-three
