"""Evol-Instruct: a chain of generations for each prompt, in which failed evolutions are eliminated."""

import json
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.evol_instruct import DEFAULT_OPERATIONS, OPERATIONS, EvolInstruct
from warehouse import catalog
from warehouse.errors import PlanError
from warehouse.inputs.rows import is_held_out, read_rows

MARKS = {
    "add_constraints": "condition or limit",
    "deepen": "causes, effects",
    "concretise": "more specific one",
    "add_reasoning": "several steps",
    "complicate_input": "a small table",
    "broaden": "rarer subject",
}


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def parent_in(text: str) -> str:
    """The task that a request shows."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line in ("Task:", "任务："))
    return lines[start + 1]


def is_request(text: str) -> bool:
    return "no explanation." in text or "答案和解释。" in text


def say(messages) -> str:
    text = messages[0]["content"]
    if "adds_something" in text:
        return json.dumps({"adds_something": True})
    if is_request(text):
        return f"{parent_in(text)} again"
    return f"Answer: {messages[-1]['content'][:40]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Name {n} rivers of Asia"} for n in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def recipe(**options) -> EvolInstruct:
    return EvolInstruct(**{"prompts": "prompts.jsonl"} | options)


def first(folder: Path, reply=say, **options):
    """The samples of the first prompt, and what the teacher was asked."""
    teacher = FakeTeacher(reply)
    [outcome] = run_recipe(recipe(limit=1, **options), folder, teacher)
    assert outcome.is_finished, outcome.fault
    return outcome.samples, teacher.asked


@pytest.mark.parametrize("options", [{}, {"language": "zh"}, {"operations": ["broaden"]}])
def test_it_keeps_the_contract(folder, options):
    check_recipe(recipe(**options), folder, say)


def test_each_generation_starts_from_the_one_before(folder):
    samples, asked = first(folder, generations=3)
    prompts = ["Name 0 rivers of Asia" + " again" * n for n in range(4)]
    assert [s.messages for s in samples] == [user(prompt) for prompt in prompts[1:]]
    assert [s.facts["parent"] for s in samples] == prompts[:3]
    assert [s.facts["generation"] for s in samples] == [1, 2, 3]
    assert [s.status for s in samples] == ["ok"] * 3 and len(asked) == 9
    assert samples[0].completion == "Answer: Name 0 rivers of Asia again"
    assert asked[2].messages == samples[0].messages


def test_the_operation_in_the_facts_is_the_one_asked_for_and_drawn_from_the_seed(folder):
    teacher = FakeTeacher(say)
    outcomes = run_recipe(recipe(), folder, teacher)
    requests = [r.messages[0]["content"] for r in teacher.asked]
    drawn = [s.facts["operation"] for o in outcomes for s in o.samples]
    for sample in (s for o in outcomes for s in o.samples):
        asked = [
            text
            for text in requests
            if is_request(text) and MARKS[sample.facts["operation"]] in text
        ]
        assert any(parent_in(text) == sample.facts["parent"] for text in asked)
    assert set(drawn) == set(DEFAULT_OPERATIONS)
    assert len({tuple(s.facts["operation"] for s in o.samples) for o in outcomes}) > 6


def test_complicated_input_is_drawn_where_it_is_named(folder):
    samples, asked = first(folder, operations=["complicate_input"], generations=1)
    assert samples[0].facts["operation"] == "complicate_input"
    assert MARKS["complicate_input"] in asked[0].messages[0]["content"]
    assert set(MARKS) == set(OPERATIONS)


@pytest.mark.parametrize(
    ("evolved", "why"),
    [
        ("Here is the new task: name rivers", "repeats words of the request"),
        ("#Given Prompt#: name rivers", "repeats words of the request ('given prompt')"),
        ("name 0 rivers, of asia!", "it is its parent again"),
        ("?! --", "it has no word of content"),
        ("It is the of and.", "it has no word of content"),
        ("", "the reply is empty"),
    ],
)
def test_a_failed_evolution_is_eliminated_before_it_is_judged(folder, evolved, why):
    def reply(messages):
        return evolved if is_request(messages[0]["content"]) else say(messages)

    samples, asked = first(folder, reply, generations=3)
    assert [s.status for s in samples] == ["invalid"] * 3 and why in samples[0].status_reason
    assert {s.facts["parent"] for s in samples} == {"Name 0 rivers of Asia"}
    assert len(asked) == len({s.facts["operation"] for s in samples}) == 3


def test_an_operation_that_failed_comes_again_after_all_others_with_another_draw(folder):
    def reply(messages):
        return "?!" if is_request(messages[0]["content"]) else say(messages)

    samples, asked = first(folder, reply, generations=12)
    drawn = [s.facts["operation"] for s in samples]
    assert set(drawn[:5]) == set(drawn[5:10]) == set(DEFAULT_OPERATIONS)
    assert [r.sampling.seed for r in asked] == [None] * 5 + [1] * 5 + [2] * 2


def test_words_that_the_parent_has_are_no_leak(folder):
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": "Shorten the given prompt"}))
    samples, _ = first(folder, generations=1)
    assert samples[0].status == "ok"


def test_an_evolution_without_gain_is_not_answered(folder):
    def reply(messages):
        text = messages[0]["content"]
        return json.dumps({"adds_something": False}) if "adds_something" in text else say(messages)

    samples, asked = first(folder, reply, generations=2)
    assert [s.status for s in samples] == ["invalid"] * 2
    assert len(asked) == 3  # the same evolution comes again, and is judged once
    assert (
        samples[0].status_reason
        == "the evolved prompt adds nothing to its parent, says the teacher"
    )
    assert asked[1].sampling.response_format["json_schema"]["name"] == "Gain"


def test_a_judgement_that_does_not_parse_is_invalid_and_the_chain_goes_on(folder):
    def reply(messages):
        return "perhaps" if "adds_something" in messages[0]["content"] else say(messages)

    samples, _ = first(folder, reply, generations=2)
    assert [(s.status, s.completion) for s in samples] == [("invalid", "perhaps")] * 2
    assert "no valid reply in 2 tries" in samples[1].status_reason


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("Sorry, but this task has no data.", "refused"),
        ("He said sorry. " + "The river is long and wide. " * 20, "ok"),
        ("... , !", "invalid"),
        ("Yes, it is.", "invalid"),
        ("I cannot help with that.", "refused"),
        ("The Indus.", "ok"),
    ],
)
def test_the_answer_decides_whether_an_evolution_survives(folder, answer, status):
    def reply(messages):
        text = messages[0]["content"]
        return say(messages) if "adds_something" in text or is_request(text) else answer

    samples, _ = first(folder, reply, generations=2)
    assert samples[0].status == status and samples[0].completion == answer.strip()
    survived = samples[1].facts["parent"] == "Name 0 rivers of Asia again"
    assert survived == (status == "ok")


def test_chats_and_passages_stay_around_the_last_question(folder):
    row = {
        "messages": [*user("Hi"), {"role": "assistant", "content": "Hello"}, *user("Why?")],
        "passage": "It rained.",
    }
    (folder / "prompts.jsonl").write_text(json.dumps(row))
    samples, asked = first(folder, generations=1)
    assert [m["content"] for m in samples[0].messages[:2]] == ["Hi", "Hello"]
    assert samples[0].messages[2]["content"] == "It rained.\n\nQuestion: Why? again\nAnswer:"
    assert (samples[0].question, samples[0].passage) == ("Why? again", "It rained.")
    assert "Text:\nIt rained.\n\nTask:\nWhy?" in asked[0].messages[0]["content"]


def test_held_out_rows_and_rows_that_come_again_are_not_evolved(folder):
    rows = (folder / "prompts.jsonl").read_text()
    (folder / "prompts.jsonl").write_text(f"{rows}\n{rows}")
    seeds = list(recipe(holdout=0.5).seeds(folder, {}))
    kept = [
        row.prompt
        for row in read_rows("prompts.jsonl", folder)
        if not is_held_out(row.split_key, 0.5)
    ]
    assert [seed.value["messages"][0]["content"] for seed in seeds] == list(dict.fromkeys(kept))
    assert 0 < len(seeds) < 12
    assert [seed.order for seed in seeds] == list(range(len(seeds)))
    assert len(list(recipe(limit=2).seeds(folder, {}))) == 2


def test_a_user_s_words(folder):
    (folder / "my.j2").write_text(
        '{% extends "evol_instruct.en.j2" %}{% block deepen %}Dig.{% endblock %}'
        "{% block leaks %}again{% endblock %}"
    )
    samples, asked = first(folder, template="my.j2", operations=["deepen"], generations=1)
    assert "Dig. Use at most" in asked[0].messages[0]["content"]
    assert samples[0].status_reason.endswith("repeats words of the request ('again')")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"generations": 0}, "generations is 1 or more"),
        ({"operations": []}, "operations names one or more of add_constraints"),
        ({"operations": ["deepn"]}, "unknown operation 'deepn' (did you mean 'deepen'?)"),
        ({"holdout": 1.0}, "holdout is a share"),
        ({"limit": 0}, "limit is 1 or more"),
    ],
)
def test_wrong_options_are_faults_of_the_plan(options, said):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "evol_instruct", "prompts": "p.jsonl", **options})
    assert said in " ".join(error.value.faults)
