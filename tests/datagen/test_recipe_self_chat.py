"""Dialogues of the teacher with itself: roles hold, the user ends them, and what slips is told."""

from __future__ import annotations

import json

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.self_chat import SelfChat
from datagen.role_faults import assistant_fault, user_fault
from warehouse import catalog
from warehouse.errors import PlanError


@pytest.fixture
def folder(tmp_path):
    rows = [{"prompt": f"What is made of {thing}?"} for thing in ("wood", "stone", "glass")]
    (tmp_path / "openers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def is_user_model(messages) -> bool:
    return "JSON" in messages[0]["content"]


class Teacher:
    """Both sides; `user` are the user's turns after the opener, then it is done."""

    def __init__(self, *user, assistant=None):
        self.user, self.assistant = user, assistant

    def __call__(self, messages) -> str:
        said = sum(message["role"] == "assistant" for message in messages)
        asked = messages[-1]["content"]
        if not is_user_model(messages):
            return self.assistant or f"Answer {said} about {asked}"
        is_fault = "cannot be used" in asked
        number = said - 1 - is_fault
        if number < len(self.user):
            return json.dumps({"message": self.user[number], "done": False})
        return json.dumps({"message": "Thanks, bye.", "done": True})


MORE = ("Why does it last so long?", "And who makes it today?", "Where can it be bought?")


def recipe(**options) -> SelfChat:
    return catalog.build("recipe", {"use": "self_chat", "prompts": "openers.jsonl", **options})


def play(folder, teacher, **options):
    fake = FakeTeacher(teacher)
    outcomes = run_recipe(recipe(**options), folder, fake)
    assert not any(outcome.fault for outcome in outcomes), outcomes[0].fault
    return [outcome.samples for outcome in outcomes], fake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"examples": "each"},
        {"language": "zh"},
        {"personas": ["a nurse", "a cook"]},
        {"turns": 1},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    (first, *_) = check_recipe(recipe(**options), folder, Teacher(*MORE))
    assert first.status == "ok" and first.messages[-1]["role"] == "user"


def test_topics_are_opened_by_the_user_model(folder):
    def say(messages):
        if not is_user_model(messages):
            return "It is strong."
        assert "Topic: What is made of" in messages[0]["content"]
        return json.dumps({"message": "Tell me about that.", "done": False})

    samples, fake = play(folder, say, opens=False, turns=1)
    assert samples[0][0].messages == [{"role": "user", "content": "Tell me about that."}]
    assert [m["role"] for m in fake.asked[0].messages] == ["system", "user"]
    check_recipe(recipe(opens=False, turns=1), folder, say)


def test_one_example_of_the_last_turn_with_the_whole_dialogue(folder):
    [[sample], *_], fake = play(folder, Teacher(*MORE), turns=3)
    roles = [message["role"] for message in sample.messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert sample.messages[0]["content"] == "What is made of wood?"
    assert [sample.messages[n]["content"] for n in (2, 4)] == list(MORE[:2])
    whole = [*sample.messages, {"role": "assistant", "content": sample.completion}]
    assert sample.facts["dialogue"] == whole and sample.facts["ended_by"] == "turns"
    assert len(sample.call_ids) == 5 and sample.question == MORE[1]
    call = next(c for c in fake.calls.values() if c.call_id == sample.call_ids[-1])
    assert call.text == sample.completion


def test_the_user_ends_the_dialogue(folder):
    [[sample], *_], _ = play(folder, Teacher(MORE[0]), turns=8)
    assert len(sample.messages) == 3 and sample.facts["ended_by"] == "user"
    assert "bye" not in json.dumps(sample.facts["dialogue"])


def test_one_example_for_each_turn(folder):
    [samples, *_], _ = play(folder, Teacher(*MORE), turns=3, examples="each")
    assert [len(sample.messages) for sample in samples] == [1, 3, 5]
    assert [sample.facts["turn"] for sample in samples] == [1, 2, 3]
    assert samples[2].messages[:3] == samples[1].messages
    assert len({sample.sample_id for sample in samples}) == 3


def test_neither_side_sees_the_other_s_instructions(folder):
    _, fake = play(folder, Teacher(*MORE), personas=["a nurse"], instruction="Be brief.")
    sides = {True: set(), False: set()}
    for request in fake.asked:
        sides[is_user_model(request.messages)].add(request.messages[0]["content"])
    assert all("a nurse" in text and "Be brief." not in text for text in sides[True])
    assert sides[False] == {"Be brief."}
    user = next(r.messages for r in fake.asked if is_user_model(r.messages))
    assert [m["role"] for m in user] == ["system", "user", "assistant", "user"]
    assert user[2]["content"].startswith("What is made of")  # its own turn, on its own side


def test_the_student_sees_the_instruction_and_no_persona(folder):
    [[sample], *_], _ = play(folder, Teacher(), personas=["a nurse"], instruction="Be brief.")
    assert sample.messages[0] == {"role": "system", "content": "Be brief."}
    assert sample.facts["persona"] == "a nurse" and "nurse" not in json.dumps(sample.messages)


def test_personas_are_drawn_by_the_seed(folder):
    rows = "".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(20))
    (folder / "openers.jsonl").write_text(rows)
    first, again = (
        [of[0].facts["persona"] for of in play(folder, Teacher(), personas=["a", "b", "c"])[0]]
        for _ in range(2)
    )
    assert first == again and len(set(first)) == 3


def test_a_slip_of_the_user_is_answered_with_its_fault_and_then_invalid(folder):
    class Mending(Teacher):
        def __call__(self, messages):
            if "cannot be used" in messages[-1]["content"]:
                assert (
                    "the user speaks as the assistant ('how can i help you')"
                    in messages[-1]["content"]
                )
                return json.dumps({"message": "I meant, why?", "done": False})
            return super().__call__(messages)

    [[sample], *_], _ = play(folder, Mending("How can I help you?"), turns=2)
    assert sample.status == "ok" and sample.messages[-1]["content"] == "I meant, why?"
    slips = ["How can I help you?"] * 3
    [samples, *_], _ = play(folder, Teacher(*slips), turns=2, examples="each")
    assert [sample.status for sample in samples] == ["ok", "invalid"]
    assert "the user speaks as the assistant" in samples[1].status_reason
    [[sample], *_], _ = play(folder, Teacher(*slips), turns=2)
    assert sample.status == "invalid" and len(sample.facts["dialogue"]) == 2


def test_a_slip_of_the_assistant_is_invalid(folder):
    [samples, *_], _ = play(folder, Teacher(*MORE, assistant="It is oak."), examples="each")
    assert [(s.status, s.status_reason) for s in samples] == [
        ("ok", None),
        ("invalid", "the assistant's turn repeats an earlier one"),
    ]
    refusing = Teacher(assistant="I'm sorry, but I can't help with that.")
    assert play(folder, refusing)[0][0][0].status == "refused"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" \n", "empty"),
        ("Assistant: Wood is strong.", "a speaker's name"),
        ("用户：为什么？", "a speaker's name"),
        ("As an AI language model, I think so.", "as the assistant"),
        ("Sure, here is a list.", "as the assistant"),
        ("Is there anything else I can do?", "as the assistant"),
        ("作为一个人工智能，我认为是的。", "as the assistant"),
        ("有什么可以帮您的吗？", "as the assistant"),
        ("what is it made OF", "repeats an earlier one"),
        ("It is made of oak.", "repeats the assistant"),
        ("Is it made of oak?", None),
        ("What can I do for my sister?", None),
        ("Sure, but why?", None),
        ("我可以自己做吗？", None),
    ],
)
def test_what_no_user_says(text, told):
    fault = user_fault(text, ["What is it made of?"], ["It is made of oak."])
    assert told in fault if told else fault is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("It is oak.\nUser: And then?", "speaks for the user"),
        ("It is made of oak!", "repeats an earlier one"),
        ("What is it made of?", "repeats the user"),
        ("Oak.", None),
        ("Users: there are many kinds.", None),
    ],
)
def test_what_no_assistant_says(text, told):
    fault = assistant_fault(text, ["It is made of oak."], ["What is it made of?"])
    assert told in fault if told else fault is None


def test_held_out_rows_are_never_asked_and_rows_come_once(folder):
    rows = "".join(json.dumps({"prompt": f"Question {n % 25}?"}) + "\n" for n in range(50))
    (folder / "openers.jsonl").write_text(rows)
    assert len(list(recipe().seeds(folder, {}))) == 25
    assert 3 < len(list(recipe(holdout=0.5).seeds(folder, {}))) < 22


def test_the_user_s_wording(folder):
    (folder / "my.j2").write_text(
        '{% extends "self_chat.en.j2" %}{% block system %}MINE{% endblock %}'
    )
    _, fake = play(folder, Teacher(), template="my.j2")
    assert {r.messages[0]["content"] for r in fake.asked if not is_user_model(r.messages)} == {
        "MINE"
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"turns": 0}, "turns is 1 or more"),
        ({"tries": 0}, "tries is 1 or more"),
        ({"personas": []}, "personas is a list of texts"),
        ({"holdout": 1.0}, "holdout is a share"),
        ({"limit": 0}, "limit is 1 or more"),
    ],
)
def test_faulty_options_are_told(options, told):
    with pytest.raises(PlanError) as refused:
        recipe(**options)
    assert told in " ".join(refused.value.faults)
