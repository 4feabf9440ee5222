"""Labelled sets: the same rows every time, corruptions that corrupt, no text with both labels."""

import re
from functools import cache

import pytest

from quality.audit import labelled
from quality.audit.corruptions import echo, other_entity, other_negation, other_number, reword
from quality.audit.labelled import SETS, LabelledSet, sets_for
from warehouse.catalog import names
from warehouse.errors import AssetError
from warehouse.inputs import assets
from warehouse.inputs.rows import is_held_out
from warehouse.records import make_id
from warehouse.text.words import split_form

IN_PAIRS = [one.name for one in SETS if one.name.startswith(("sciq", "triviaqa"))]


@cache
def _rows(name):
    (one,) = [one for one in SETS if one.name == name]
    return one.rows()


def rows_of(name, limit=None):
    """The rows of a set, made once; skips where its data could not be downloaded."""
    try:
        return _rows(name)[:limit]
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(params=SETS, ids=lambda one: one.name)
def made(request):
    return request.param, rows_of(request.param.name)


def test_half_is_good_and_there_is_enough(made):
    one, rows = made
    assert len(rows) >= 150
    assert [good for _, good in rows] == [True, False] * (len(rows) // 2)
    assert one.note
    assert all(sample.completion.strip() for sample, _ in rows)
    assert {sample.recipe for sample, _ in rows} == {"labelled"}


def test_no_text_has_both_labels_or_stands_twice(made):
    _, rows = made
    texts = [(s.passage or s.question, split_form(s.completion)) for s, _ in rows]
    assert len(set(texts)) == len(texts)
    assert len({sample.sample_id for sample, _ in rows}) == len(rows)


@pytest.mark.parametrize("name", IN_PAIRS)
def test_a_pair_differs_in_its_completion_alone(name):
    rows = rows_of(name)
    for (good, _), (bad, _) in zip(rows[::2], rows[1::2], strict=True):
        assert good.prompt_id == bad.prompt_id
        assert (good.passage, good.reference) == (bad.passage, bad.reference)
        assert split_form(good.completion) != split_form(bad.completion)


def test_the_rows_are_the_same_on_any_day():
    rows = [rows_of(one.name, 40) for one in SETS]
    digest = make_id([[s.sample_id, good] for part in rows for s, good in part])
    assert digest == "db8adb84a5a97ac349b2aa4b83420819"


def test_a_limit_takes_the_first_pairs(made):
    one, rows = made
    if one.name != "comments: offensive":  # a large file, read once is enough
        assert one.rows(11) == rows[:10]


def test_an_echo_has_the_questions_words_and_none_of_the_answer():
    for sample, good in rows_of("sciq: echo"):
        said = split_form(sample.completion)
        if not good:
            assert f" {said} " in f" {split_form(sample.question)} "
            assert f" {said} " in f" {split_form(sample.passage)} "
            assert not set(said.split()) & set(split_form(sample.reference[0]).split())


def test_an_echo_is_none_where_the_passage_has_no_word_of_the_question():
    assert echo("What waves are sound waves?", "It rains.", "mechanical", "s") is None
    assert echo("What waves are sound waves?", "Sound waves.", "mechanical", "s") == "sound waves"
    assert echo("What waves are sound waves?", "Sound waves.", "waves", "s") == "sound"


def test_good_sentences_stand_in_their_passage_and_bad_ones_do_not():
    for name in ("sciq: entity", "sciq: number", "sciq: negation"):
        for sample, good in rows_of(name):
            assert (sample.completion in sample.passage) == good


def test_a_changed_number_changes_one_number_and_no_other_word():
    for name in ("sciq: number", "triviaqa: number"):
        rows = rows_of(name)
        for (good, _), (bad, _) in zip(rows[::2], rows[1::2], strict=True):
            was, now = (re.findall(r"\w+|\W", s.completion) for s in (good, bad))
            assert sum(a != b for a, b in zip(was, now, strict=True)) == 1


def test_references_hold_neither_the_good_answer_nor_the_bad():
    for name in ("triviaqa: other answer", "triviaqa: number"):
        for sample, _ in rows_of(name):
            assert sample.reference
            assert split_form(sample.completion) not in map(split_form, sample.reference)


def test_no_passage_is_of_the_held_out_share():
    holdout = assets.entry("sciq").holdout
    for one in SETS:
        for sample, _ in rows_of(one.name):
            assert not sample.passage or not is_held_out(split_form(sample.passage), holdout)


def test_comments_keep_the_label_of_their_source():
    rows = rows_of("comments: offensive", 100)
    source = {row["text"]: row["offensive"] for row in assets.rows("profanity-comments")}
    assert all(source[sample.completion] == ("0" if good else "1") for sample, good in rows)


def test_which_set_measures_which_scorer():
    assert [one.name for one in sets_for("toxicity")] == ["comments: offensive", "web: toxic"]
    assert {one.name.partition(":")[0] for one in sets_for("grounded")} == {"sciq"}
    assert {one.name.partition(":")[0] for one in sets_for("reference")} == {"triviaqa"}
    assert sets_for("refusal") == sets_for("no such scorer") == []
    assert set(names("scorer")) & {one for each in SETS for one in each.measures}


def test_a_text_with_both_labels_is_left_out():
    def pairs():
        for good, bad in (("a", "b"), ("b", "c"), ("d", "e"), ("d", "f")):
            yield labelled._sample("q", good), labelled._sample("q", bad)

    rows = LabelledSet("small", "1", (), "", pairs).rows()
    assert len(rows) == 2
    assert rows[0][0].completion == "d"
    assert rows[1][0].completion in "ef"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("It was built in 1860.", r"It was built in 186[1-9]\."),
        ("Water has 1.0 g/mL.", r"Water has [2-9]\.0 g/mL\."),
        ("Some 1,250 metres.", r"Some [2-9],250 metres\."),
        ("Two legs.", r"(Three|Four|Five|Six|Seven|Eight|Nine|Ten|Eleven|Twelve) legs\."),
    ],
)
def test_a_number_becomes_another_of_its_kind(text, pattern):
    assert re.fullmatch(pattern, other_number(text, "seed"))
    assert other_number(text, "seed") == other_number(text, "seed")


@pytest.mark.parametrize("text", ["CO2 and H2O", "Ca(OH)2", "see Figure 36.13", "no digits", ""])
def test_a_name_with_a_digit_is_no_number(text):
    assert other_number(text, "seed") is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Oxygen is a gas.", "Oxygen is not a gas."),
        ("It is not a gas.", "It is a gas."),
        ("They don't melt.", "They do melt."),
        ("It cannot melt.", "It can melt."),
        ("Notes on gas.", None),
        ("", None),
    ],
)
def test_a_negation_is_put_in_or_taken_out(text, wanted):
    assert other_negation(text) == wanted


def test_an_entity_is_replaced_as_a_whole_word():
    assert other_entity("The atomic atom.", "atom", "ion") == "The atomic ion."
    assert other_entity("Atoms. Atom!", "atom", "ion") == "Atoms. Ion!"
    assert other_entity("a.b", "a+", "c") is None


def test_rewording_keeps_what_a_corruption_changed():
    said = "Many gases, such as CO2, are not called large because they occur when it is cold."
    wanted = "A lot of gases, like CO2, aren't known as big since they happen whenever it is cold."
    assert reword("Many of them") == "Many of them"
    assert reword(said) == wanted


def test_reworded_sentences_do_not_stand_in_their_passage():
    for sample, _ in rows_of("sciq: reworded"):
        assert sample.completion not in sample.passage
