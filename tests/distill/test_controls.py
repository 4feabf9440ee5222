"""Controls: what a script answers, and what is said of a student that does no better."""

from dataclasses import replace
from pathlib import Path

import pytest

from datagen.recipes.imitation import Imitation
from distill.contestants.contestant import CONTROLS, Contestant, parse_contestant
from distill.contestants.context import Sources
from distill.contestants.controls import Copy, ItemParts, Majority, why_no_copy
from distill.evaluation.controls import (
    compare_with_controls,
    control_sentences,
    form_warning,
    whole_verdict,
)
from distill.evaluation.evaluate import evaluate_answers
from distill.evaluation.inputs import BenchmarkAnswers, Rules, TrainingProvenance
from distill.plan.plan import load_plan
from distill.report.report import render_html, render_markdown, to_json
from quality.benchmarks.boolq import Boolq
from quality.benchmarks.custom import Custom
from quality.benchmarks.sciq import Sciq
from quality.tasks.benchmark import Item
from tests.distill.test_evaluate import said
from tests.support.plans import scripted, write_plan, write_rows
from tests.support.reports import example_report
from warehouse.errors import PlanError
from warehouse.inputs.question_row import Row
from warehouse.records import Answer

SOURCES = Sources(Imitation(prompts="prompts.jsonl"), Path())
NAMES = ["teacher", "base", "student", "base+fewshot", *CONTROLS]


def item_with(question, passage=None, reference=("none",), choices=(), shown=True):
    text = f"{passage}\n\n{question}" if passage and shown else question
    messages = [{"role": "user", "content": text}]
    return Item("i", Row(question, messages, list(reference), passage), messages, tuple(choices))


def reply(model, benchmark, item):
    (messages,) = ItemParts(benchmark).build_messages([item], SOURCES)
    ((_, generation),) = model.answer([messages], 32, lambda n: None)
    assert (generation.cost_usd, generation.completion_tokens, generation.latency_s) == (
        0.0,
        0,
        0.0,
    )
    return generation.text if generation.abstained is None else generation


HURRICANES = (
    "A hurricane is a large storm. The centre of a hurricane is known as the eye (calm air). "
    "Hurricanes begin over warm oceans."
)


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        ("What is the centre of a hurricane called?", HURRICANES, "calm air"),
        ("Over what do hurricanes begin?", HURRICANES, "warm oceans"),
        ("Who wrote Emma?", HURRICANES, "hurricane"),  # nothing is shared: the first sentence
        ("水獭的皮毛是什么颜色？", "水獭吃鱼。水獭的皮毛多为棕褐色，很厚。", "多为棕褐"),
        ("Is it as it is?", "It is as it is.", "It is as it is."),  # no word is left
        ("What did he found?", "He found John Smith's co-operative society Ltd.",
         "John Smith's co-operative"),
    ],
)  # fmt: skip
def test_the_copied_words_are_of_the_nearest_sentence_and_not_of_the_question(
    question, passage, answer
):
    assert reply(Copy(), Sciq(), item_with(question, passage)) == answer


def test_a_copied_choice_is_a_letter_and_a_copied_number_is_not_of_the_question():
    choices = ("warm oceans", "the eye", "cold rivers")
    item = item_with("What is the centre of a hurricane?", HURRICANES, choices=choices)
    assert reply(Copy(), Sciq(form="choice"), item) == "B"
    wells = item_with(
        "How deep were the 2 wells of 1969?", "In 1969 the 2 wells were 1,300 m deep."
    )
    assert reply(Copy(), Custom(path="x.jsonl", grader="numeric"), wells) == "1300"


def test_without_a_passage_that_is_shown_nothing_is_copied():
    bare = item_with("What is the centre of a hurricane?")
    hidden = item_with("What is the centre of a hurricane?", HURRICANES, shown=False)
    for item in (bare, hidden):
        found = reply(Copy(), Sciq(), item)
        assert (found.text, found.abstained) == ("", "no passage to copy from")
        assert why_no_copy(Sciq(), [item]) == "no passage to copy from"
    seen = item_with("What is the centre of a hurricane?", HURRICANES)
    assert why_no_copy(Sciq(), [bare, seen]) is None
    assert why_no_copy(Boolq(), [seen]) == "a class cannot be copied from a passage"


def test_a_script_is_never_shown_the_reference_and_gives_no_other_answer_for_it():
    right, wrong = (
        item_with("What is the centre of a hurricane?", HURRICANES, reference=[text])
        for text in ("the eye", "UNSEEN")
    )
    parts = ItemParts(Sciq()).build_messages([right, wrong], SOURCES)
    assert parts[0] == parts[1] and "UNSEEN" not in str(parts)


@pytest.mark.parametrize(
    ("completions", "benchmark", "item", "answer"),
    [
        (["Paris.", "paris", "London", "Rome"], Sciq(), item_with("?"), "Paris."),
        (["two", "one"], Sciq(), item_with("?"), "one"),  # of equals the first in the alphabet
        (["B", "The answer is B.", "A"], Sciq(form="choice"), item_with("?", choices="xyz"), "B"),
        (["E", "E", "C"], Sciq(form="choice"), item_with("?", choices="xyz"), "C"),
        (["no idea"], Sciq(form="choice"), item_with("?", choices="xyz"), "A"),
        (["Yes, it is", "yes", "no"], Boolq(), item_with("?"), "yes"),
        (["no", "No.", "yes"], Boolq(), item_with("?"), "no"),
        (["It is 3 + 4 = 7", "7", "12"], Custom(path="x.jsonl", grader="numeric"), item_with("?"), "7"),
    ],
)  # fmt: skip
def test_the_majority_is_of_the_training_rows_in_the_form_that_is_wanted(
    completions, benchmark, item, answer
):
    assert reply(Majority(tuple(completions)), benchmark, item) == answer


def test_where_no_training_row_has_an_answer_it_is_that_of_the_worked_examples():
    item = item_with("?", choices="xyz")
    turns = [message for letter in "CAC" for message in (
        {"role": "user", "content": "??"}, {"role": "assistant", "content": letter})]  # fmt: skip
    shown = replace(item, messages=[*turns, *item.messages])
    assert reply(Majority(("no idea",)), Sciq(form="choice"), shown) == "C"
    found = reply(Majority(()), Sciq(), item_with("?"))
    assert found.text == "" and "nothing was seen" in found.abstained


def test_the_id_of_a_control_is_that_of_what_it_goes_by():
    assert Copy().contestant_id != Majority(()).contestant_id
    one, two = (Majority(rows).contestant_id for rows in (("a", "b"), ("a", "c")))
    assert one != two
    assert one == Majority(("b", "a")).contestant_id


def test_an_answer_that_is_not_given_is_no_wrong_answer(tmp_path):
    benchmark = Custom(path="held_out.jsonl")
    rows = [
        {"prompt": "What lives here?", "reference": "otters", "passage": "Here live otters."},
        {"prompt": "What lives there?", "reference": "newts"},
    ]
    write_rows(tmp_path / "held_out.jsonl", rows)
    items = list(benchmark.items(tmp_path))
    script = Contestant("control:copy", Copy(), ItemParts(benchmark), SOURCES, benchmark, "run", 32)
    given = {a.item_id: a for a in script.answer(script.questions(items), lambda n: None)}
    assert all(isinstance(answer, Answer) for answer in given.values())
    assert given[items[0].item_id].grades["exact_match"] == 1.0
    missing = given[items[1].item_id]
    assert set(missing.grades.values()) == {None}
    assert missing.abstained == "no passage to copy from"
    assert "greedy" not in script.protocol and "no reference" in script.protocol


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("control:cpy", "did you mean 'control:copy'"),
        ("control:copy+knn", "a control sees no context"),
        ("control", "unknown contestant"),
    ],
)
def test_a_wrong_control_is_told(name, message):
    with pytest.raises(ValueError, match=message):
        parse_contestant(name)


def test_a_plan_has_controls_where_it_has_a_student_and_does_not_refuse_them(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    on = ["evaluate.controls=true"]
    added = load_plan(plan, on).evaluate
    assert added.every_contestant == NAMES
    assert added.contestants == ["teacher", "base", "student"]
    assert load_plan(plan).evaluate.every_contestant == ["teacher", "base", "student"]
    for contestants, more in (
        ('["student", "control:copy"]', ["base+fewshot", "control:majority"]),
        ('["base"]', []),
        ('["base", "student+knn"]', []),  # no student to compare with them
    ):
        found = load_plan(plan, [*on, f"evaluate.contestants={contestants}"]).evaluate
        assert found.added_controls == more
    condition = 'ship={conditions = ["student >= control:copy + 0.1"]}'
    assert load_plan(plan, [*on, condition]).ship is not None
    with pytest.raises(PlanError, match="unknown control"):
        load_plan(plan, ['evaluate.contestants=["student", "control:best"]'])


def test_the_default_of_controls_gives_no_run_another_id(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    text = plan.read_text()
    given = load_plan(plan, ["evaluate.controls=true"]).plan_hash
    plan.write_text(text.replace("controls = false\n", ""))
    assert load_plan(plan).plan_hash == given
    assert load_plan(plan, ["evaluate.controls=false"]).plan_hash != given


METALS = ("quicksilver", "molybdenum", "praseodymium", "dysprosium")


def quiz(tmp_path, n=60):
    """A benchmark that copying solves three times in four, and always "molybdenum" once in four."""
    rows = [
        {
            "prompt": f"Which metal has number {i}?",
            "reference": METALS[i % 4],
            "passage": f"Rain falls often. The metal with number {i} is "
            f"{METALS[i % 4] if i % 4 < 3 else 'unquestionably rare'}.",
        }
        for i in range(n)
    ]
    write_rows(tmp_path / "held_out.jsonl", rows)
    benchmark = Custom(path="held_out.jsonl")
    return benchmark, list(benchmark.items(tmp_path))


def copied(item):
    return reply(Copy(), Sciq(), item)


def compare_student(tmp_path, student, base=lambda i: "no", fewshot=lambda i: "no", names=NAMES):
    benchmark, items = quiz(tmp_path)
    texts = {
        "student": student,
        "base": base,
        "teacher": lambda i: METALS[i % 4],
        "base+fewshot": fewshot,
        "control:copy": lambda i: copied(items[i]),
        "control:majority": lambda i: "molybdenum",
    }
    answers = [a for name in names for a in said(benchmark, items, name, texts[name])]
    return evaluate_answers(
        [BenchmarkAnswers(benchmark, "task", items, answers)],
        Rules(names, usd_per_hour=1.0),
        TrainingProvenance(),
    )


def outcomes(comparison):
    return {(r.control, r.metric): r.outcome for r in compare_with_controls(comparison)}


def test_a_student_that_copies_the_passage_is_told_so(tmp_path):
    _, items = quiz(tmp_path)
    (found,) = compare_student(tmp_path, lambda i: copied(items[i])).comparisons
    told = whole_verdict(found)
    assert "The student beats the base by 75.0 points" in told  # and yet
    assert (
        "A script without a model does as well: control:copy, which copies words of the passage, has "
        "75.0 % exact match, the student 75.0 % (95 % interval" in told
    )
    assert "The student beats a script without a model: control:majority by 50.0 points" in told
    assert outcomes(found)["control:copy", "exact_match"] == "level"
    page = replace(
        example_report(), evaluation=compare_student(tmp_path, lambda i: copied(items[i]))
    )
    for text in (render_html(page), render_markdown(page)):
        assert "A script without a model does as well" in text
    plain = to_json(page)["evaluation"]["comparisons"][0]
    first = plain["controls"][0]
    assert (first["control"], first["beaten"], first["outcome"]) == ("control:copy", False, "level")
    assert "A script without a model" in plain["verdict"]


def test_a_student_that_always_gives_the_majority_answer_is_told_so(tmp_path):
    (found,) = compare_student(tmp_path, lambda i: "molybdenum").comparisons
    told = whole_verdict(found)
    assert "A script without a model does as well: control:majority, which always gives" in told
    assert "A script without a model does better: control:copy" in told
    assert "beats both scripts" not in told and "beats a script" not in told
    assert outcomes(found)["control:majority", "exact_match"] == "level"
    assert outcomes(found)["control:copy", "exact_match"] == "behind"


def test_a_copy_of_the_base_is_told_that_examples_in_the_prompt_do_better(tmp_path):
    def base(i):
        return METALS[i % 4] if i % 3 == 0 else "no"

    def shown(i):
        return METALS[i % 4] if i % 3 else "no"

    (found,) = compare_student(tmp_path, base, base, fewshot=shown).comparisons
    told = whole_verdict(found)
    assert "No clear difference between student and base" in told
    assert (
        "The base with worked examples in its prompt, untrained, does better: base+fewshot" in told
    )
    (found,) = compare_student(tmp_path, base, base, fewshot=base).comparisons
    assert "in its prompt, untrained, does as well: base+fewshot" in whole_verdict(found)


def test_a_student_that_beats_them_all_is_told_so_once(tmp_path):
    (found,) = compare_student(tmp_path, lambda i: METALS[i % 4]).comparisons
    (sentence,) = control_sentences(found)
    assert sentence == (
        "The student beats both scripts without a model: control:copy by 25.0 points and "
        "control:majority by 75.0 points exact match."
    )
    assert set(outcomes(found).values()) == {"beaten"}


def test_a_lead_that_may_be_chance_and_one_of_the_form_alone_are_told_as_such(tmp_path):
    _, items = quiz(tmp_path)

    def slightly(i):
        return METALS[3] if i == 3 else copied(items[i])

    (found,) = compare_student(tmp_path, slightly).comparisons
    (lead, *_) = control_sentences(found)
    assert lead.startswith("A script without a model may do as well: control:copy")
    assert "the student 76.7 %, which is no clear lead (" in lead

    benchmark, items = quiz(tmp_path)
    wordy = [
        *said(benchmark, items, "student", lambda i: METALS[i % 4] if i % 4 < 3 else "no"),
        *said(benchmark, items, "control:copy", lambda i: f"it is {METALS[i % 4] if i % 4 < 3 else 'no'}"),
    ]  # fmt: skip
    (found,) = evaluate_answers(
        [BenchmarkAnswers(benchmark, "task", items, wordy)], Rules(["student", "control:copy"])
    ).comparisons
    (form,) = control_sentences(found)
    assert form.startswith(
        "A script without a model does as well by containment, though not by the headline"
    )


def against_copy(tmp_path, student, control):
    """The one sentence on a student and `control:copy`, and its outcomes, headline and content."""
    benchmark, items = quiz(tmp_path)
    answers = [
        *said(benchmark, items, "student", student),
        *said(benchmark, items, "control:copy", control),
    ]
    (found,) = evaluate_answers(
        [BenchmarkAnswers(benchmark, "task", items, answers)], Rules(["student", "control:copy"])
    ).comparisons
    (sentence,) = control_sentences(found)
    return sentence, [result.outcome for result in compare_with_controls(found)]


def test_two_zeros_an_equal_score_and_a_better_one_are_three_sentences(tmp_path):
    def right(first, last):
        return lambda i: METALS[i % 4] if first <= i < last else "no"

    zero, outcomes = against_copy(tmp_path, right(0, 0), right(0, 0))
    assert zero.startswith(
        "A script without a model and the student both score 0: control:copy, which copies words of "
        "the passage, has 0.0 % exact match, the student 0.0 % (95 % interval"
    )
    assert outcomes == ["zero", "zero"]
    level, outcomes = against_copy(tmp_path, right(0, 12), right(6, 18))
    assert level.startswith("A script without a model does as well: control:copy, which")
    assert "has 20.0 % exact match, the student 20.0 % (" in level
    assert outcomes == ["level", "level"]
    better, outcomes = against_copy(tmp_path, right(0, 12), right(6, 19))
    assert better.startswith("A script without a model does better: control:copy, which copies")
    assert "has 21.7 % exact match, the student 20.0 %, which may be chance (95 %" in better
    assert outcomes == ["trailing", "trailing"]
    clearly, outcomes = against_copy(tmp_path, right(0, 12), right(0, 40))
    assert "does better: control:copy" in clearly and "chance" not in clearly
    assert outcomes == ["behind", "behind"]


def test_where_both_score_0_by_the_headline_the_content_is_told(tmp_path):
    told, outcomes = against_copy(
        tmp_path, lambda i: "no", lambda i: f"it is {METALS[i % 4]}" if i < 30 else "no"
    )
    assert told.startswith(
        "A script without a model does better by containment, where both score 0 by the headline: "
        "control:copy, which copies words of the passage, has 50.0 % containment, the student 0.0 % ("
    )
    assert outcomes == ["zero", "behind"]


def test_of_nine_items_nothing_is_said(tmp_path):
    benchmark, items = quiz(tmp_path, 9)
    answers = [a for name in ("student", "base", "control:copy")
               for a in said(benchmark, items, name, lambda i: "molybdenum")]  # fmt: skip
    (found,) = evaluate_answers(
        [BenchmarkAnswers(benchmark, "task", items, answers)], Rules(["student", "base"])
    ).comparisons
    assert found.difference("student", "control:copy").n == 9
    assert compare_with_controls(found) == [] and control_sentences(found) == []


def test_headline_and_content_stand_side_by_side(tmp_path):
    found = compare_student(
        tmp_path, lambda i: METALS[i % 4], lambda i: f"It is {METALS[i % 4]}, I think"
    )
    (comparison,) = found.comparisons
    assert comparison.metrics == ["exact_match", "contains", "f1"]
    assert (
        "By exact match, and by containment (a right answer in any form): student 100.0 % and 100.0 %, "
        "base 0.0 % and 100.0 %, teacher 100.0 % and 100.0 %." in whole_verdict(comparison)
    )


def test_a_base_without_a_point_by_its_form_alone_is_a_warning(tmp_path):
    def wordy(i):
        return f"It is {METALS[i % 4]}, I think" if i % 2 else "no idea"

    found = compare_student(tmp_path, lambda i: METALS[i % 4], wordy)
    line = (
        "The base scores 0 by exact match because of the form of its answers: by containment it has "
        "50.0 %."
    )
    assert form_warning(found.comparisons[0]) == [line]
    assert line in render_markdown(replace(example_report(), evaluation=found))
    for base in (
        lambda i: "no idea",  # wrong by both
        lambda i: METALS[i % 4] if i % 2 else "no idea",  # right in the right form
        lambda i: f"It is {METALS[i % 4]}" if i == 1 else "no idea",  # one item is no evidence
    ):
        (comparison,) = compare_student(tmp_path, lambda i: METALS[i % 4], base).comparisons
        assert form_warning(comparison) == []


def test_a_control_has_no_price_and_is_no_rival_for_money(tmp_path):
    found = compare_student(tmp_path, lambda i: METALS[i % 4])
    priced = {line.contestant for line in found.economics}
    assert priced == {"teacher", "base", "student", "base+fewshot"}
    assert {line.against for line in found.break_even} == priced - {"student"}


def test_who_is_not_asked_has_not_failed(tmp_path):
    benchmark, items = quiz(tmp_path, 12)
    answers = said(benchmark, items, "student", lambda i: METALS[i % 4])
    board = BenchmarkAnswers(benchmark, "task", items, answers, {"control:copy"})
    (found,) = evaluate_answers([board], Rules(["student", "control:copy"])).comparisons
    assert [standing.contestant for standing in found.standings] == ["student"]
    asked = replace(board, left_out=())
    (found,) = evaluate_answers([asked], Rules(["student", "control:copy"])).comparisons
    assert "control:copy failed on 12 of 12 items" in " ".join(found.notes)
