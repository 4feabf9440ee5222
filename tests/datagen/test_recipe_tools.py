"""Tool calls: validated, simulated or recorded, in one or several steps, or none where none fits."""

from __future__ import annotations

import json
import re

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.tools import Tools
from datagen.tool_schemas import call_fault, parse_tools, read_tools
from warehouse import catalog
from warehouse.errors import DataError, PlanError

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
        },
        "return": {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]},
    },
}  # fmt: skip
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time now."}}
TOOLS = [WEATHER, CLOCK]


def turn(*calls, answer=""):
    return json.dumps({"calls": [{"name": n, "arguments": a} for n, a in calls], "answer": answer})


OSLO = ("weather", {"city": "Oslo"})


class Teacher:
    """Plays every part: writes tasks, calls `steps` in turn and then answers, and is the tool."""

    def __init__(self, *steps, answer="It rains.", sky='{"sky": "rain"}', now="noon"):
        self.steps, self.answer, self.sky, self.now = steps, answer, sky, now

    def __call__(self, messages) -> str:
        first, last = messages[0], messages[-1]["content"]
        if first["role"] == "system":
            done = sum(m["role"] == "assistant" for m in messages)
            return self.steps[done] if done < len(self.steps) else turn(answer=self.answer)
        if "cannot be used" in last:
            last = messages[-3]["content"]
        if called := re.search(r"(?:Call now|现在的调用)[:：] ?(\w+)", last):
            return self.sky if called[1] == "weather" else self.now
        return json.dumps({"task": f"Do something for {len(last)} people."})


def recipe(**options) -> Tools:
    defaults = {"tools": TOOLS, "tasks": 4, "no_tool": 0.0}
    return catalog.build("recipe", {"use": "tools", **defaults, **options})


def play(teacher, folder=None, **options):
    fake = FakeTeacher(teacher)
    outcomes = run_recipe(recipe(**options), folder, fake)
    assert not any(outcome.fault for outcome in outcomes), outcomes[0].fault
    return [outcome.samples for outcome in outcomes], fake


@pytest.fixture
def given(tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "Weather in Oslo, and the time?"}\n')
    return {"folder": tmp_path, "prompts": "tasks.jsonl"}


@pytest.mark.parametrize("options", [{}, {"language": "zh"}, {"tools_shown": 1, "difficulties": ["one"]}])  # fmt: skip
def test_it_does_what_every_recipe_does(tmp_path, options):
    call = turn(("clock", {})) if "tools_shown" in options else turn(OSLO)
    tools = [CLOCK] if "tools_shown" in options else TOOLS
    samples = check_recipe(recipe(**options, tools=tools), tmp_path, Teacher(call))
    assert [sample.status for sample in samples] == ["ok", "ok"]


def test_one_example_for_each_turn(given):
    [[first, second, last]], fake = play(Teacher(turn(OSLO), turn(("clock", {})), answer="Rain, noon."), **given)  # fmt: skip
    assert first.messages == [{"role": "user", "content": "Weather in Oslo, and the time?"}]
    assert json.loads(first.completion) == [{"name": "weather", "arguments": {"city": "Oslo"}}]
    assert [m["role"] for m in last.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert last.messages[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert [m["content"] for m in last.messages if m["role"] == "tool"] == ['{"sky": "rain"}', "noon"]  # fmt: skip
    assert last.messages[4]["tool_call_id"] == last.messages[3]["tool_calls"][0]["id"] == "call00002"  # fmt: skip
    assert (last.completion, "tool_calls" in last.facts) == ("Rain, noon.", False)
    assert first.facts["tool_calls"] == json.loads(first.completion)
    assert first.facts["tools"] == TOOLS and (second.facts["step"], second.facts["steps"]) == (2, 3)
    assert {sample.question for sample in (first, second, last)} == {first.messages[0]["content"]}
    texts = {call.call_id: call.text for call in fake.calls.values()}
    assert texts[first.call_ids[-1]] == turn(OSLO)
    assert texts[last.call_ids[-1]] == turn(answer="Rain, noon.")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("wether", {}), "there is no tool 'wether'; tools: weather, clock"),
        (
            ("weather", {}),
            "the call of weather is invalid: arguments: 'city' is a required property",
        ),
        (("weather", {"city": 3}), "city: 3 is not of type 'string'"),
        (("weather", {"city": "Oslo", "days": 0}), "days: 0 is less than the minimum of 1"),
        (("weather", {"city": "Oslo", "wind": 1}), "('wind' was unexpected)"),
        (("clock", {"zone": 1}), "('zone' was unexpected)"),
    ],
)
def test_an_invalid_call_is_answered_with_its_fault(given, call, told):
    class Mending(Teacher):
        def __call__(self, messages):
            if "cannot be used" in messages[-1]["content"]:
                assert told in messages[-1]["content"]
                return turn(OSLO)
            return super().__call__(messages)

    [samples], _ = play(Mending(turn(call)), **given)
    assert [sample.status for sample in samples] == ["ok", "ok"]
    [[invalid]], fake = play(Teacher(*[turn(call)] * 9), **given)
    assert invalid.status == "invalid" and told in invalid.status_reason
    assert len(fake.asked) == 2  # greedy decoding gives the same fault again


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (turn(), "both are empty"),
        (turn(*[("weather", {"city": c}) for c in "abcde"]), "5 calls at once; make at most 4"),
        ('{"calls": [{"name": "clock"}], "answer": ""}', "has no arguments"),
        ('{"calls": "clock", "answer": ""}', "calls is a list"),
        ("[]", "reply with an object"),
    ],
)
def test_a_malformed_turn_is_invalid_with_its_reason(given, reply, told):
    [[sample]], _ = play(Teacher(reply, reply), **given)
    assert sample.status == "invalid" and told in sample.status_reason
    assert sample.completion == reply


def test_the_same_call_twice_in_a_turn_is_made_once(given):
    [[first, last]], fake = play(Teacher(turn(OSLO, ("clock", {}), OSLO)), **given)
    calls = [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "clock", "arguments": {}}]
    assert json.loads(first.completion) == first.facts["tool_calls"] == calls
    assert last.status == "ok" and [m["role"] for m in last.messages].count("tool") == 2
    assert len(fake.asked) == 4  # the turn, a result of each call, the answer


def test_a_call_that_was_made_before_is_told(given):
    [[sample]], _ = play(Teacher(*[turn(OSLO)] * 5), **given)
    assert "that call of weather was made before" in sample.status_reason


def test_a_dialogue_without_an_end_is_invalid_as_a_whole(given):
    steps = [turn(("weather", {"city": city})) for city in "abcdef"]
    [[sample]], _ = play(Teacher(*steps), max_steps=3, **given)
    assert (sample.status, sample.status_reason) == ("invalid", "no answer in max_steps = 3 turns")


def test_a_task_that_no_tool_fits_is_answered_without_one(tmp_path):
    samples, _ = play(
        Teacher(answer="I cannot help with that, I have no tool for it."), no_tool=0.5
    )
    kinds = [(of[0].facts["difficulty"] == "none", of[0].status) for of in samples]
    assert kinds == [(False, "invalid"), (True, "ok"), (False, "invalid"), (True, "ok")]
    assert samples[0][0].status_reason == "the task needs a tool, and none was called"
    samples, _ = play(Teacher(turn(OSLO)), no_tool=1.0)
    assert {one[0].status_reason for one in samples} == {
        "a tool was called, and none fits the task"
    }
    assert all(json.loads(one[0].completion)[0]["name"] == "weather" for one in samples)


def test_a_given_task_may_need_no_tool_but_may_not_be_declined(given):
    [[sample]], _ = play(Teacher(answer="Two."), **given)
    assert (sample.status, sample.completion) == ("ok", "Two.")
    [[sample]], _ = play(Teacher(answer="I'm sorry, I can't help with that."), **given)
    assert sample.status == "refused"


def test_recorded_results_are_taken_and_others_simulated(given):
    rows = [{"name": "weather", "arguments": {"city": "Oslo"}, "result": {"sky": "snow"}}]
    (given["folder"] / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = Teacher(turn(OSLO), turn(("clock", {})))
    [[_, _, last]], _ = play(teacher, results="r.jsonl", **given)
    assert [m["content"] for m in last.messages if m["role"] == "tool"] == ['{"sky": "snow"}', "noon"]  # fmt: skip
    [[sample]], _ = play(teacher, results="r.jsonl", simulate=False, **given)
    assert sample.status_reason == "no result is recorded for this call of clock"


def test_a_result_has_the_form_that_the_tool_declares(given):
    [[sample]], _ = play(Teacher(turn(OSLO), sky='{"sky": 3}'), **given)
    assert sample.status == "invalid" and "sky: 3 is not of type 'string'" in sample.status_reason
    [[sample]], _ = play(Teacher(turn(("clock", {})), now=" "), **given)
    assert sample.status_reason == "the result of clock: the reply is empty"


def test_a_subset_of_tools_is_drawn_for_each_task(tmp_path):
    many = [{"type": "function", "function": {"name": f"tool{n}"}} for n in range(9)]
    samples, _ = play(Teacher(answer="x"), tools=many, tasks=12, tools_shown=3)
    shown = {tuple(t["function"]["name"] for t in of[0].facts["tools"]) for of in samples}
    assert len(shown) > 6 and all(
        len(names) == 3 and list(names) == sorted(names) for names in shown
    )


def test_an_instruction_and_a_system_message_are_seen_by_both(tmp_path):
    chat = {
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(chat))
    [[sample]], fake = play(
        Teacher(answer="Hello."), tmp_path, prompts="t.jsonl", instruction="Be brief."
    )
    assert sample.messages[0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert "Be brief.\n\nBe kind." in fake.asked[0].messages[0]["content"]
    assert [m["role"] for m in fake.asked[0].messages] == ["system", "user"]


def test_held_out_tasks_are_never_asked(tmp_path):
    rows = [json.dumps({"prompt": f"Task {n}?"}) for n in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    seeds = list(recipe(prompts="t.jsonl", holdout=0.5).seeds(tmp_path, {}))
    assert 5 < len(seeds) < 25


def test_the_user_s_wording(given):
    (given["folder"] / "my.j2").write_text(
        '{% extends "tools.en.j2" %}{% block system %}MINE {{ tools|length }}{% endblock %}'
    )
    _, fake = play(Teacher(answer="x"), template="my.j2", **given)
    assert fake.asked[0].messages[0]["content"] == "MINE 2"


def test_tools_in_a_file(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps({"tools": [WEATHER["function"], CLOCK]}))
    assert [tool.schema for tool in read_tools("tools.json", tmp_path)] == TOOLS
    (tmp_path / "bad.json").write_text('[{"name": "x", "parameters": {"type": "thing"}}]')
    with pytest.raises(
        DataError, match=r"bad.json, tool 'x', parameters is no JSON schema: 'thing'"
    ):
        read_tools("bad.json", tmp_path)
    with pytest.raises(DataError, match="no data file"):
        read_tools("none.json", tmp_path)


def test_a_valid_call_has_no_fault():
    tools = parse_tools(TOOLS, "tools")
    assert call_fault({"name": "weather", "arguments": {"city": "Oslo", "days": 2}}, tools) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tools": []}, "at least one"),
        ({"tools": [{"name": " "}]}, "tool 1 is not"),
        ({"tools": [CLOCK, CLOCK]}, "two tools 'clock'"),
        ({"max_steps": 1}, "max_steps is 2 or more"),
        ({"no_tool": 2.0}, "no_tool is a share"),
        ({"limit": 3}, "are of given tasks"),
        ({"tasks": 0}, "tasks is 1 or more"),
        ({"difficulties": []}, "difficulties names one or more"),
        ({"simulate": False}, "needs `results`"),
    ],
)
def test_faulty_options_are_told(options, told):
    with pytest.raises(PlanError) as refused:
        recipe(**options)
    assert told in " ".join(refused.value.faults)
