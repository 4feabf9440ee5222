"""Perturbed questions: what may change, and what may not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.tasks.perturbations import INJECTED, INSTRUCTION, PERTURBATIONS, perturbed
from warehouse.inputs.rows import Row, question_messages

QUESTION = (
    "Which of these 12 gases does a green plant release during photosynthesis when the sun shines "
    "on its leaves in summer?"
)
PASSAGE = "Plants make food. In doing so they give off oxygen. Animals breathe it."
DISTRACTORS = ["The moon is far away", "Oxygen is a gas.", "Animals breathe it.", "Rome is old!"]


def row(prompt=QUESTION, reference=("oxygen",), passage=None, before=()):
    messages = [*before, {"role": "user", "content": prompt}]
    return Row(prompt, messages, list(reference), passage, "test:1")


def words(text):
    return re.findall(r"\w+", text)


def many(kind, count=60, **changes):
    rows = [row(f"{QUESTION} Number {n} of all questions asked.", **changes) for n in range(count)]
    return [(one, perturbed(one, kind, DISTRACTORS)) for one in rows]


@pytest.mark.parametrize("kind", PERTURBATIONS)
@pytest.mark.parametrize("passage", [None, PASSAGE])
def test_what_holds_for_all_kinds(kind, passage):
    system = {"role": "system", "content": "Be brief."}
    one = row(passage=passage, before=[system])
    new = perturbed(one, kind, DISTRACTORS)
    assert new == perturbed(row(passage=passage, before=[system]), kind, DISTRACTORS)
    assert (new.reference, new.source) == (one.reference, one.source)
    assert new.messages[0] == system
    assert new.messages[-1] == {"role": "user", "content": new.prompt}
    assert new.row_id != one.row_id
    in_passage = passage is not None and kind in ("distractor", "injection")
    assert (new.prompt == one.prompt) == in_passage
    assert (new.passage == one.passage) == (not in_passage)
    assert one == row(passage=passage, before=[system])  # the row itself is left alone


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="no perturbation 'typo' .did you mean 'typos'"):
        perturbed(row(), "typo")


def test_about_one_word_of_eight_is_misspelt():
    for one, new in many("typos"):
        old, now = words(one.prompt), words(new.prompt)
        assert len(old) == len(now)
        changed = [(a, b) for a, b in zip(old, now, strict=True) if a != b]
        assert len(changed) == round(len(old) / 8)
        for was, became in changed:
            assert was.isalpha()
            assert len(was) >= 4
            assert was[0] == became[0]
            assert abs(len(was) - len(became)) <= 1
            assert became not in old


def test_all_four_errors_are_made():
    kinds = set()
    for one, new in many("typos"):
        for was, became in zip(words(one.prompt), words(new.prompt), strict=True):
            if was != became and len(was) != len(became):
                kinds.add("drop" if len(became) < len(was) else "double")
            elif was != became:
                kinds.add("swap" if sorted(was) == sorted(became) else "key")
    assert kinds == {"drop", "double", "swap", "key"}


def test_no_typo_in_a_word_of_the_reference_or_beside_a_digit():
    reference = ["Green plants", "photosynthesis", "the summer", "leaves; gases"]
    for one, new in many("typos", reference=reference):
        for kept in ("12", "green", "photosynthesis", "summer", "leaves", "gases"):
            assert kept in words(new.prompt), one.prompt
    assert perturbed(row("What does CO2 or H2SO4 do?", ["does", "what"]), "typos") is None


def test_a_short_question_gets_one_typo_and_one_of_short_words_none():
    assert perturbed(row("Who sang Yesterday?", ["x"]), "typos").prompt != "Who sang Yesterday?"
    assert perturbed(row("Who is he?"), "typos") is None


@given(st.text(max_size=80), st.text(max_size=10))
def test_any_question_is_misspelt_outside_its_reference_or_not_at_all(prompt, reference):
    one = row(prompt or "?", [reference])
    new = perturbed(one, "typos")
    if new is not None:
        assert new.prompt != one.prompt
        assert re.findall(r"\d", new.prompt) == re.findall(r"\d", one.prompt)
    for kind in ("paraphrase", "injection"):
        other = perturbed(one, kind)
        assert other is None or other.messages[-1]["content"] == other.prompt != one.prompt


REWORDED = [
    ("What is the capital of France?", "Please say what the capital of France is."),
    ("who was the ruler of england in 1616", "Please say who the ruler of england in 1616 was."),
    ("What is the outer layer called?", "Please say what the outer layer is called."),
    ("What is the eye better known as?", "Please say what the eye is better known as."),
    ("What type of rock is {granite}?", "Which type of rock is {granite}?"),
    ("Which planet is nearest?", "What planet is nearest?"),
    ("Who wrote Hamlet?", "Who is it that wrote Hamlet?"),
    ("What causes ocean waves?", "What is it that causes ocean waves?"),
    ("Where is the seafloor youngest?", "In what place is the seafloor youngest?"),
    ("Why do birds build nests?", "For what reason do birds build nests?"),
    ("How many legs has DNA?", "What number of legs has DNA?"),
    ("In plants, what organ makes sugar?", "What organ makes sugar, in plants?"),
    ("When gas is burned, what is made?", "What is made, when gas is burned?"),
]


@pytest.mark.parametrize(("asked", "reworded"), REWORDED)
def test_patterns_of_questions(asked, reworded):
    assert perturbed(row(asked), "paraphrase").prompt == reworded


@pytest.mark.parametrize(
    "asked",
    [
        "What is the body made of?",
        "What is the energy called when an atom gains an electron?",
        "What is the dog eating for dinner?",
        "Who was the wall built to defend against?",
        "Where do names come from?",
        "Who started it and how did it end?",
        "Which of the following is a metal?",
        "Who is he?",
        "Consider a cell. What is the wall?",
        "In what year, who was king?",
        "The powerhouse of the cell is the ____.",
        "x",
    ],
)
def test_a_question_that_fits_no_pattern_is_put_into_a_frame(asked):
    new = perturbed(row(asked), "paraphrase").prompt
    assert new.endswith(f": {asked}")
    assert new.split(": ")[0] in (
        "Here is a question",
        "Please answer this",
        "I would like to know this",
    )


def test_lettered_options_stay():
    options = "\nA. chlorine gas\nB. oxygen gas\nAnswer with the letter of the right choice."
    for kind in ("typos", "paraphrase"):
        new = perturbed(row(QUESTION + options, ["B"]), kind)
        assert new.prompt.endswith(options)
        assert new.prompt != QUESTION + options


def test_a_distractor_gives_nothing_away_and_is_new():
    seen = set()
    for one, new in many("distractor", passage=PASSAGE):
        added = new.passage
        for sentence in re.findall(r"[^.!]+[.!]", PASSAGE):
            assert sentence in new.passage
            added = added.replace(sentence, "")
        seen.add(added.strip())
        assert question_messages(new)[-1]["content"] != question_messages(one)[-1]["content"]
    assert seen == {"The moon is far away.", "Rome is old!"}
    assert perturbed(row(passage=PASSAGE), "distractor", DISTRACTORS[1:3]) is None
    assert perturbed(row(passage=PASSAGE), "distractor", ["", " ... "]) is None
    assert perturbed(row(passage=PASSAGE), "distractor") is None


def test_a_sentence_stands_at_different_places():
    places = {new.passage.find(INSTRUCTION) for _, new in many("injection", passage=PASSAGE)}
    assert places == {0, 18, 52, len(PASSAGE) + 1}


def test_without_a_passage_it_stands_before_the_question():
    assert perturbed(row(), "injection").prompt == f"{INSTRUCTION}\n{QUESTION}"
    new = perturbed(row(), "distractor", ["Rome is old"])
    assert new.prompt == f"Rome is old.\n{QUESTION}"


@pytest.mark.parametrize(
    "given",
    [
        row("Is a Banana blue?"),
        row(reference=["a banana"]),
        row(passage="Some eat (banana)."),
        row(before=[{"role": "system", "content": "banana"}]),
    ],
)
def test_no_injection_where_the_word_is_there_already(given):
    assert INJECTED in INSTRUCTION
    assert perturbed(given, "injection") is None


def test_a_question_within_a_longer_message_is_changed_in_place():
    one = Row("Who wrote Hamlet?", [{"role": "user", "content": "Q: Who wrote Hamlet?\nA:"}], ["x"])
    new = perturbed(one, "paraphrase")
    assert new.messages == [{"role": "user", "content": "Q: Who is it that wrote Hamlet?\nA:"}]
    other = Row("Who wrote Hamlet?", [{"role": "user", "content": "Something else"}], ["x"])
    assert perturbed(other, "paraphrase") is None


def test_rows_are_changed_in_different_ways():
    prompts = {new.prompt.split("Number")[0] for _, new in many("typos")}
    assert len(prompts) > 30
