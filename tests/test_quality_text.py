"""Short answers compared with the SQuAD normalisation."""

import pytest

from quality.benchmark import grade_text
from quality.text import contains, exact_match, normalise_answer, token_f1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The Cat's  paw.", "cats paw"),
        ("an  apple", "apple"),
        ("Theatre", "theatre"),
        ("", ""),
        ("🙂 ok\u202e", "🙂 ok\u202e"),
    ],
)
def test_normalisation(text, same):
    assert normalise_answer(text) == same


def test_metrics_by_hand():
    assert exact_match("The mitochondria.", "mitochondria") == 1.0
    assert exact_match("mitochondrion", "mitochondria") == 0.0
    assert token_f1("red blood cells", "blood cells") == pytest.approx(0.8)
    assert token_f1("", "") == 1.0
    assert token_f1("x", "") == 0.0
    assert contains("It is the red fox.", "red fox") == 1.0
    assert contains("It is the redfox.", "red fox") == 0.0
    assert contains("anything", "") == 0.0


def test_the_best_reference_counts_and_none_abstains():
    grade = grade_text(["feline", "cat"], "a cat")
    assert grade.values == {"exact_match": 1.0, "f1": 1.0, "contains": 1.0}
    nothing = grade_text([], "a cat")
    assert set(nothing.values.values()) == {None}
    assert nothing.abstained == "no reference answer"
