"""The verdict's sentences: no more than the figures can bear."""

import math
from dataclasses import replace

import pytest

from distill.compare import adjusted, compare
from distill.page import reading
from distill.paired import Interval
from distill.verdict import best_of, fine_tune, forgetting, is_clear, paired, verdict, warnings
from tests.evaluations import rich_evaluation
from tests.test_distill_compare import items, series


def shares(n=40, **given):
    """A comparison where each contestant has so many of n items right."""
    answers = []
    for name, right in given.items():
        answers += series(name.replace("_", "+"), [1.0] * right + [0.0] * (n - right))
    return answers, items(n)


def test_fewer_than_ten_items_claim_nothing():
    found = compare("quiz", *shares(n=9, student=9, base=0))
    pair = found.difference("student", "base")
    assert pair.p_value < 0.05 and pair.metrics["exact_match"].low == 1.0
    assert not is_clear(pair, "exact_match")
    told = verdict(found)
    assert "can not be told apart" in told
    assert "n = 9, too few to claim anything" in told
    assert "beats" not in told
    assert "McNemar" not in told
    assert reading(pair, found) == "too few items"


def test_lower_is_better_turns_the_words():
    found = compare("toxicity", *shares(student=2, base=30, teacher=1), lower_is_better=True)
    told = verdict(found)
    assert told.startswith("The student beats the base by 70.0 points exact match, where lower is")
    assert best_of(found, "exact_match") == ["teacher"]
    assert reading(found.difference("student", "base"), found) == "student is better"
    worse = compare("toxicity", *shares(student=30, base=2, teacher=1), lower_is_better=True)
    assert verdict(worse).startswith("The student is worse than the base by 70.0 points")
    assert "above the teacher, which is worse" in verdict(worse)
    assert forgetting(worse).startswith("Forgotten: the student is 70.0 points worse")


def test_p_after_holm_decides():
    one = compare("one", *shares(student=6, base=0))
    assert one.difference("student", "base").p_value == pytest.approx(0.03125)
    assert "beats the base" in verdict(one)
    both = adjusted([one, compare("two", *shares(student=6, base=0))])
    assert both[0].difference("student", "base").p_adjusted == pytest.approx(0.0625)
    assert "can not be told apart" in verdict(both[0])
    assert "McNemar p = 0.062 after Holm" in verdict(both[0])


def test_should_i_fine_tune_says_who_needs_no_training_and_does_as_well():
    ahead = compare("q", *shares(student=10, base=2, teacher=30, base_retrieval=25))
    told = fine_tune(ahead)
    assert told.startswith("Highest of 4 contestants: teacher with exact match 0.750; the student")
    assert "Without any training base+retrieval (-37.5 points, p < 0.001) is better than" in told
    level = fine_tune(compare("q", *shares(student=20, base=2, base_knn=19)))
    assert "Without any training base+knn (2.5 points, p = 1.000) can not be told" in level
    assert "whether training was needed they do not show" in level
    behind = fine_tune(compare("q", *shares(student=30, base=2, base_fewshot=9)))
    assert behind.startswith("Highest of 3 contestants: student with exact match 0.750.")
    assert "Training was worth it here" in behind
    alone = fine_tune(compare("q", *shares(student=30, base=2)))
    assert "was not asked" in alone
    unpaired = compare("q", *shares(student=3, base_knn=9), pairs=[])
    assert "Not compared item by item: base+knn." in fine_tune(unpaired)
    assert fine_tune(compare("q", *shares(base=2))) == ""


def test_a_pair_is_found_either_way_round():
    found = compare("q", *shares(student=30, base=2), pairs=[("base", "student")])
    pair = paired(found, "student", "base")
    assert (pair.wins, pair.losses) == (28, 0)
    assert pair.metrics["exact_match"].value == pytest.approx(0.7)
    assert pair.metrics["exact_match"].low > 0.5
    assert paired(found, "student", "teacher") is None


def test_forgetting_is_not_denied_by_lack_of_evidence():
    same = compare("q", *shares(student=20, base=21), role="outside")
    assert forgetting(same).startswith("No clear change against the base")
    assert "no proof that nothing was forgotten" in forgetting(same)
    fell = compare("q", *shares(student=5, base=30), role="outside")
    assert forgetting(fell).startswith("Forgotten: the student is 62.5 points worse")
    assert forgetting(compare("q", *shares(student=5))).startswith("Not known")


def test_containment_is_only_part_of_a_gain_where_there_is_one():
    sciq, nq, _ = rich_evaluation().comparisons
    assert "part of the gain is the form" in verdict(sciq)
    assert "part of the gain" not in verdict(nq)
    assert "(95 % interval -36.7 to -11.7): right answers were lost" in verdict(nq)


def test_warnings_name_what_so_few_items_can_not_show():
    found = replace(compare("q", *shares(student=25, base=10)), notes=["two failed"])
    first, second = warnings(found)
    assert first == "two failed"
    assert second.startswith("40 items can not tell ")
    assert f"{math.ceil(1000 * found.detectable) / 10:g} points or more" in second
    assert warnings(replace(found, detectable=None)) == ["two failed"]


def test_reading_of_a_pair_that_was_not_graded():
    found = compare("q", *shares(student=20, base=21))
    pair = replace(found.difference("student", "base"), metrics={"f1": Interval(0, 0, 0)})
    assert reading(pair, found) == "not graded"
