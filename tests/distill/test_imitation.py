"""The contrast of broad and task-specific imitation, with planted students."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.evaluation.imitation import BROAD, NONE, TASK, contrasts_of
from distill.evaluation.inputs import BenchmarkAnswers
from distill.plan.imitation_study import (
    broad_plan,
    is_same_model,
    named_teacher,
    share_gate,
)
from distill.plan.plan import load_plan
from distill.report.study_page import Setup, Study, render_html, render_markdown
from quality.benchmarks.custom import Custom
from tests.support.broken_students import CAPITALS, answers_of, base, right, teacher, wrong
from tests.support.plans import scripted, write_plan, write_rows
from train.model.base_model import base_fingerprint
from warehouse.catalog import build
from warehouse.errors import PlanError

FITS = {name: [f"{name}, seed {seed}" for seed in range(3)] for name in (BROAD, TASK)}


def style_alone(number):
    """The teacher's form around what the base knew, which is one in three."""
    return teacher(number, right(number) if number % 3 == 0 else wrong(number))


def board(tmp_path, broad, task, name="capitals"):
    """Students of a kind by what the one of each seed says."""
    rows = [
        {"prompt": f"What is the capital of {country}?", "reference": capital}
        for country, capital in CAPITALS.items()
    ]
    write_rows(tmp_path / "held_out.jsonl", rows)
    benchmark = Custom(path="held_out.jsonl", name=name)
    items = list(benchmark.items(tmp_path))
    by_question = {item.row.prompt: item.item_id for item in items}
    ids = [by_question[row["prompt"]] for row in rows]
    says = {"teacher": teacher, NONE: base}
    says |= dict(zip(FITS[BROAD], broad, strict=True)) | dict(zip(FITS[TASK], task, strict=True))
    answers = [
        replace(answer, item_id=item_id)
        for contestant, text in says.items()
        for item_id, answer in zip(ids, answers_of(contestant, text), strict=True)
    ]
    return BenchmarkAnswers(benchmark, "task", items, answers)


def test_style_alone_and_facts_are_told_apart(tmp_path):
    (found,) = contrasts_of([board(tmp_path, [style_alone] * 3, [teacher] * 3)], FITS)
    broad, task = found.arms
    assert (broad.outcome, task.outcome) == ("learned style only", "learned facts")
    assert broad.style.low > 0.9 and broad.outcomes == "learned style only (3 of 3)"
    assert task.facts.interval.value == pytest.approx(2 / 3) and task.facts.interval.low > 0.5
    plainly, between, of_broad, of_task = found.findings
    assert plainly == (
        "Broad imitation teaches the teacher's style, and it is not shown that more answers are right; "
        "task imitation makes more of the answers right."
    )
    assert of_broad.startswith(
        "Broad imitation against the untuned base, 3 seeds: learned style only. Exact match did not"
    )
    assert "3 seeds: learned facts. " in of_task
    assert "containment rose by 66.7 points" in of_task
    assert "n = 60, hierarchical bootstrap p < 0.001" in of_task
    assert between.startswith(
        "No difference between task and broad imitation is clear in exact match (0.0 points"
    )
    assert "; task imitation is 65.0 points above broad imitation in containment (" in between


def test_one_lucky_seed_is_no_finding(tmp_path):
    """It alone gives each answer; the other two say what the base says."""
    (found,) = contrasts_of([board(tmp_path, [base] * 3, [right, base, base])], FITS)
    task = found.arms[1]
    assert task.learned[FITS[TASK][0]].outcome == "learned facts"
    assert task.outcomes == "no clear change (2 of 3), learned facts (1 of 3)"
    assert task.outcome == "no clear change"
    assert task.task.interval.value == pytest.approx(1 / 3) and task.task.interval.low < 0


def test_most_seeds_that_collapse_are_told(tmp_path):
    (found,) = contrasts_of(
        [board(tmp_path, [lambda n: ".", lambda n: "", teacher], [base] * 3)], FITS
    )
    broad = found.arms[0]
    assert broad.outcome == "collapsed" and broad.style is None
    assert "given: the student's answers collapsed: 60 of 60" in found.sentence


def class_board(tmp_path, broad, task, passages=0):
    """Questions whose answer is red or blue; the base names neither, but for every fourth item.

    Args:
        tmp_path: Of the file.
        broad: What each broad student says to (number, right colour).
        task: The same of the plan's own.
        passages: Of how many passages the items are; 0 for none.
    """
    colours = ["red", "blue"]
    rows = [
        {"prompt": f"Is thing {n} of the list red or blue?", "reference": colours[n % 2]}
        | ({"passage": f"Of passage number {n % passages} alone."} if passages else {})
        for n in range(60)
    ]
    write_rows(tmp_path / "colours.jsonl", rows)
    benchmark = Custom(path="colours.jsonl", name="colours", grader="class", classes=colours)
    items = list(benchmark.items(tmp_path))
    says = {
        "teacher": lambda n, right: right,
        NONE: lambda n, right: right if n % 4 == 0 else "It is a matter of taste.",
    }
    says |= dict(zip(FITS[BROAD], broad, strict=True)) | dict(zip(FITS[TASK], task, strict=True))
    answers = []
    for contestant, text in says.items():
        for item, row in zip(items, rows, strict=True):
            number = int(row["prompt"].split()[2])
            said = text(number, row["reference"])
            (kept,) = answers_of(contestant, lambda _, said=said: said)[:1]
            grades = benchmark.grade(item, said).values
            answers.append(
                replace(
                    kept,
                    answer_id=f"{contestant}-{number}",
                    item_id=item.item_id,
                    grades=grades,
                )
            )
    return BenchmarkAnswers(benchmark, "task", items, answers)


def answered_right(number, right):
    return right


def matter_of_taste(number, right):
    return right if number % 4 == 0 else "Who can say."


def test_to_name_a_class_where_the_base_names_none_is_form_and_not_facts(tmp_path):
    """As a run's student is read: of the classes, content is what differs where both name one."""
    given = class_board(tmp_path, [matter_of_taste] * 3, [answered_right] * 3)
    (found,) = contrasts_of([given], FITS)
    task = found.arms[1]
    assert task.task.interval.value == pytest.approx(0.75) and task.task.interval.low > 0.5
    assert task.facts.n == 15 and task.facts.interval.value == 0
    assert task.outcome == "learned the task"
    assert {line.outcome for line in task.learned.values()} == {"learned the task"}
    assert found.between_facts.n == 15 and found.between_facts.interval.value == 0
    plainly, between, _, of_task = found.findings
    assert "task imitation teaches the form that is asked for, and it is not shown" in plainly
    assert between.startswith("Task imitation is 75.0 points above broad imitation in accuracy (")
    assert "; no difference" in between and "where all name an option (0.0 points, " in between
    assert "accuracy where all name an option did not change clearly" in of_task


def test_where_no_item_is_named_by_all_content_is_unknown(tmp_path):
    def silent(number, right):
        return "Who can say."

    given = class_board(tmp_path, [silent] * 3, [answered_right] * 3)
    (found,) = contrasts_of([given], FITS)
    broad, task = found.arms
    assert broad.facts is None and found.between_facts is None
    assert broad.outcome != "learned facts" and task.outcome == "learned the task"
    assert found.between.direction == 1
    assert found.findings[1].endswith("how much of that is form and how much content is unknown.")
    assert "name an option on no item, so form and content cannot be separated" in found.findings[2]


def test_style_alone_is_said_where_hardly_any_answer_names_an_option(tmp_path):
    """The teacher's style is of all items, not of the few where base and students name one."""

    def others(number, right):
        """As many as the base, but of them only every second one."""
        return right if number % 8 in (0, 1) else "Who can say."

    given = class_board(tmp_path, [others] * 3, [answered_right] * 3)
    broad = contrasts_of([given], FITS)[0].arms[0]
    assert broad.facts.n == 8 and broad.style.low > 0 and broad.style.high <= 1
    assert {line.outcome for line in broad.learned.values()} == {"learned style only"}
    assert broad.outcome == "learned style only"


def test_items_of_one_passage_are_no_independent_evidence(tmp_path):
    students = [answered_right] * 3
    alone = contrasts_of([class_board(tmp_path, students, students)], FITS)[0].arms[1]
    shared = contrasts_of([class_board(tmp_path, students, students, 4)], FITS)[0].arms[1]
    assert shared.task.interval.value == pytest.approx(alone.task.interval.value)
    assert width(shared.task.interval) > 1.5 * width(alone.task.interval)
    assert width(shared.score) > width(alone.score)


def width(interval):
    return interval.high - interval.low


def test_p_values_are_adjusted_for_the_number_of_benchmarks(tmp_path):
    some = [lambda n: right(n) if n % 10 == 1 else base(n)] * 3
    alone = contrasts_of([board(tmp_path, [base] * 3, some)], FITS)[0].arms[1]
    boards = [board(tmp_path, [base] * 3, some, name) for name in ("one", "two", "three")]
    for found in contrasts_of(boards, FITS):
        task = found.arms[1]
        assert task.task.adjusted and not alone.task.adjusted
        assert task.task.p_value == pytest.approx(min(1.0, 3 * alone.task.p_value))
    assert len({found.comparison.benchmark for found in contrasts_of(boards, FITS)}) == 3


def test_a_student_that_failed_on_many_items_says_nothing(tmp_path):
    given = board(tmp_path, [base] * 3, [teacher] * 3)
    lost = {item.item_id for item in given.items[:20]}
    answers = [a for a in given.answers if a.contestant != FITS[TASK][1] or a.item_id not in lost]
    (found,) = contrasts_of([replace(given, answers=answers)], FITS)
    assert found.arms[1].task is None and found.arms[1].outcome == "" and found.between is None
    assert f"{FITS[TASK][1]} failed on 20 of 60 items" in found.sentence


@pytest.mark.parametrize("same_model", [True, False])
def test_the_page_says_what_the_contrast_cannot_say(tmp_path, same_model):
    contrasts = contrasts_of([board(tmp_path, [style_alone] * 3, [teacher] * 3)], FITS)
    setup = Setup(
        teacher="tiny.gguf",
        base="tiny",
        same_model=same_model,
        examples={BROAD: 4, TASK: 0},
        seeds=[0, 1, 2],
        sources={BROAD: "nq-open", TASK: "prompts.jsonl"},
        replies={BROAD: 1200, TASK: 40},
        kept={BROAD: 10, TASK: 40},
        dropped={BROAD: "1190x status: truncated", TASK: ""},
        tokens={BROAD: 90, TASK: 91},
        left_out=["grounded"],
    )
    rows = {NONE: 0, BROAD: 9, TASK: 30}
    study = Study("imitation", "run", "plan", "hash", rows, contrasts=contrasts, setup=setup)
    for page in (render_html(study), render_markdown(study)):
        assert ("Teacher and base are the same model (tiny)" in page) == same_model
        assert (
            "what its worked examples show and nothing else beyond the base" in page
        ) == same_model
        assert (
            "nq-open: 1,200 replies, 10 kept (1190x status: truncated), 9 used: "
            "90 supervised tokens an epoch; the teacher saw 4 worked examples before each" in page
        )
        assert "prompts.jsonl: 40 replies, 40 kept, 30 used: 91 supervised tokens an epoch" in page
        assert "learned style only (3 of 3)" in page
    table = render_markdown(study).split("\n\n")
    assert any(
        part.startswith("| Data | Exact match |") and part.count("\n") == 5 for part in table
    )
    assert any("| no imitation | 0.0 % (0.0 to 6.3) | – |" in part for part in table)


def plan_of(folder, more=""):
    file = write_plan(folder, scripted(folder / "log"))
    file.write_text(file.read_text() + more)
    return load_plan(str(file), ())


def test_the_gate_is_shared_but_for_what_broad_questions_lack(tmp_path):
    plan = plan_of(tmp_path)
    write_rows(
        tmp_path / "broad.jsonl", [{"prompt": f"Name {n}.", "reference": "x"} for n in range(9)]
    )
    broad = broad_plan(plan, "broad.jsonl", 5)
    assert broad.datagen.recipe[0].limit == 5 and broad.datagen.sampling == plan.datagen.sampling
    task, other, left_out = share_gate(plan, broad)
    assert left_out == ["grounded"] and task.quality == other.quality
    assert task.quality.scorers == [] and task.quality.gate.thresholds == {}
    assert plan.quality.gate.thresholds == {"grounded_min": 1.0}  # the plan's own is what it was
    rows = [{"prompt": f"Name {n}.", "passage": f"It is {n}."} for n in range(9)]
    write_rows(tmp_path / "shown.jsonl", rows)
    task, other, left_out = share_gate(plan, broad_plan(plan, "shown.jsonl"))
    assert left_out == [] and task.quality.gate.thresholds == {"grounded_min": 1.0}
    assert broad_plan(plan, "broad.jsonl", examples=2).datagen.recipe[0].examples == 2
    with pytest.raises(PlanError, match="no references to show"):
        broad_plan(plan, "shown.jsonl", examples=2)


def test_teacher_and_base_are_compared_by_weights_or_name(tmp_path):
    asset = "smollm2-135m-instruct"
    local = build("teacher", {"use": "local_gguf", "model": asset})
    assert is_same_model(local, asset, base_fingerprint(asset))
    served = {"use": "openai_chat", "base_url": "http://127.0.0.1:1/v1", "api_key_env": None}
    of_hub = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert is_same_model(build("teacher", {**served, "model": asset}), of_hub, of_hub)
    other = build("teacher", {**served, "model": "SmolLM2-1.7B-Instruct"})
    assert not is_same_model(other, asset, base_fingerprint(asset))


def test_a_teacher_is_named_by_endpoint_asset_or_file(tmp_path):
    plan = plan_of(tmp_path, '[evaluate.endpoints.wise]\nuse = "scripted"\ndefault = "yes"\n')
    assert named_teacher(plan, "wise").default == "yes"
    assert named_teacher(plan, "smollm2-135m-instruct").model == "smollm2-135m-instruct"
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    assert named_teacher(plan, "own.gguf").model == str((tmp_path / "own.gguf").resolve())
    assert named_teacher(plan, "org/model") is None
    with pytest.raises(PlanError, match="no such file"):
        named_teacher(plan, "other.gguf")
