"""From answers to findings, also where the answers are bad: planted students and bad input."""

from dataclasses import replace

import pytest

from distill.evaluation.evaluate import evaluate_answers
from distill.evaluation.inputs import BenchmarkAnswers, Rules, TrainingProvenance
from distill.evaluation.verdict import verdict
from distill.report.report import render_html, render_markdown
from quality.benchmarks.custom import Custom
from tests.distill.test_compare import answer
from tests.support.plans import write_rows
from tests.support.reports import example_report
from warehouse.errors import DataError

NAMES = ("teacher", "base", "student")


def world(tmp_path, n=40, reference=True):
    """A benchmark of n items whose answer is its number."""
    rows = [{"prompt": f"Which gas has number {i}?", "reference": f"gas {i}"} for i in range(n)]
    if not reference:
        for row in rows[1:]:
            del row["reference"]
    write_rows(tmp_path / "held_out.jsonl", rows)
    benchmark = Custom(path="held_out.jsonl")
    return benchmark, list(benchmark.items(tmp_path))


def said(benchmark, items, name, text):
    """What a contestant says to each item; None: it failed."""
    made = []
    for i, item in enumerate(items):
        if (words := text(i)) is None:
            continue
        grade = benchmark.grade(item, words)
        made.append(
            answer(name, i, None, words, item_id=item.item_id, benchmark=benchmark.label,
                   grades=grade.values, abstained=grade.abstained, details=grade.details)
        )  # fmt: skip
    return made


def judged(benchmark, items, role="task", **texts):
    answers = [one for name, text in texts.items() for one in said(benchmark, items, name, text)]
    found = evaluate_answers(
        [BenchmarkAnswers(benchmark, role, items, answers)], Rules(NAMES), TrainingProvenance()
    )
    page = render_html(replace(example_report(), evaluation=found))
    return found, page, render_markdown(replace(example_report(), evaluation=found))


def teacher(i):
    return f"The answer is:\n- gas {i}\n- It is certainly of essential importance. In fact, it must be."


def test_a_student_that_copies_format_and_not_answers_learned_style_only(tmp_path):
    benchmark, items = world(tmp_path)
    found, page, text = judged(
        benchmark,
        items,
        teacher=teacher,
        base=lambda i: f"gas {i}" if i % 8 == 0 else "perhaps a gas",
        student=lambda i: teacher(i if i % 8 == 0 else 900 + i),
    )
    (style,) = found.style
    assert style.outcome == "learned style only"
    assert style.style.low > 0.5
    assert "learned style only" in page and "learned style only" in text


def test_three_items_claim_nothing(tmp_path):
    benchmark, items = world(tmp_path, 3)
    found, page, text = judged(
        benchmark,
        items,
        teacher=lambda i: f"gas {i}",
        base=lambda i: "no",
        student=lambda i: f"gas {i}",
    )
    (comparison,) = found.comparisons
    assert "too few to show a difference; no significance is claimed" in comparison.notes[0]
    assert "beats" not in verdict(comparison) and "no significance" in page + text
    assert found.style[0].outcome == "no clear change"


def test_items_without_answers_are_abstained_on_and_counted(tmp_path):
    benchmark, items = world(tmp_path, 12, reference=False)
    found, page, _ = judged(benchmark, items, **{name: lambda i: f"gas {i}" for name in NAMES})
    (comparison,) = found.comparisons
    assert {(s.graded, s.abstained, s.failed) for s in comparison.standings} == {(1, 11, 0)}
    told = "answers that could not be graded: 11 of teacher, 11 of base, 11 of student, of 12 items"
    assert any(note.startswith(told) for note in comparison.notes)
    assert "could not be graded" in page


def test_where_nothing_can_be_graded_nothing_is_claimed(tmp_path):
    benchmark, items = world(tmp_path, 12, reference=False)
    found, page, text = judged(benchmark, items[1:], **{name: lambda i: "gas" for name in NAMES})
    (comparison,) = found.comparisons
    assert "none of student's 11 answers could be graded" in comparison.notes
    assert comparison.standing("student").metrics == {}
    assert "nan" not in (page + text).lower().replace("finance", "")


def test_a_student_that_says_nothing_is_told(tmp_path):
    benchmark, items = world(tmp_path)
    found, page, _ = judged(
        benchmark,
        items,
        teacher=lambda i: f"gas {i}",
        base=lambda i: f"gas {i}",
        student=lambda i: " ",
    )
    (comparison,) = found.comparisons
    assert "student gave an empty answer to 40 of 40 items" in comparison.notes
    assert "is worse than the base" in verdict(comparison)
    assert found.style[0].outcome == "collapsed"
    assert found.style[0].sentence.startswith("The student's answers collapsed: 40 of 40 are empty")
    assert "gave an empty answer to 40 of 40 items" in page


def test_who_failed_on_half_is_compared_on_the_common_items_and_that_is_said(tmp_path):
    benchmark, items = world(tmp_path)
    found, page, _ = judged(
        benchmark,
        items,
        teacher=lambda i: None if i % 2 else f"gas {i}",
        base=lambda i: "no",
        student=lambda i: f"gas {i}",
    )
    (comparison,) = found.comparisons
    assert comparison.difference("student", "teacher").n == comparison.common == 20
    assert comparison.difference("student", "base").n == 40
    assert "all contestants were graded on 20 of 40 items" in comparison.notes
    assert "teacher failed on 20 of 40 items" in page


def test_an_item_that_stands_twice_is_asked_once(tmp_path):
    rows = [{"prompt": f"Which gas has number {i % 5}?", "reference": "a gas"} for i in range(15)]
    write_rows(tmp_path / "held_out.jsonl", rows)
    assert len(list(Custom(path="held_out.jsonl").items(tmp_path))) == 5


def test_a_file_without_any_answer_is_no_benchmark(tmp_path):
    write_rows(tmp_path / "held_out.jsonl", [{"prompt": f"Which gas is {i}?"} for i in range(5)])
    with pytest.raises(DataError, match="nothing can be graded"):
        list(Custom(path="held_out.jsonl").items(tmp_path))


def test_agreement_is_with_the_teacher_right_or_wrong(tmp_path):
    benchmark, items = world(tmp_path, 20)
    found, _, _ = judged(
        benchmark,
        items,
        teacher=lambda i: "Xenon",
        base=lambda i: f"gas {i}",
        student=lambda i: "xenon." if i < 15 else "argon",
    )
    agreed = {line.contestant: line.agreement.value for line in found.agreement}
    assert agreed == {"base": 0.0, "student": 0.75}


def test_where_nothing_was_said_there_is_nothing_to_agree_on(tmp_path):
    benchmark, items = world(tmp_path, 20)
    found, _, _ = judged(
        benchmark, items,
        teacher=lambda i: " " if i < 15 else "xenon",
        base=lambda i: " ",
        student=lambda i: " " if i < 15 else "Xenon",
    )  # fmt: skip
    agreed = {line.contestant: (line.n, line.agreement.value) for line in found.agreement}
    assert agreed == {"base": (5, 0.0), "student": (5, 1.0)}


def test_what_was_learned_says_what_the_verdict_says_after_holm_too(tmp_path):
    """Of one benchmark alone p is 0.022; of three it is 0.067, and nothing is learned."""
    rows = [
        {"prompt": f"Which is {i}?", "reference": "red", "choices": ["red", "blue"]}
        for i in range(60)
    ]
    write_rows(tmp_path / "held_out.jsonl", rows)
    of_choice = [Custom(path="held_out.jsonl", name=f"choice {n}") for n in range(3)]
    write_rows(tmp_path / "text.jsonl", [{k: r[k] for k in ("prompt", "reference")} for r in rows])
    of_text = [Custom(path="text.jsonl", name=f"text {n}") for n in range(3)]

    def outcomes(benchmarks, right, wrong):
        told = []
        for benchmark in benchmarks:
            items = list(benchmark.items(tmp_path))
            given = [
                *said(benchmark, items, "teacher", lambda i: right),
                *said(benchmark, items, "base", lambda i: right if 11 <= i < 40 else wrong),
                *said(benchmark, items, "student", lambda i: right if i < 38 else wrong),
            ]
            told.append(BenchmarkAnswers(benchmark, "task", items, given))
        found = evaluate_answers(told, Rules(NAMES), TrainingProvenance())
        return [
            (line.outcome, verdict(c))
            for line, c in zip(found.style, found.comparisons, strict=True)
        ]

    for benchmarks, right, wrong in (
        (of_choice, "The answer is A", "The answer is B"),
        (of_text, "I am sure that it is red.", "It may be blue."),
    ):
        ((alone, _),) = outcomes(benchmarks[:1], right, wrong)
        assert alone == "learned facts"
        for outcome, told in outcomes(benchmarks, right, wrong):
            assert outcome != "learned facts"
            assert "No clear difference" in told


def test_classes_have_precision_recall_and_f1(tmp_path):
    rows = [{"prompt": f"Is {i} even?", "reference": "no" if i % 2 else "yes"} for i in range(20)]
    write_rows(tmp_path / "held_out.jsonl", rows)
    benchmark = Custom(path="held_out.jsonl", grader="class", classes=["yes", "no"])
    items = list(benchmark.items(tmp_path))
    found, page, text = judged(
        benchmark,
        items,
        teacher=lambda i: "no" if i % 2 else "yes",
        base=lambda i: "yes",
        student=lambda i: "perhaps" if i < 4 else "no" if i % 2 else "yes",
    )
    lines = {(line.contestant, line.label): line for line in found.classes}
    assert (lines["base", "yes"].precision, lines["base", "yes"].recall) == (0.5, 1.0)
    assert (lines["base", "no"].precision, lines["base", "no"].recall) == (None, 0.0)
    assert lines["teacher", "macro"].f1 == 1.0
    assert (lines["student", "no"].precision, lines["student", "no"].recall) == (1.0, 0.8)
    assert "By class" in page and "## By class" in text
