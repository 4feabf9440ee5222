"""Prompts by persona: an even design of topics, personas and attributes, declared in the plan."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.persona import Persona
from warehouse import catalog
from warehouse.errors import DataError, PlanError

TOPICS = ["cooking", "travel", "tax"]
PERSONAS = ["a nurse", "a farmer"]


def say(messages) -> str:
    text = messages[-1]["content"]
    if "Write this message" in text or "写这条消息" in text:
        return f"How do I begin with {' and '.join(text.splitlines()[:2])}?"
    return f"Begin here: {text[:40]}"


def recipe(**options) -> Persona:
    return Persona(**{"topics": TOPICS, "personas": PERSONAS, "number": 12} | options)


def values(made: Persona, folder: Path = Path(), number: int = 100) -> list[dict]:
    return [seed.value for seed in islice(made.seeds(folder, {}), number)]


@pytest.mark.parametrize(
    "options",
    [{}, {"language": "zh"}, {"personas": None}, {"topics": None, "attributes": {"tone": ["dry"]}}],
)
def test_it_keeps_the_contract(tmp_path, options):
    check_recipe(recipe(**options), tmp_path, say)


def test_levels_are_used_as_evenly_as_their_weights_say():
    attributes = {"difficulty": ["easy", "hard"], "length": {"short": 2, "long": 1}}
    made = values(recipe(attributes=attributes, number=36))
    assert Counter(value["topic"] for value in made) == dict.fromkeys(TOPICS, 12)
    assert Counter(value["persona"] for value in made) == dict.fromkeys(PERSONAS, 18)
    lengths = Counter(value["attributes"]["length"] for value in made)
    assert lengths == {"short": 24, "long": 12}
    pairs = Counter((value["topic"], value["persona"]) for value in made)
    assert set(pairs.values()) == {6}
    hard = Counter(v["topic"] for v in made if v["attributes"]["difficulty"] == "hard")
    assert set(hard.values()) == {6}


def test_each_combination_is_asked_once_before_one_comes_again():
    made = values(recipe())
    assert [value["repetition"] for value in made] == [0] * 6 + [1] * 6
    combinations = {(value["topic"], value["persona"]) for value in made[:6]}
    assert len(combinations) == 6


def test_a_repetition_is_another_draw_of_the_same_request(tmp_path):
    teacher = FakeTeacher(say)
    run_recipe(recipe(), tmp_path, teacher)
    requests = [r for r in teacher.asked if "Write this message" in r.messages[0]["content"]]
    assert Counter(r.sampling.seed for r in requests) == {None: 6, 1: 6}
    assert len({r.messages[0]["content"] for r in requests}) == 6


def test_without_a_number_the_design_goes_on_until_the_target():
    made = values(recipe(number=None, target=5), number=1000)
    assert len(made) == 1000
    assert values(recipe(number=7)) == made[:7]


def test_the_persona_writes_and_the_student_sees_the_prompt_alone(tmp_path):
    teacher = FakeTeacher(say)
    attributes = {"reading_level": ["a child of ten"]}
    [outcome] = run_recipe(recipe(number=1, attributes=attributes), tmp_path, teacher)
    [sample] = outcome.samples
    request = teacher.asked[0].messages[0]["content"]
    assert request.startswith("You are a nurse.") and "Topic: cooking" in request
    assert "Reading level: a child of ten" in request
    assert teacher.asked[1].messages == sample.messages
    assert sample.completion.startswith("Begin here: How do I begin with")
    assert sample.facts == {
        "topic": "cooking", "persona": "a nurse", "attributes": {"reading_level": "a child of ten"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "status", "why"),
    [
        ("", "invalid", "the prompt: the reply is empty"),
        ("I can't help with that.", "refused", "the prompt: "),
        (
            "One question or one request: hi",
            "invalid",
            "the prompt: it repeats words of the request",
        ),
    ],
)
def test_a_prompt_that_was_not_written_is_not_answered(tmp_path, written, status, why):
    teacher = FakeTeacher(lambda messages: written)
    [outcome] = run_recipe(recipe(number=1), tmp_path, teacher)
    [sample] = outcome.samples
    assert sample.status == status and sample.status_reason.startswith(why)
    assert len(teacher.asked) == 1 and sample.facts["topic"] == "cooking"


def test_values_from_files_have_their_weights(tmp_path):
    (tmp_path / "topics.txt").write_text("cooking\n\n travel \n")
    (tmp_path / "personas.csv").write_text("persona,weight\na nurse,3\na farmer,\n")
    rows = [{"value": "easy", "weight": 1}, {"value": "hard", "weight": 2}]
    (tmp_path / "levels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = recipe(
        topics="topics.txt", personas="personas.csv", attributes={"level": "levels.jsonl"},
        number=24,
    )  # fmt: skip
    found = values(made, tmp_path)
    assert Counter(value["topic"] for value in found) == {"cooking": 12, "travel": 12}
    assert Counter(value["persona"] for value in found) == {"a nurse": 18, "a farmer": 6}
    assert Counter(v["attributes"]["level"] for v in found) == {"easy": 8, "hard": 16}
    assert [path.name for path in made.input_files(tmp_path)] == [
        "topics.txt", "personas.csv", "levels.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.txt", None, "no data file 'gone.txt'"),
        ("empty.txt", "\n", "topic: empty.txt has no value"),
        ("t.csv", "value,weight\nx,heavy\n", "t.csv row 2: 'weight' is a number above 0"),
        ("t.csv", "value,weight\nx,-1\n", "t.csv row 2: 'weight' is a number above 0"),
        ("t.jsonl", '{"name": "x"}', "t.jsonl line 1 needs a text 'value' or 'topic'"),
    ],
)
def test_a_faulty_file_of_values_is_one_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        values(recipe(topics=name), tmp_path)


def test_a_user_s_words(tmp_path):
    (tmp_path / "my.j2").write_text(
        "{% block ask %}{{ persona }} / {{ topic }} / {{ attributes.tone }}{% endblock %}"
        "{% block leaks %}{% endblock %}"
    )
    teacher = FakeTeacher(say)
    run_recipe(recipe(number=1, template="my.j2", attributes={"tone": ["dry"]}), tmp_path, teacher)
    assert teacher.asked[0].messages[0]["content"] == "a nurse / cooking / dry"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"number": None}, "give number (of prompts), target or max_calls"),
        ({"number": 0}, "number is 1 or more"),
        ({"topics": None}, "give topics, personas or attributes to combine"),
        ({"topics": []}, "topic: give one value or more"),
        ({"topics": ["x", " "]}, "topic: no value is blank"),
        ({"topics": ["x", "x "]}, "topic: each value comes once"),
        ({"topics": {"x": 0}}, "topic: a weight is a number above 0"),
        ({"attributes": {"tone": {"dry": -1.5}}}, "tone: a weight is a number above 0"),
        ({"attributes": {"topic": ["x"]}}, "'topic' has an option of its own, topics"),
        ({"topics": 3}, "topics"),
    ],
)
def test_wrong_options_are_faults_of_the_plan(options, said):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "persona", "topics": ["x"], "number": 1, **options})
    assert said in " ".join(error.value.faults)


def test_a_plan_s_tables_and_lists_are_read():
    table = {
        "use": "persona", "topics": {"x": 1, "y": 2.5}, "target": 3,
        "attributes": {"length": {"short": 2, "long": 1}, "tone": ["dry"], "level": "levels.txt"},
    }  # fmt: skip
    made = catalog.build("recipe", table)
    assert made.topics == {"x": 1.0, "y": 2.5} and made.attributes["level"] == "levels.txt"
