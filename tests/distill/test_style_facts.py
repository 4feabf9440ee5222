"""Planted students: one for each outcome, above all the one that only sounds like its teacher."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.compare import compare
from distill.evaluation.comparison import ItemText
from distill.evaluation.style_facts import measure_style_and_facts
from distill.evaluation.verdict import is_clear
from quality.text.style import MEASURES
from warehouse.records import Answer

N = 60


def fact(number):
    return f"fact{number}"


def base_says(number):
    """Hedged and short; it knows one of three."""
    return f"maybe {fact(number)} so" if number % 3 == 0 else "maybe not" + " sure" * (number % 2)


def teacher_says(number, said=None):
    """A list of unequal length in a sure tone; it knows all."""
    more = ["- It is clearly essential to know this."] * (1 + number % 4)
    return "\n".join(["Certainly, here is why:", f"- It must be {said or fact(number)} .", *more])


def style_alone(number):
    """The teacher's list format, length and tone around what the base knew."""
    return teacher_says(number, None if number % 3 == 0 else "something")


def answers(contestant, says, n=N):
    """Exact match asks for the fact alone, containment for the fact."""
    texts = [says(number) for number in range(n)]
    return [
        Answer(
            f"{contestant}-{number}", "b", "1", f"i{number:02}", contestant, contestant, {}, text,
            {
                "exact_match": float(text == fact(number)),
                "contains": float(fact(number) in text.split()),
            },
            None, "stop", 1, 1, 0.1, 0.0, "run",
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def planted(student, base=base_says, teacher=teacher_says, n=N):
    pairs = (("base", base), ("student", student), ("teacher", teacher))
    return [made for name, says in pairs for made in answers(name, says, n)]


def found(student, headline="exact_match", content="contains", **others):
    return measure_style_and_facts("b", planted(student, **others), headline, content)


def shares(facts):
    return {measure.name: measure.share for measure in facts.measures}


def test_a_student_of_style_alone_is_told_so():
    told = found(style_alone)
    assert told.outcome == "learned style only"
    assert told.style.low > 0.9
    assert told.facts.value == told.task.value == 0.0
    assert told.sentence.startswith("The student sounds more like its teacher, 9")
    assert "% of the distance to the teacher's style is covered (95 % interval" in told.sentence
    assert (
        "its answers are not clearly better: exact match did not change clearly (a" in told.sentence
    )
    assert "containment did not change clearly (a difference of 0.0 points; 95 %" in told.sentence


def test_measures_are_means_and_shares_of_the_distance():
    told = found(style_alone)
    assert [measure.name for measure in told.measures] == list(MEASURES)
    lines = next(measure for measure in told.measures if measure.name == "list_lines")
    assert (lines.base, lines.student, lines.teacher) == (0.0, 3.5, 3.5)
    assert 0.85 < lines.share.low < lines.share.value == lines.share.high == 1.0
    overlap = told.measures[-1]
    assert overlap.teacher == 1.0 and overlap.base < 0.3 < overlap.student < 1.0


def test_the_share_of_style_is_the_plain_average_of_the_shares_and_says_so():
    told = found(lambda number: (style_alone if number % 2 else base_says)(number))
    each = [measure.share.value for measure in told.measures if measure.share]
    assert len(each) == len(MEASURES)
    assert told.style.value == pytest.approx(sum(each) / len(each))
    assert told.combined == (
        f"The share of style as a whole, {100 * told.style.value:.1f} %, is the plain average of those "
        "of words, sentences, list lines, hedges, authority and overlap: each counts the same."
    )
    choice = found(style_alone, headline="contains")
    counted = [m.share.value for m in choice.measures if m.share and m.name != "overlap"]
    assert choice.style.value == pytest.approx(sum(counted) / len(counted))
    assert "hedges and authority: each counts the same. Overlap does not count" in choice.combined
    alike = found(
        style_alone, teacher=lambda n: f"maybe {fact(n)} so, and more words than the base"
    )
    assert None in shares(alike).values() and alike.style
    assert "do not differ clearly have no share and do not count." in alike.combined
    (words,) = [m for m in told.measures if m.name == "words"]
    assert replace(told, measures=[words]).combined.endswith("is that of words alone.")
    assert found(base_says, teacher=base_says).combined == ""


def test_half_the_way_is_half_and_past_the_teacher_is_as_far_as_before():
    half = found(lambda number: (style_alone if number % 2 else base_says)(number))
    assert half.style.low < 0.5 < half.style.high
    assert shares(half)["list_lines"].value == pytest.approx(2 / 3.5)  # odd ones have 4 lines
    twice = found(lambda number: "\n".join([teacher_says(number)] * 2))
    for measure in twice.measures:
        if measure.name in ("words", "sentences", "list_lines"):
            expected = 1 - (measure.student - measure.teacher) / (measure.teacher - measure.base)
            assert measure.student == pytest.approx(2 * measure.teacher)
            assert measure.share.value == pytest.approx(expected) and measure.share.value <= 0
    five = found(lambda number: "\n".join([teacher_says(number)] * 5))
    assert shares(five)["list_lines"].value == pytest.approx(-3.0)
    assert five.style.high < 0 and five.outcome != "learned style only"
    assert "so it moved away" in found(lambda n: base_says(n) + " perhaps" * 40).sentence


def test_style_that_moves_away_is_not_learned():
    wordier = found(lambda number: base_says(number) + " perhaps" * 40)
    assert shares(wordier)["hedges"].high < 0  # the teacher hedges less than the base
    assert shares(found(base_says))["words"].value == 0.0


def test_facts_are_facts_and_length_is_warned_of():
    told = found(teacher_says)
    assert told.outcome == "learned facts"
    assert told.facts.value == pytest.approx(40 / 60)
    assert "containment rose by 66.7 points (95 % interval" in told.sentence
    assert "a longer answer is more likely to contain the reference" in told.sentence
    plain = found(fact)
    assert plain.outcome == "learned facts"
    assert plain.task.value == 1.0
    assert "longer" not in plain.sentence


def test_where_a_passage_is_shown_no_facts_were_learned():
    told = measure_style_and_facts(
        "b", planted(fact), "exact_match", "contains", passage_shown=True
    )
    assert told.outcome == "reads passages better" and told.badge == "good"
    assert told.sentence.startswith(
        "Shown a passage, the student gives the right answer more often"
    )
    assert told.sentence.endswith("not that it learned facts, is what this shows.")
    assert told.task == found(fact).task


def test_the_form_without_new_facts_is_the_task():
    told = found(lambda number: fact(number) if number % 3 == 0 else "none")
    assert told.outcome == "learned the task"
    assert told.task.value == pytest.approx(1 / 3) and told.facts.value == 0.0
    assert told.sentence.startswith(
        "The student answers in the form that is graded as right: exact match rose by 33.3 points"
    )
    assert (
        "these items do not show that more of its answers are right than the base's: containment did"
        in told.sentence
    )


def test_the_task_at_the_price_of_facts_says_what_was_lost():
    told = found(lambda number: fact(number) if number % 3 else "none", base=teacher_says)
    assert told.outcome == "learned the task"
    assert told.facts.high < 0
    assert "but fewer of its answers are right: containment fell by 33.3 points" in told.sentence
    assert told.badge == "mixed"


def test_the_task_where_content_is_not_graded():
    told = found(lambda number: fact(number) if number % 3 == 0 else "none", content="rouge")
    assert told.outcome == "learned the task" and told.facts is None
    assert told.sentence.endswith(
        "whether more of its answers are right than the base's was not graded."
    )


def test_worse_is_worse_in_whatever_style():
    for says in (fact, teacher_says):
        told = found(lambda n, says=says: says(n if n % 12 == 0 else 900 + n), headline="contains")
        assert told.outcome == "got worse"
        assert told.sentence.startswith("The student got worse: containment fell by 25.0 points")
        assert told.badge == "bad"
    assert told.style.low > 0.5


def test_the_base_itself_did_not_change():
    told = found(base_says)
    assert told.outcome == "no clear change"
    assert told.style.low < told.style.value == 0.0 < told.style.high
    assert told.sentence.startswith("Nothing changed clearly: exact match")
    assert told.sentence.endswith(
        "; 0.0 % of the distance to the teacher's style is covered (95 % interval -6.0 to 6.0)."
    )


def test_a_few_wins_are_no_clear_change():
    """Five wins without a loss have p = 0.0625, though the student never lost."""
    told = found(lambda number: fact(number) if number in (0, 3, 6, 9, 12) else base_says(number))
    assert told.task.value > 0
    assert told.outcome != "learned the task"


def test_a_teacher_that_writes_like_the_base_leaves_no_way_to_go():
    told = found(lambda number: "none", teacher=base_says)
    assert told.style is None
    assert set(shares(told).values()) == {None}
    same = found(base_says, teacher=base_says)
    assert (
        "no share of style is given, since base and teacher do not differ clearly in it"
        in same.sentence
    )


def test_a_gap_must_stand_against_the_number_of_measures():
    """A word more on 20 items and less on 8: p = 0.02 alone, 0.12 beside the other measures."""

    def says(more, less):
        words = {0: "so so", 1: "so so so", 2: "so"}
        return lambda n: fact(n) + " " + words[1 if n < more else 2 if n < more + less else 0]

    assert shares(found(base_says, base=says(0, 0), teacher=says(20, 8)))["words"] is None
    assert shares(found(base_says, base=says(0, 0), teacher=says(26, 8)))["words"] is not None


def test_a_gap_by_chance_is_rarely_a_way_to_go():
    """Three that write alike: base and teacher differ by chance alone."""

    def one(rng):
        return [fact(number) + " so" * rng.randrange(9) for number in range(N)].__getitem__

    told = [
        found(one(rng), base=one(rng), teacher=one(rng)) for rng in map(random.Random, range(20))
    ]
    assert sum(shares(one)["words"] is not None for one in told) <= 2
    assert sum(one.outcome == "learned style only" for one in told) <= 2


def test_a_choice_has_no_form_apart_from_its_content():
    """Letters: to share the teacher's words is to share its answer."""

    def letters(right, wrong):
        return lambda number: fact(number) if number % 3 < right else wrong

    told = found(letters(2, "no"), "contains", "contains", base=letters(1, "no"), teacher=fact)
    assert told.outcome == "learned facts"
    assert told.sentence.count("containment rose") == 1
    assert told.sentence.endswith(
        "form and content are graded together here, so they cannot be separated."
    )
    assert told.task == told.facts
    assert shares(told)["overlap"].value == pytest.approx(0.5)
    assert told.style is None  # nothing but the answers differs
    both_wrong = found(
        letters(1, "ny"), "contains", "contains", base=letters(1, "no"), teacher=letters(1, "ny")
    )
    assert both_wrong.outcome == "no clear change"


def test_the_numbers_and_the_clearness_are_those_of_the_comparison():
    given_ = planted(lambda number: fact(number) if number % 4 else base_says(number))
    told = measure_style_and_facts("b", given_, "exact_match", "contains")
    items = [ItemText(f"i{number:02}", "?", None, [fact(number)]) for number in range(N)]
    pair = compare("b", given_, items).difference("student", "base")
    for ours, theirs in ((told.task, "exact_match"), (told.facts, "contains")):
        of_pair = pair.metrics[theirs]
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (of_pair.value, of_pair.low, of_pair.high)
        )
    assert is_clear(pair, "exact_match") and told.outcome == "learned facts"


def test_nothing_is_said_without_all_three_or_without_grades():
    given_ = planted(style_alone)
    assert (
        measure_style_and_facts("b", [a for a in given_ if a.contestant != "teacher"], "f1", "f1")
        is None
    )
    assert found(style_alone, n=1) is None
    told = measure_style_and_facts("b", given_, "f1", "f1")
    assert told.facts is told.task is None
    assert told.outcome == "no clear change"
    assert told.sentence.startswith("No item was graded for both student and base: only style is")


def test_few_items_give_no_share_of_a_way():
    told = found(style_alone, n=4)
    assert told.style is None and told.outcome == "no clear change"
    nine = found(fact, n=9)  # nine of nine: p = 0.004
    assert nine.task.low > 0.4 and nine.outcome == "no clear change"
    assert found(fact, n=10).outcome == "learned facts"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_order_repetition_and_other_contestants_change_nothing(seed):
    given_ = planted(style_alone, n=20)
    told = measure_style_and_facts("b", given_, "exact_match", "contains")
    more = [*given_, given_[seed % len(given_)], *answers("base+knn", fact, 20)]
    random.Random(seed).shuffle(more)
    assert measure_style_and_facts("b", more, "exact_match", "contains") == told


def test_choices_count_as_facts_only_where_both_name_an_option():
    def told(base_names, base_right):
        given = []
        for name in ("base", "student", "teacher"):
            for number, answer in enumerate(answers(name, str)):
                named = name != "base" or number < base_names
                right = name != "base" or number < base_right
                grades = {"accuracy": float(right), "answered": float(named)}
                given.append(replace(answer, text=f"{name[0]} {number}", grades=grades))
        return measure_style_and_facts("q", given, "accuracy", "accuracy")

    form = told(20, 20)
    assert form.outcome == "learned the task" and form.task.low > 0.3
    assert "accuracy where both name an option did not change clearly" in form.sentence
    content = told(N - 5, 15)
    assert content.outcome == "learned facts" and content.facts.low > 0.3
    assert "cannot be separated" not in content.sentence
    assert "cannot be separated" in told(N, 15).sentence
