"""Short questions are found by their words, misspelt ones too, and none that is like enough is missed."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from quality.gate.shared_words import is_typo
from quality.gate.short_questions import ShortQuestions

SHARE, SPELT = 0.7, 0.7
WORDS = ["which", "planet", "planets", "orbit", "orbits", "metal", "medal", "river", "rivers", "cell",
         "cells", "energy", "engery", "sun", "son", "light"]  # fmt: skip
BAGS = st.dictionaries(
    st.sampled_from(WORDS), st.sampled_from([0.1, 0.3, 0.5, 1.0]), min_size=1, max_size=7
)


def similarity(held, asked):
    """As `HeldOut` compares two bags; a misspelt word counts once."""
    shared = [word for word in held if word in asked]
    new = [word for word in asked if word not in held]
    evidence = spelt = sum(held[word] for word in shared)
    for word in (word for word in held if word not in asked):
        typo = next((other for other in new if is_typo(word, other)), None)
        if typo is not None:
            evidence += held[word]
            new.remove(typo)
    total = sum(held.values())
    return evidence / (total + sum(asked[word] for word in new)), spelt / total


@settings(max_examples=300)
@given(st.lists(BAGS, min_size=1, max_size=8), BAGS)
def test_no_question_that_is_like_enough_is_missed(bags, asked):
    found = ShortQuestions(bags, SHARE, SPELT).find(asked)
    for number, held in enumerate(bags):
        share, spelt = similarity(held, asked)
        if share >= SHARE and spelt >= SHARE * SPELT:
            assert number in found
        if spelt < SHARE * SPELT - 1e-6:
            assert number not in found


def test_a_template_leads_to_few_however_many_questions_have_it():
    chance = random.Random(0)
    form = {word: 0.3 for word in ("what", "is", "the", "name", "of", "which", "has", "a")}
    letters = "abcdefghijklmnopqrstuvwxyz"
    own = ["".join(chance.choices(letters, k=9)) for _ in range(3000)]
    questions = ShortQuestions([{**form, word: 1.0, f"{word}x": 1.0} for word in own], SHARE, SPELT)
    asked = own[7]
    assert questions.find({**form, asked: 1.0, f"{asked}x": 1.0}) == [7]
    misspelt = asked[:3] + asked[4:]
    assert questions.find({**form, misspelt: 1.0, f"{asked}x": 1.0}) == [7]
    assert questions.find({**form, "something": 1.0, "different": 1.0}) == []
    assert questions.find({}) == []
    assert ShortQuestions([], SHARE, SPELT).find(form) == []
