"""Verified traces: which draws are kept, and why others are not."""

import json
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.reasoning import Reasoning
from datagen.teacher import Reply
from distill.plan.plan import load_plan
from warehouse import catalog
from warehouse.errors import DataError, PlanError
from warehouse.inputs.rows import read_rows

ROWS = [{"prompt": f"What is {n} + {n}?", "reference": str(2 * n)} for n in range(1, 9)]
CHOICES = [
    {"prompt": f"Which is {n}?", "choices": ["zero", f"n{n}", "none"], "reference": f"n{n}"}
    for n in range(6)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    return tmp_path


def write(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> None:
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows))


class Drawing(FakeTeacher):
    """Says one text for each draw, whatever it is asked."""

    def __init__(self, *texts: str, reasoning: str | None = None, **options) -> None:
        super().__init__(lambda messages: "", **options)
        self.texts, self.reasoning = texts, reasoning

    async def stream(self, requests, budget=None):
        while (request := await requests.next()) is not None:
            self.asked.append(request)
            text = self.texts[(request.sampling.seed or 0) % len(self.texts)]
            yield Reply(request, text, self.finish_reason, reasoning=self.reasoning)


def drawn(folder, *texts, few=1, reasoning=None, **options):
    """The samples of the first rows, and the teacher that was asked."""
    fake = Drawing(*texts, reasoning=reasoning)
    recipe = Reasoning("rows.jsonl", k=len(texts), **options)
    outcomes = run_recipe(recipe, folder, fake, few)
    assert not [outcome.fault for outcome in outcomes if outcome.fault]
    return [sample for outcome in outcomes for sample in outcome.samples], fake


def right(messages):
    """The sum that is asked for, worked out."""
    number = int(messages[-1]["content"].split()[2])
    return f"{number} and {number} is {2 * number}.\nAnswer: {2 * number}"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1},
        {"check": "numeric", "keep": "shortest"},
        {"check": "agreement", "k": 3},
        {"keep": "one", "completion": "answer"},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    samples = check_recipe(Reasoning("rows.jsonl", **options), folder, right)
    assert samples[0].status == "ok" and samples[0].reference == ["2"]


def test_it_does_so_in_chinese_and_with_options(tmp_path):
    write(tmp_path, CHOICES)
    recipe = Reasoning("rows.jsonl", check="choice", language="zh", k=2)
    (sample,) = check_recipe(recipe, tmp_path, ["想一想。\n答案：B"])
    assert sample.messages == [
        {
            "role": "user",
            "content": "Which is 0?\nA. zero\nB. n0\nC. none\n请用正确选项的字母回答。",
        }
    ]
    asked = next(recipe.ask_all(tmp_path)).messages
    assert "一步一步" in asked[0]["content"] and "答案：" in asked[0]["content"]
    assert asked[1:] == sample.messages


def test_only_right_draws_are_kept_and_wrong_ones_say_why(folder):
    samples, fake = drawn(
        folder, "Long way.\nAnswer: 2", "Answer: 3", "It is 2", "2.\nAnswer: two", "I cannot help."
    )
    assert [(s.status, s.status_reason) for s in samples] == [
        ("ok", None),
        ("ok", None),
        ("invalid", "the answer is not the reference"),
        ("invalid", "no answer is announced by 'Answer:'"),
        ("refused", "the teacher declined to answer"),
    ]
    assert [s.facts["draw"] for s in samples] == [0, 3, 1, 2, 4]
    assert samples[0].facts["votes"] == {"2": 2, "3": 1}
    assert samples[0].completion == "Long way.\nAnswer: 2"
    assert samples[0].messages == [{"role": "user", "content": "What is 1 + 1?"}]
    seeds = {request.call_id: request.sampling.seed or 0 for request in fake.asked}
    assert [seeds[s.call_ids[-1]] for s in samples] == [0, 3, 1, 2, 4]


def test_the_same_text_is_one_example(folder):
    samples, fake = drawn(folder, "Answer: 2", "Answer: 2", "Answer: 3", "Answer: 3")
    assert [s.facts["draw"] for s in samples] == [0, 2] and len(fake.asked) == 4
    assert samples[0].facts["votes"] == {"2": 2, "3": 2}


@pytest.mark.parametrize(
    ("keep", "completion", "kept"),
    [
        ("all", "trace", [0, 2, 3]),
        ("shortest", "trace", [2]),
        ("one", "trace", [0]),
        ("all", "answer", [0]),
        ("shortest", "answer", [2]),
    ],
)
def test_keep_says_which_right_draws_are_learned(folder, keep, completion, kept):
    texts = ("One and one.\nAnswer: 2", "Answer: 4", "So:\nAnswer: 2", "Well, so.\nAnswer: 2")
    samples, fake = drawn(folder, *texts, keep=keep, completion=completion)
    ok = [s for s in samples if s.status == "ok"]
    assert [s.facts["draw"] for s in ok] == kept
    if completion == "answer":
        assert ok[0].completion == "2"
    if keep == "shortest":
        assert [s.status_reason for s in samples[1:]].count(
            "right, but another right draw is kept"
        ) == 2
    assert len(fake.asked) == (1 if keep == "one" else 4)


def test_drawing_stops_at_the_first_right_draw_if_one_is_wanted(folder):
    samples, fake = drawn(folder, "Answer: 3", "?", "Answer: 2", "Answer: 2", keep="one")
    assert len(fake.asked) == 3
    assert [(s.facts["draw"], s.status) for s in samples] == [
        (2, "ok"), (0, "invalid"), (1, "invalid"),
    ]  # fmt: skip
    assert Reasoning("x", keep="one").calls_expected == (1, 4)
    assert Reasoning("x", keep="one", check="agreement").calls_expected == (4, 4)


def test_agreement_keeps_the_majority_and_needs_no_reference(tmp_path):
    write(tmp_path, [{"prompt": "What is 3/4 in words?"}])
    texts = ("a.\nAnswer: 3/4", "b.\nAnswer: 0.75", "c.\nAnswer: 1", "d")
    samples, _ = drawn(tmp_path, *texts, check="agreement")
    assert [(s.facts["draw"], s.status_reason) for s in samples] == [
        (0, None),
        (1, None),
        (2, "most draws give another answer"),
        (3, "no answer is announced by 'Answer:'"),
    ]
    assert samples[0].facts["votes"] == {"3/4": 2, "1": 1}
    samples, _ = drawn(tmp_path, *texts, check="agreement", min_agreement=0.6)
    assert {s.status for s in samples} == {"invalid"}
    assert samples[0].status_reason == "2 of 4 draws agree, fewer than min_agreement = 0.6"


def test_the_thinking_of_a_reasoning_model_is_a_trace(folder):
    samples, _ = drawn(folder, "Answer: 2", trace="reasoning", reasoning="One more than one. ")
    assert samples[0].completion == "One more than one.\n\nAnswer: 2"
    samples, _ = drawn(folder, "Answer: 2", trace="reasoning")
    assert samples[0].status == "invalid" and "trace = 'visible'" in samples[0].status_reason


def test_a_row_without_a_reference_is_not_asked(tmp_path):
    write(tmp_path, [{"prompt": "Why?"}, {"prompt": "1?", "reference": "one thing"}])
    samples, fake = drawn(tmp_path, "Answer: 1", few=2)
    assert samples[0].status_reason == "the row has no reference to check against"
    assert len(fake.asked) == 1
    samples, fake = drawn(tmp_path, "Answer: 1", few=2, check="choice")
    assert {s.status_reason for s in samples} == {"the row has no choices to check against"}
    assert not fake.asked


def test_held_out_rows_are_never_asked(folder):
    recipe = Reasoning("rows.jsonl", holdout=0.5, k=1)
    held = [row.prompt for row in read_rows("rows.jsonl", folder, "held_out", 0.5)]
    asked = [prompt.question for prompt in recipe.ask_all(folder)]
    assert held and asked and not set(held) & set(asked)
    fake = FakeTeacher(right)
    run_recipe(recipe, folder, fake)
    text = json.dumps([request.messages for request in fake.asked])
    assert len(fake.asked) == len(asked) and not any(question in text for question in held)
    assert len(list(Reasoning("rows.jsonl", limit=3).ask_all(folder))) == 3


def test_an_option_that_asks_nothing_else_asks_nothing_again(folder):
    fake = FakeTeacher(right)
    run_recipe(Reasoning("rows.jsonl", k=2), folder, fake)
    before = len(fake.asked)
    for options in ({"keep": "shortest"}, {"check": "agreement"}, {"completion": "answer"}):
        run_recipe(Reasoning("rows.jsonl", k=2, **options), folder, fake)
    assert len(fake.asked) == before == 16


def test_the_teacher_is_shown_the_instruction_with_a_held_out_question(folder):
    (row, *_) = read_rows("rows.jsonl", folder)
    recipe = Reasoning("rows.jsonl")
    assert recipe.context(row, folder) == recipe.ask_row(row, folder).messages[:1]
    assert recipe.context(row, folder)[0]["role"] == "system"


def test_a_template_of_the_user_words_another_language(tmp_path):
    write(tmp_path, [{"prompt": "Was ist 1 + 1?", "reference": "2", "passage": "Zahlen."}])
    (tmp_path / "my.j2").write_text(
        "{% block marker %}Antwort:{% endblock %}{% block system %}Denke nach. {{ marker }}{% endblock %}"
    )
    recipe = Reasoning("rows.jsonl", template="my.j2", language="de", k=1)
    (sample,) = check_recipe(recipe, tmp_path, ["Zwei.\nAntwort: 2"])
    assert next(recipe.ask_all(tmp_path)).messages[0]["content"] == "Denke nach. Antwort:"
    assert sample.messages[0]["content"] == "Zahlen.\n\nWas ist 1 + 1?"
    with pytest.raises(DataError, match="no words in 'de'"):
        list(Reasoning("rows.jsonl", language="de").ask_all(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 1 or more"),
        ({"k": 1, "check": "agreement"}, "k is 2 or more"),
        ({"min_agreement": 1.5}, "min_agreement is a share from 0 to 1"),
        ({"limit": 0}, "limit is 1 or more"),
        ({"split": "train"}, "split 'train' needs a holdout above 0"),
        ({"columns": {"text": "t"}}, "'text' is none of them"),
        ({"check": "right"}, "Input should be 'reference', 'numeric'"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "reasoning", "prompts": "rows.jsonl", **options})
    assert message in error.value.faults[0]


def test_several_draws_need_a_temperature(folder):
    plan = folder / "plan.toml"
    text = 'name = "x"\nteacher = "scripted"\n[datagen]\nsampling = {{ temperature = {} }}\n[[datagen.recipe]]\nuse = "reasoning"\nprompts = "rows.jsonl"\nk = {}\n'
    plan.write_text(text.format(0.0, 3))
    with pytest.raises(PlanError, match="'reasoning' asks the same question 3 times"):
        load_plan(plan).require("generate")
    for temperature, k in ((0.0, 1), (0.8, 3)):
        plan.write_text(text.format(temperature, k))
        load_plan(plan).require("generate")
