"""Draft, critique, revision."""

import json
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.critique import Critique
from warehouse import catalog
from warehouse.errors import PlanError
from warehouse.inputs.rows import read_rows

PRINCIPLES = ["It should be short.", "It should be kind.", "It should name its source."]
ROWS = [{"prompt": f"Why {n}?", "passage": f"It is {n}."} for n in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    return tmp_path


def step_of(messages) -> str:
    last = messages[-1]["content"]
    if last.startswith("Check your last answer"):
        return "critique"
    return "revise" if last.startswith("Now write the answer") else "draft"


def say(messages) -> str:
    """A draft, a critique of the answer it follows, a revision that counts the rounds."""
    step = step_of(messages)
    answer = next((m["content"] for m in messages if m["role"] == "assistant"), "")
    if step == "draft":
        return "Because."
    return f"'{answer}' is rude." if step == "critique" else f"{answer} Please."


def first(folder, answer=say, **options):
    fake = FakeTeacher(answer)
    recipe = Critique("rows.jsonl", **{"constitution": PRINCIPLES, **options})
    [outcome] = run_recipe(recipe, folder, fake, few=1)
    assert outcome.fault is None
    [sample] = outcome.samples
    return sample, fake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rounds": 2, "principles": "all"},
        {"language": "zh", "student_sees_passage": False},
        {"constitution": ["One."], "rounds": 3},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    recipe = Critique("rows.jsonl", **{"constitution": PRINCIPLES, **options})
    (sample,) = check_recipe(recipe, folder, lambda messages: f"reply {len(messages)}")
    assert sample.status == "ok" and sample.completion.startswith("reply")


def test_the_revision_is_learned_and_the_draft_is_rejected(folder):
    sample, fake = first(folder)
    assert (sample.completion, sample.status) == ("Because. Please.", "ok")
    assert sample.facts["rejected"] == sample.facts["draft"] == "Because."
    assert sample.facts["critiques"] == ["'Because.' is rude."]
    [[principle]] = sample.facts["principles"]
    assert principle in PRINCIPLES
    assert [step_of(request.messages) for request in fake.asked] == ["draft", "critique", "revise"]
    assert f"- {principle}" in fake.asked[1].messages[-1]["content"]
    assert [m["role"] for m in fake.asked[2].messages] == ["user", "assistant"] * 2 + ["user"]
    assert sample.call_ids[-1] == fake.asked[2].call_id
    assert sample.messages[0]["content"].startswith("It is 0.\n\nQuestion: Why 0?")


def test_each_round_revises_the_last_revision_by_another_principle(folder):
    sample, fake = first(folder, rounds=4, student_sees_passage=False)
    assert sample.completion == "Because." + " Please." * 4
    assert sample.facts["rejected"] == "Because."
    assert sample.facts["critiques"][1] == "'Because. Please.' is rude."
    drawn = [principle for [principle] in sample.facts["principles"]]
    assert set(drawn[:3]) == set(PRINCIPLES) and drawn[3] == drawn[0]
    assert len(fake.asked) == 9 and max(len(request.messages) for request in fake.asked) == 5
    assert sample.messages == [{"role": "user", "content": "Why 0?"}]


def test_all_principles_are_given_at_once_where_wanted(folder):
    sample, fake = first(folder, principles="all")
    assert sample.facts["principles"] == [PRINCIPLES]
    asked = fake.asked[1].messages[-1]["content"]
    assert asked.splitlines()[:4] == [
        "Check your last answer by these principles:", *(f"- {text}" for text in PRINCIPLES)
    ]  # fmt: skip


def test_rows_draw_other_principles(folder):
    fake = FakeTeacher(say)
    recipe = Critique("rows.jsonl", constitution=PRINCIPLES)
    samples = [s for outcome in run_recipe(recipe, folder, fake) for s in outcome.samples]
    assert {s.facts["principles"][0][0] for s in samples} == set(PRINCIPLES)


def test_a_revision_that_changes_nothing_rejects_nothing(folder):
    texts = {"draft": "The  same.", "critique": "Fine.", "revise": "The same."}
    sample, _ = first(folder, lambda messages: texts[step_of(messages)])
    assert sample.status == "ok" and "rejected" not in sample.facts


@pytest.mark.parametrize("echo", ["It should be  short.", "Too long."])
def test_a_revision_that_repeats_what_was_said_of_the_draft_is_invalid(folder, echo):
    texts = {"draft": "Because.", "critique": "Too long.", "revise": echo}
    sample, _ = first(
        folder, lambda messages: texts[step_of(messages)], constitution=[PRINCIPLES[0]]
    )
    assert sample.status_reason == "revision 1: it repeats the critique or a principle"
    assert "rejected" not in sample.facts


@pytest.mark.parametrize(
    ("step", "reason", "calls"),
    [
        ("draft", "the draft: the teacher declined to answer", 1),
        ("critique", "critique 1: the teacher declined to answer", 2),
        ("revise", "revision 1: the teacher declined to answer", 3),
    ],
)
def test_a_step_that_fails_ends_the_seed_with_its_reason(folder, step, reason, calls):
    def declining(messages):
        return "I cannot help with that." if step_of(messages) == step else say(messages)

    sample, fake = first(folder, declining, rounds=2)
    assert (sample.status, sample.status_reason) == ("refused", reason)
    assert len(fake.asked) == calls and "rejected" not in sample.facts


def test_held_out_rows_are_never_asked(folder):
    held = [row.prompt for row in read_rows("rows.jsonl", folder, "held_out", 0.5)]
    fake = FakeTeacher(say)
    run_recipe(Critique("rows.jsonl", constitution=PRINCIPLES, holdout=0.5), folder, fake)
    text = json.dumps([request.messages for request in fake.asked])
    assert held and fake.asked and not any(question in text for question in held)


def test_a_template_of_the_user(folder):
    (folder / "my.j2").write_text(
        '{% extends "critique.en.j2" %}{% block critique %}Faults? {{ principles | join(" ") }}{% endblock %}'
    )
    _, fake = first(folder, lambda messages: "x", template="my.j2", constitution=["Be brief."])
    assert fake.asked[1].messages[-1]["content"] == "Faults? Be brief."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "constitution is a list of one or more principles"),
        ({"constitution": ["a", " "]}, "constitution is a list"),
        ({"constitution": ["a"], "rounds": 0}, "rounds is 1 or more"),
        ({"constitution": ["a"], "principles": "two"}, "'one' or 'all'"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "critique", "prompts": "rows.jsonl", **options})
    assert message in error.value.faults[0]
