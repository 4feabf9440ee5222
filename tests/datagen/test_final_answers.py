"""Announced answers in several languages, compared by words, numbers and options."""

import pytest

from datagen.final_answers import count_answers, fault_of, final_answer, missing_for, same_answer
from datagen.votes import majority


@pytest.mark.parametrize(
    ("text", "marker", "answer"),
    [
        ("3 + 4 is 7.\nAnswer: 7", "Answer:", "7"),
        ("Answer: 5\nNo, that is wrong.\nAnswer: 7", "Answer:", "7"),
        ("1\n**Final Answer:** $\\frac{3}{4}$", "Answer:", "\\frac{3}{4}"),
        ("It is 1,000. ANSWER: 1,000 kg.", "Answer:", "1,000 kg."),
        ("Answer:\n\\boxed{5}", "Answer:", "5"),
        ("so \\boxed{42}", "Answer:", "42"),
        ("so <answer>red</answer>", "Answer:", "red"),
        ("so it is\n#### 5", "Answer:", "5"),
        ("所以一共七个。\n最终答案：７ 千克", "答案：", "7 千克"),
        ("Das ergibt 7.\nAntwort: 7", "Antwort:", "7"),
        ("Cela fait 7.\nRéponse : 7", "Réponse :", "7"),
        ("I have no answer: it depends", "Answer:", None),
        ("Answer: ...", "Answer:", None),
        ("It is 7.", "Answer:", None),
        ("So 7.\nThe answer is: 7", "Answer:", "7"),
        ("答案是：７", "答案：", "7"),
        ("", "Answer:", None),
    ],
)
def test_an_announced_answer_is_found(text, marker, answer):
    assert final_answer(text, marker) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("the Cat.", "cat", True),
        ("3/4", "0.75", True),
        ("1,000", "1000", True),
        ("42 km", "42", True),
        ("forty-two", "42", True),
        ("二十一", "21", True),
        ("42", "43", False),
        ("Apollo 11 crew", "Apollo 11 rocket", False),
        ("cat", "dog", False),
        ("3 + 4", "4", False),
    ],
)
def test_answers_are_the_same_by_words_or_by_value(one, other, same):
    assert same_answer(one, other) is same and same_answer(other, one) is same


@pytest.mark.parametrize(
    ("answer", "check", "fault"),
    [
        ("0.75 kg", "numeric", None),
        ("\\frac{3}{4}", "numeric", None),
        ("4/3", "numeric", "the answer is another number than the reference"),
        ("many", "numeric", "the answer holds no number"),
        ("3 + 4", "numeric", "the answer is a calculation that is not worked out"),
        ("3/4", "reference", None),
        ("4/3", "reference", "the answer is not the reference"),
        ("B", "choice", None),
        ("B. 3/4", "choice", None),
        ("A", "choice", "the answer is a wrong option"),
        ("all", "choice", "no option can be read from the answer"),
    ],
)
def test_an_answer_is_right_or_says_why_not(answer, check, fault):
    assert fault_of(answer, check, ["3/4"], ["4/3", "3/4"]) == fault


def test_what_cannot_be_checked_says_what_is_missing():
    assert missing_for("reference", ["x"], []) is None
    assert missing_for("choice", ["x"], ["x", "y"]) is None
    assert "no reference" in missing_for("reference", [], [])
    assert "no number" in missing_for("numeric", ["x"], [])
    assert "no choices" in missing_for("choice", ["x"], [])
    assert "among its choices" in missing_for("choice", ["z"], ["x", "y"])


def test_answers_that_say_the_same_are_counted_together():
    assert count_answers(["3/4", None, "0.75", "1", "75 apples", "75"]) == [
        "3/4", None, "3/4", "1", "75 apples", "75 apples",
    ]  # fmt: skip
    assert count_answers(["B", "blue", "(A)", "?"], ["red", "blue"]) == ["B", "B", "A", None]


def test_a_majority_is_one_and_large_enough():
    assert majority({"a": 2, "b": 1}, 4, 0.5) == ("a", None)
    assert majority({"a": 2, "b": 2}, 4, 0.5)[1].startswith("no majority: 2 answers have 2 of 4")
    assert majority({"a": 1}, 4, 0.5) == (
        None, "1 of 4 draws agree, fewer than min_agreement = 0.5",
    )  # fmt: skip
    assert majority({}, 4, 0.0) == (None, "no draw gives an answer")
