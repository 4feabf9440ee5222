"""What was found out of all texts holds for any part of them, kept as JSON or not."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.gate.alike import Alike, Repeats
from quality.gate.sketches import runs
from warehouse.text.question_form import comparison_form

WORDS = [
    "red",
    "green",
    "blue",
    "iron",
    "copper",
    "silver",
    "river",
    "mountain",
    "valley",
    "seventeen",
    "ninety",
]


def made(chance, count, bases=6):
    """Copies of a few texts with words changed, and equal ones in another case."""
    texts = []
    originals = [chance.choices(WORDS, k=24) for _ in range(bases)]
    for number in range(count):
        words = list(chance.choice(originals))
        for _ in range(chance.randrange(4)):
            words[chance.randrange(24)] = f"{chance.choice(WORDS)}{number % 5}"
        texts.append(" ".join(words))
        if chance.random() < 0.2:
            texts.append(chance.choice(texts).upper())
    return texts


def kept_as_json(alike):
    return Alike.from_json(json.loads(json.dumps(alike.as_json())))


def none_to_read(rows):
    raise AssertionError(f"the texts {rows} are read again")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.7, 0.8, 0.95]))
def test_any_part_gives_the_same_from_what_was_kept(seed, threshold):
    chance = random.Random(seed)
    texts = made(chance, 60)
    alike = Alike.of(texts, threshold)
    kept = kept_as_json(alike)
    forgotten = kept_as_json(alike)
    forgotten.compared.clear()
    for share in (0.9, 0.5, 0.2):
        left = np.flatnonzero([chance.random() < share for _ in texts])

        def read(rows):
            return [texts[n] for n in rows]

        found = alike.drops(left, read)
        assert found == kept.drops(left, read) == forgotten.drops(left, read)
        assert found == Alike.of(texts, threshold).drops(left, read)
        dropped = {row for row, _ in found}
        for row, (of, similarity) in found:
            assert of < row and of in left and row in left and of not in dropped
            a, b = (runs(comparison_form(texts[n])) for n in (row, of))
            assert similarity == pytest.approx(len(a & b) / len(a | b)) and similarity >= threshold


def test_a_choice_among_all_reads_no_text_again():
    texts = made(random.Random(3), 200)
    kept = kept_as_json(Alike.of(texts, 0.8))
    assert len(kept.drops(np.arange(len(texts)), none_to_read)) > 20
    kept.compared.clear()
    with pytest.raises(AssertionError, match="are read again"):
        kept.drops(np.arange(len(texts)), none_to_read)


def test_the_first_that_is_left_stands_for_its_equals():
    repeats = Repeats.of(["a", "b", "a", "", "a", "", "b"])
    assert [half.tolist() for half in repeats.among(np.arange(7))] == [[2, 4, 6], [0, 0, 1]]
    assert [half.tolist() for half in repeats.among(np.array([2, 4, 6]))] == [[4], [2]]
    assert Repeats.from_json(json.loads(json.dumps(repeats.as_json()))).rows.tolist() == [2, 4, 6]


def test_equal_ones_are_named_by_the_first_left_in_place_of_one_that_is_not():
    said = "the iron bridge over the river was built in seventeen months by forty men"
    texts = [said, f"{said} or so", said.upper(), f"{said} or more"]
    alike = Alike.of(texts, 0.8)
    among = [
        (row, of)
        for row, (of, _) in alike.drops(np.arange(4), lambda rows: [texts[n] for n in rows])
    ]
    assert among == [(1, 0), (2, 0), (3, 0)]
    rest = [
        (row, of)
        for row, (of, _) in alike.drops(np.array([1, 2, 3]), lambda rows: [texts[n] for n in rows])
    ]
    assert rest == [(2, 1), (3, 1)]
