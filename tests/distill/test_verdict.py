"""The verdict's sentences: no more than the figures can bear."""

import math
from dataclasses import replace

import pytest

from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.statistics import Interval
from distill.evaluation.verdict import (
    best_of,
    fine_tune,
    forgetting,
    form_doubt,
    is_clear,
    paired,
    verdict,
    warnings,
)
from distill.report.page import describe_difference
from tests.distill.test_compare import items, series
from tests.support.evaluations import rich_evaluation


def shares(n=40, **given):
    """A comparison where each contestant has so many of n items right."""
    answers = []
    for name, right in given.items():
        answers += series(name.replace("_", "+"), [1.0] * right + [0.0] * (n - right))
    return answers, items(n)


def test_fewer_than_ten_items_claim_nothing():
    found = compare("quiz", *shares(n=9, student=9, base=0))
    pair = found.difference("student", "base")
    assert pair.p_value < 0.05 and pair.metrics["exact_match"].low > 0.4
    assert not is_clear(pair, "exact_match")
    told = verdict(found)
    assert "No clear difference" in told
    assert "n = 9, too few to claim anything" in told
    assert "beats" not in told
    assert "McNemar" not in told
    assert describe_difference(pair, found) == "too few items"


def test_lower_is_better_turns_the_words():
    found = compare("toxicity", *shares(student=2, base=30, teacher=1), higher_is_better=False)
    told = verdict(found)
    assert told.startswith("The student beats the base by 70.0 points exact match, where lower is")
    assert best_of(found, "exact_match") == ["teacher"]
    assert describe_difference(found.difference("student", "base"), found) == "student is better"
    worse = compare("toxicity", *shares(student=30, base=2, teacher=1), higher_is_better=False)
    assert verdict(worse).startswith("The student is worse than the base by 70.0 points")
    assert "above the teacher, which is worse" in verdict(worse)
    assert forgetting(worse).startswith("Worse than before: the student is 70.0 points worse")
    assert forgetting(found).startswith("Better than before: the student is 70.0 points better")
    assert worse.gap_closed.interval is None and worse.gap_closed.reason == "lower is better"


def test_one_that_failed_on_many_items_is_not_the_best():
    texts = shares(student=0, base=20, teacher=30)
    given = [a for a in texts[0] if a.contestant != "student"]
    given += [
        replace(a, grades={"exact_match": 1.0}) for a in texts[0] if a.contestant == "student"
    ][:5]
    found = compare("q", given, texts[1])
    assert found.standing("student").metrics["exact_match"].value == 1.0
    assert best_of(found, "exact_match") == ["teacher"]
    assert "(student failed on too many items to be ranked). " in fine_tune(found) + " "
    assert "behind" not in fine_tune(found)  # on what both answered it is ahead


def test_names_are_not_taken_by_their_beginning():
    given, texts = shares(student=10, base=2, rival=30)
    named = [replace(a, contestant=a.contestant.replace("rival", "teacher-big")) for a in given]
    assert "Without any training, teacher-big" in fine_tune(compare("q", named, texts))


def test_right_answers_were_lost_only_where_containment_fell_clearly():
    def said(contained):
        texts = shares(student=30, base=2)
        given = [
            replace(a, grades={**a.grades, "contains": contained(n, a.contestant)})
            for n, a in enumerate(texts[0])
        ]
        return verdict(compare("q", given, texts[1]))

    one = said(lambda n, who: 0.0 if who == "student" and n == 0 else 1.0)
    assert "part of the gain is the form of the answers." in one
    many = said(lambda n, who: 0.0 if who == "student" and n % 2 else 1.0)
    assert "and some right answers were lost" in many


def test_what_could_have_been_shown_goes_by_the_number_of_benchmarks():
    alone = compare("one", *shares(student=30, base=4))
    first, *_ = adjust_p_values([replace(alone, benchmark=str(n)) for n in range(7)])
    assert first.detectable > alone.detectable
    assert "One of 7 benchmarks has to meet a stricter level: with 40 items, a true" in " ".join(
        warnings(first)
    )
    assert "stricter level" not in " ".join(warnings(alone))


def test_the_test_has_its_right_name():
    texts = shares(student=30, base=2)
    partly = [replace(a, grades={"f1": a.grades["exact_match"] * 0.5}) for a in texts[0]]
    told = compare("q", partly, texts[1], headline="f1")
    assert "permutation test p" in verdict(told) and "McNemar" not in verdict(told)
    assert "is found four times in five by a test of means." in " ".join(warnings(told))


def test_p_after_holm_decides():
    one = compare("one", *shares(student=6, base=0))
    assert one.difference("student", "base").p_value == pytest.approx(0.03125)
    assert "beats the base" in verdict(one)
    both = adjust_p_values([one, compare("two", *shares(student=6, base=0))])
    assert both[0].difference("student", "base").p_adjusted == pytest.approx(0.0625)
    assert "No clear difference" in verdict(both[0])
    assert "McNemar p = 0.062 after Holm" in verdict(both[0])


def test_benchmarks_off_the_task_are_a_family_of_their_own():
    task = [compare(name, *shares(student=8, base=1)) for name in ("one", "two")]
    forgot = [
        compare(f"off {n}", *shares(student=0, base=lost), role="off_task")
        for n, lost in enumerate((9, 0, 0, 0, 0))
    ]

    def p_values(comparisons):
        return [c.difference("student", "base").p_adjusted for c in comparisons]

    alone, beside = adjust_p_values(task), adjust_p_values([*task, *forgot])
    assert beside[:2] == alone and p_values(alone) == pytest.approx([0.015625 * 2] * 2)
    assert beside[2].difference("student", "base").tests == 5
    assert p_values(beside[2:]) == p_values(adjust_p_values(forgot))
    assert forgetting(beside[2]).startswith("Forgotten: ")  # 5 * 2 / 2^9, but not 7 times as much
    nine = [compare(f"task {n}", *shares(student=20, base=20)) for n in range(9)]
    assert forgetting(adjust_p_values([*nine, *forgot])[9]).startswith("Forgotten: ")


def test_rivals_are_adjusted_for_their_number_on_one_benchmark():
    def beaten(**rivals):
        one = compare("q", *shares(student=6, base=0, teacher=9, **rivals))
        return adjust_p_values([one])[0]

    single, three = beaten(base_knn=0), beaten(base_knn=0, base_fewshot=0, copy=5)
    assert single.difference("student", "base+knn").p_adjusted is None
    assert "The student beats base+knn" in fine_tune(single)
    pair = three.difference("student", "base+knn")
    assert (pair.tests, pair.p_adjusted) == (3, pytest.approx(3 * 0.03125))
    assert "base+knn (15.0 points, p = 0.094)" in fine_tune(three)
    assert "The student beats" not in fine_tune(three)
    assert three.difference("student", "base").p_adjusted is None  # no rival
    again, _ = adjust_p_values([three, replace(three, benchmark="other")])
    assert again.difference("student", "base+knn").p_adjusted == pair.p_adjusted


def test_should_i_fine_tune_says_who_needs_no_training_and_does_as_well():
    ahead = compare("q", *shares(student=10, base=2, teacher=30, base_retrieval=25))
    told = fine_tune(ahead)
    assert told.startswith("Highest of 4 contestants: teacher with exact match 75.0 %; the student")
    assert "Without any training, base+retrieval (-37.5 points, p < 0.001) is better than" in told
    level = fine_tune(compare("q", *shares(student=20, base=2, base_knn=19)))
    assert (
        "Without any training, base+knn (2.5 points, p = 1.000) is not clearly different" in level
    )
    assert "these items do not show that training was needed" in level
    behind = fine_tune(compare("q", *shares(student=30, base=2, base_fewshot=9)))
    assert behind.startswith("Highest of 3 contestants: student with exact match 75.0 %.")
    assert "The student beats base+fewshot (52.5 points, p < 0.001), which needs no training." in (
        behind
    )
    weak = fine_tune(compare("q", *shares(student=21, base=20, base_knn=2)))
    assert "beats base+knn" in weak and "every" not in weak  # the base is not beaten
    alone = fine_tune(compare("q", *shares(student=30, base=2)))
    assert "was not measured: no contestant uses the base that way" in alone
    unpaired = compare("q", *shares(student=3, base_knn=9), pairs=[])
    assert "Not compared item by item: base+knn." in fine_tune(unpaired)
    assert fine_tune(compare("q", *shares(base=2))) == ""


def test_a_lead_over_a_prompt_that_names_no_option_may_be_form():
    answers = []
    for name, right, named in (("base", 4, 8), ("base+fewshot", 20, 20), ("student", 36, 40)):
        for i, one in enumerate(series(name, [1.0] * right + [0.0] * (40 - right))):
            grades = {"accuracy": float(i < right), "answered": float(i < named)}
            answers.append(replace(one, grades=grades))
    found = compare("q", answers, items(40), "accuracy")
    assert "beats base+fewshot (40.0 points, of which all may be form, p < 0.001)" in (
        fine_tune(found)
    )
    assert (
        form_doubt(found, "base+fewshot") == ", though perhaps only in form"
    )  # where both name one, both are equally right
    read = [replace(a, grades={**a.grades, "answered": 1.0}) for a in answers]
    sound = compare("q", read, items(40), "accuracy")
    assert "beats base+fewshot (40.0 points, p < 0.001)" in fine_tune(sound)
    assert form_doubt(sound, "base+fewshot") == ""


def test_a_pair_is_found_either_way_round():
    found = compare("q", *shares(student=30, base=2), pairs=[("base", "student")])
    pair = paired(found, "student", "base")
    assert (pair.wins, pair.losses) == (28, 0)
    assert pair.metrics["exact_match"].value == pytest.approx(0.7)
    assert pair.metrics["exact_match"].low > 0.5
    assert paired(found, "student", "teacher") is None


def test_forgetting_is_not_denied_by_lack_of_evidence():
    same = compare("q", *shares(student=20, base=21), role="off_task")
    assert forgetting(same).startswith("No clear change against the base")
    assert "does not prove that nothing was forgotten" in forgetting(same)
    fell = compare("q", *shares(student=5, base=30), role="off_task")
    assert forgetting(fell).startswith("Forgotten: the student is 62.5 points worse")
    assert forgetting(compare("q", *shares(student=5))).startswith("Unknown")


def test_containment_is_only_part_of_a_gain_where_there_is_one():
    sciq, nq, _ = rich_evaluation().comparisons
    assert "part of the gain is the form" in verdict(sciq)
    assert "part of the gain" not in verdict(nq)
    assert "(95 % interval -35.8 to -9.3): right answers were lost" in verdict(nq)


def test_warnings_name_what_so_few_items_can_not_show():
    found = replace(compare("q", *shares(student=25, base=10)), notes=["two failed"])
    first, second = warnings(found)
    assert first == "two failed"
    assert second.startswith("With 40 items, a true difference of ")
    least, most = (
        math.ceil(1000 * value) / 10 for value in (found.detectable, found.detectable_at_most)
    )
    told = f"difference of {least:g} points or more ({most:g} by a cautious estimate) is found"
    assert told in second and least < most
    (same,) = warnings(compare("q", *shares(student=3, base=3)))
    assert "right on 0 % of the items, by the cautious estimate on 7.2 %." in same
    (blind,) = warnings(replace(compare("q", *shares(n=5, student=3, base=1)), notes=[]))
    assert blind.startswith("5 items cannot show a difference")


def test_what_a_test_of_means_could_show_goes_by_the_passages():
    answers, texts = shares(student=25, base=10)
    grouped = [replace(text, passage=f"Passage {n // 5}.") for n, text in enumerate(texts)]
    alone, found = compare("q", answers, texts), compare("q", answers, grouped)
    assert found.detectable > alone.detectable
    least, most = (
        math.ceil(1000 * value) / 10 for value in (found.detectable, found.detectable_at_most)
    )
    assert warnings(found)[-1] == (
        f"With 40 items as unequal as these, a true difference of {least:g} points or more ({most:g} "
        "by a cautious estimate) is found four times in five by a test of means."
    )
    equal = [replace(a, grades={"f1": 0.5}) for a in answers]
    (line,) = warnings(compare("q", equal, texts, headline="f1"))
    assert line.endswith("four times in five by a test of means.") and "of 0 points" not in line


def test_reading_of_a_pair_that_was_not_graded():
    found = compare("q", *shares(student=20, base=21))
    pair = replace(found.difference("student", "base"), metrics={"f1": Interval(0, 0, 0)})
    assert describe_difference(pair, found) == "not graded"
