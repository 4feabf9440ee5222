"""Short answers compared with the SQuAD normalisation; numbers and dates by value."""

import pytest

from quality.tasks.benchmark import grade_text
from warehouse.text.normalize import (
    canonical,
    contains,
    dates,
    differ_in_number,
    exact_match,
    normalise_answer,
    numbers,
    same_value,
    token_f1,
    without_dates,
)


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,000", ["1000"]),
        ("1000.0", ["1000"]),
        ("one thousand", ["1000"]),
        ("1\u202f000 men", ["1000"]),
        ("50 %, 50% and fifty per cent", ["50%", "50%", "50%"]),
        ("1.5e3 1.5 × 10^3 1.5 x 10³", ["1500", "1500", "1500"]),
        ("2·10⁻³", ["0.002"]),
        ("1.5 million", ["1500000"]),
        ("-5, minus five and \u22125", ["-5", "-5", "-5"]),
        ("3-5 or 10–20", ["3", "5", "10", "20"]),
        ("one hundred and twenty-three point five", ["123.5"]),
        ("nineteen ninety-nine", ["1999"]),
        ("the 21st, twenty-first century", ["21", "21"]),
        ("one two three", ["1", "2", "3"]),
        ("one", ["1"]),
        ("no one has one of them; the first, a second", []),
        ("vitamin B12 and H2O", []),
        ("٣٤", ["34"]),
        ("1e9999", ["1E+9999"]),
        ("9" * 40, ["9" * 40]),
        ("1.2.3", ["1.2", "3"]),
        ("", []),
        ("\ud83d seven \x00", ["7"]),
    ],
)
def test_numbers(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 March 1999", ["1999-03-03"]),
        ("March 3, 1999", ["1999-03-03"]),
        ("the 3rd of March, 1999", ["1999-03-03"]),
        ("Mar. 3 1999", ["1999-03-03"]),
        ("1999-03-03 and 1999-03-03T10:00", ["1999-03-03", "1999-03-03"]),
        ("31/12/1999 or 12/31/1999", ["1999-12-31", "1999-12-31"]),
        ("March 1999", ["1999-03"]),
        ("March 3", ["--03-03"]),
        ("29 February", ["--02-29"]),
        ("3/4/1999", []),  # two days in two countries
        ("31 February 1999", []),
        ("1999-13-45", []),
        ("in 1999, may, 12, sat, 10 am, version 1.2.3", []),
    ],
)
def test_dates(text, found):
    assert dates(text) == found


def test_canonical_texts_are_equal_where_the_values_are():
    assert canonical("On March 3, 1999 fifty percent of 1,000") == "On 1999-03-03 50% of 1000"
    assert without_dates("On March 3, 1999 five men") == "On   five men"


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("fifty percent", "50 %", True),
        ("47", "forty-seven years", True),
        ("$5", "5 dollars", True),
        ("1999-03-03", "March 3, 1999", True),
        ("not 47", "47", False),
        ("3 pears", "3 apples", False),
        ("1.5", "15", False),
        ("50%", "50", False),
        ("2 or 3", "2", False),
        ("cat", "cat", False),
    ],
)
def test_same_value(answer, reference, same):
    assert same_value(answer, reference) is same is same_value(reference, answer)


def test_numbers_that_differ():
    assert differ_in_number("1.5", "15") and differ_in_number("-5", "5")
    assert not differ_in_number("50%", "50") and not differ_in_number("5 cats", "cats")
    assert not differ_in_number("5 and 3", "3 and 5")


@pytest.mark.parametrize("text", ["one two three ", "1,", "March ", "9", " "])
def test_a_megabyte_is_read_in_bounded_time(text):
    long = text * (1_000_000 // len(text))
    assert len(canonical(long)) <= len(long)
    assert not dates(long)
