"""A completion is cut into its claims: sentences, and one per item of a list."""

from __future__ import annotations

import pytest

from quality.text.claims import claims, sentences, whole_characters


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Paris", ["Paris"]),
        ("1999.", ["1999."]),
        ("1. Paris", ["Paris"]),
        ("Dr. Smith paid $3.5 million. He left!", ["Dr. Smith paid $3.5 million.", "He left!"]),
        ("One line\nof a wrapped sentence. Two.", ["One line of a wrapped sentence.", "Two."]),
        (
            "- a cat. And more\n  of it\n* a dog\n\n3) a fox",
            ["a cat. And more of it", "a dog", "a fox"],
        ),
        ("# Beasts\nThe causes are:\n\n- rain\n- wind", ["rain", "wind"]),
        ("It rained:\n\nThe sun was gone.", ["It rained:", "The sun was gone."]),
        ("Paris has 3 million people:\n- rain", ["Paris has 3 million people:", "rain"]),
        ("# Paris has 3 million people\nYes.", ["Paris has 3 million people", "Yes."]),
        ("# Beasts", ["Beasts"]),
        ("", []),
        (" \n\t", []),
        ("... 🙂 --", []),
        ("مرحبا بالعالم", ["مرحبا بالعالم"]),
    ],
)
def test_claims(text, cut):
    assert claims(text) == cut


def test_no_word_is_lost_in_plain_prose():
    text = "The eye is calm, e.g. here. It has no rain! Why? \u201cNobody knows.\u201d Mr. X left at 3 p.m."
    assert "".join(claims(text)).replace(" ", "") == text.replace(" ", "")


def test_half_a_character_is_replaced_and_the_length_kept():
    assert whole_characters("a\ud800b") == "a\ufffdb"
    assert claims("a \ud83d cat. A dog.") == ["a \ufffd cat.", "A dog."]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The eye is calm. " * 60_000, 60_000),
        ("- a\n" * 250_000, 250_000),
        ("a" * 1_000_000, 1),
        ("a:\n\n" * 250_000, 250_000),
        ("(" * 1_000_000, 0),
    ],
)
def test_a_megabyte(text, count):
    assert len(claims(text)) == count


def test_sentences_of_a_passage():
    assert sentences("The eye\nis calm. ... It rains.") == ["The eye is calm.", "It rains."]
