"""Explanations under weighted instructions."""

import json
from collections import Counter
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.explain import Explain, System
from distill.plan.plan import load_plan
from warehouse import catalog
from warehouse.errors import DataError, PlanError
from warehouse.inputs.rows import read_rows

ANSWER = "Ice floats because water expands when it freezes, so it is lighter."
ROWS = [
    {"prompt": f"Why is it {n}?", "passage": f"It is {n}.", "reference": "so"} for n in range(40)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    return tmp_path


def explained(folder, recipe, answer=ANSWER, **options):
    fake = FakeTeacher(lambda messages: answer, **options)
    outcomes = run_recipe(recipe, folder, fake, few=40)
    return [sample for outcome in outcomes for sample in outcome.samples], fake


@pytest.mark.parametrize(
    "options", [{}, {"student_sees_system": True}, {"language": "zh", "min_words": 0}]
)
def test_it_does_what_every_recipe_does(folder, options):
    (sample,) = check_recipe(Explain("rows.jsonl", **options), folder, [ANSWER])
    assert (sample.status, sample.completion) == ("ok", ANSWER)


def test_the_instruction_is_drawn_for_each_row_and_stands_in_the_facts(folder):
    samples, fake = explained(folder, Explain("rows.jsonl"))
    systems = Counter(sample.facts["system"] for sample in samples)
    assert len(samples) == 40 and len(systems) > 4
    told = {request.messages[0]["content"] for request in fake.asked}
    assert told == set(systems)
    assert all(sample.messages[0]["role"] == "user" for sample in samples)


def test_weights_say_how_often_an_instruction_is_drawn(folder):
    systems = [System("Be plain.", 3), System("Be long.", 1), System("Never.", 0)]
    samples, _ = explained(folder, Explain("rows.jsonl", systems=systems))
    counts = Counter(sample.facts["system"] for sample in samples)
    assert set(counts) == {"Be plain.", "Be long."} and counts["Be plain."] > counts["Be long."] > 3


def test_the_student_sees_the_instruction_where_it_is_told_to(folder):
    recipe = Explain("rows.jsonl", student_sees_system=True, student_sees_passage=False)
    samples, _ = explained(folder, recipe)
    for sample in samples:
        assert sample.messages == [
            {"role": "system", "content": sample.facts["system"]},
            {"role": "user", "content": sample.question},
        ]


def test_a_system_message_of_the_row_follows_in_the_same_message(tmp_path):
    chat = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Why?"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": chat}))
    systems = [System("Explain.")]
    for sees, shown in ((False, "Be a pirate."), (True, "Explain.\n\nBe a pirate.")):
        recipe = Explain("rows.jsonl", systems=systems, student_sees_system=sees)
        [sample], fake = explained(tmp_path, recipe)
        assert fake.asked[0].messages == [
            {"role": "system", "content": "Explain.\n\nBe a pirate."}, chat[1],
        ]  # fmt: skip
        assert sample.messages == [{"role": "system", "content": shown}, chat[1]]
        assert sample.facts["system"] == "Explain."


def test_short_and_declined_answers_say_why(folder):
    samples, _ = explained(folder, Explain("rows.jsonl"), "Because it is so.")
    assert {s.status_reason for s in samples} == {"fewer words than min_words = 10"}
    samples, _ = explained(folder, Explain("rows.jsonl"), "I cannot help with that.")
    assert {s.status for s in samples} == {"refused"} and samples[0].facts["system"]


def test_chinese_and_a_template_of_the_user(folder):
    samples, _ = explained(folder, Explain("rows.jsonl", language="zh"))
    assert any("一步一步" in sample.facts["system"] for sample in samples)
    assert "问题：" in samples[0].messages[0]["content"]
    (folder / "my.j2").write_text(
        "{% block systems %}\n2: Denke laut.\n0.5：Kurz.\n\n{% endblock %}"
    )
    recipe = Explain("rows.jsonl", language="de", template="my.j2")
    samples, _ = explained(folder, recipe)
    assert {sample.facts["system"] for sample in samples} == {"Denke laut.", "Kurz."}
    for text, message in (("Denke laut.", "write each as 'weight: instruction'"), ("", "one or")):
        (folder / "bad.j2").write_text(f"{{% block systems %}}{text}{{% endblock %}}")
        with pytest.raises(DataError, match=message):
            list(Explain("rows.jsonl", template="bad.j2").ask_all(folder))
        (folder / "bad.j2").unlink()
        from datagen import wording

        wording._load.cache_clear()


def test_held_out_rows_are_never_asked_and_the_teacher_is_shown_its_instruction(folder):
    recipe = Explain("rows.jsonl", holdout=0.5)
    held = [row.prompt for row in read_rows("rows.jsonl", folder, "held_out", 0.5)]
    _, fake = explained(folder, recipe)
    text = json.dumps([request.messages for request in fake.asked])
    assert held and fake.asked and not any(question in text for question in held)
    (row, *_) = read_rows("rows.jsonl", folder)
    assert recipe.context(row, folder) == recipe.ask_row(row, folder).messages[:1]


def test_a_plan_gives_systems_with_weights(folder):
    (folder / "plan.toml").write_text(
        'name = "x"\nteacher = "scripted"\n[[datagen.recipe]]\nuse = "explain"\nprompts = "rows.jsonl"\n'
        'systems = [{ text = "Step by step.", weight = 2 }, { text = "Like a child." }]\n'
    )
    plan = load_plan(folder / "plan.toml")
    (recipe,) = plan.datagen.recipe
    assert recipe.systems == [System("Step by step.", 2.0), System("Like a child.", 1.0)]
    assert catalog.options_of(recipe)["systems"][1] == {"text": "Like a child.", "weight": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": []}, "systems are one or more"),
        ({"systems": [{"text": " "}]}, "none with an empty text"),
        ({"systems": [{"text": "a", "weight": 0}]}, "weights are 0 or more, and not all"),
        ({"systems": [{"text": "a", "weight": -1}]}, "weights are 0 or more"),
        ({"systems": [{"text": "a", "wait": 1}]}, "Unexpected keyword argument"),
        ({"min_words": -1}, "min_words is 0 or more"),
        ({"holdout": 1.0}, "holdout is a share"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "explain", "prompts": "rows.jsonl", **options})
    assert message in error.value.faults[0]
