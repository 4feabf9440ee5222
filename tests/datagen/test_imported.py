"""The recipe of imported replies: samples with their calls, and not one request."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from datagen.conformance import FakeTeacher
from datagen.engine import Engine
from datagen.imported_calls import call_as_asked, imported_call, replies_in
from datagen.recipes.imported import Imported
from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from warehouse import catalog
from warehouse.errors import DataError, PlanError
from warehouse.inputs.conversations import Conversation

ASKED = [{"role": "user", "content": "Hi"}]
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
SAID = Conversation([*ASKED, {"role": "assistant", "content": "Hello."}], "a line 1")
LONG = Conversation(
    [
        *SAID.messages,
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ],
    finish_reason="length",
    prompt_tokens=9,
    cost_usd=1.0,
)


def run(recipe, folder):
    """Outcomes of all seeds, with a teacher that remembers what it is asked."""
    teacher = FakeTeacher(lambda messages: "never")

    async def go():
        engine = Engine(
            "plan", teacher, Sampling(), None, folder, Budget(), teacher, "run"
        )  # fmt: skip
        seeds = recipe.seeds(folder, {})
        async with aclosing(engine.run(recipe, seeds, {})) as outcomes:
            return sorted([one async for one in outcomes], key=lambda one: one.seed.order)

    return asyncio.run(go()), teacher.asked


def write(folder, *conversations):
    rows = ({"messages": one.messages, "finish_reason": one.finish_reason} for one in conversations)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_conversation_is_one_seed_and_nothing_is_asked(tmp_path):
    write(tmp_path, SAID, LONG, SAID)
    outcomes, asked = run(Imported("a.jsonl", "m"), tmp_path)
    assert asked == []
    assert [[s.completion for s in one.samples] for one in outcomes] == [["Hello."], ["Four."]]
    (first,), (second,) = (one.samples for one in outcomes)
    assert (first.status, second.status) == ("ok", "truncated")
    assert first.call_ids == [imported_call(SAID, "m").call_id]
    assert [one.prompt.messages for one in outcomes] == [SAID.asked, LONG.asked]


def test_the_same_file_gives_the_same_ids_and_another_teacher_others(tmp_path):
    write(tmp_path, SAID, LONG)
    ids = {
        name: [
            s.sample_id for one in run(Imported("a.jsonl", name), tmp_path)[0] for s in one.samples
        ]
        for name in ("m", "n")
    }
    write(tmp_path, LONG, SAID)
    again = [s.sample_id for one in run(Imported("a.jsonl", "m"), tmp_path)[0] for s in one.samples]
    assert sorted(again) == sorted(ids["m"])
    assert not set(ids["m"]) & set(ids["n"])


def test_each_text_of_the_assistant_is_a_reply_and_what_is_known_is_of_the_last(tmp_path):
    first, call, last = replies_in(LONG, "all")
    assert (call.messages, call.calls) == (LONG.messages[:4], [CALL["function"]])
    assert (first.messages, first.finish_reason, first.cost_usd) == (SAID.messages, "stop", None)
    assert last == LONG
    assert list(replies_in(LONG, "last")) == [LONG]
    write(tmp_path, LONG)
    (outcome,), _ = run(Imported("a.jsonl", "m", turns="all"), tmp_path)
    assert [s.question for s in outcome.samples] == ["Hi", "And?", "And?"]
    assert outcome.samples[1].completion == '[{"name": "add", "arguments": {"a": 2}}]'
    assert outcome.samples[1].facts == {"tool_calls": [CALL["function"]]}
    assert [(s.status, len(s.call_ids)) for s in outcome.samples] == [
        ("ok", 1), ("ok", 2), ("truncated", 3),
    ]  # fmt: skip


def test_limit_counts_conversations(tmp_path):
    write(tmp_path, SAID, LONG)
    assert len(run(Imported("a.jsonl", "m", limit=1), tmp_path)[0]) == 1


def test_a_call_s_id_hashes_teacher_messages_sampling_and_reply():
    call = imported_call(SAID, "m")
    others = [
        imported_call(SAID, "n"),
        imported_call(replace(SAID, sampling={"temperature": 1.0}), "m"),
        imported_call(replace(SAID, messages=[*ASKED, {"role": "assistant", "content": "No."}]), "m"),
        imported_call(replace(SAID, messages=[{"role": "system", "content": "x"}, *SAID.messages]), "m"),
    ]  # fmt: skip
    assert len({call.call_id, *(other.call_id for other in others)}) == 5
    assert imported_call(replace(SAID, source="b line 9", model="x"), "m").call_id == call.call_id
    assert (call.teacher, call.cost_usd, call.messages) == ("import:m", None, ASKED)


def test_as_the_plan_s_a_call_has_the_id_that_asking_would_give():
    sampling = Sampling(temperature=0.5, max_tokens=77)
    first, second = (call_as_asked(SAID, "t", sampling, draw) for draw in (0, 1))
    assert first.call_id == Request.of("t", ASKED, sampling).call_id
    assert second.call_id == Request.of("t", ASKED, replace(sampling, seed=1)).call_id
    assert (first.max_tokens, first.sampling["temperature"]) == (77, 0.5)


def test_wrong_options_are_refused(tmp_path):
    for table, told in (
        ({"file": "a.jsonl"}, "teacher"),
        ({"file": "a.jsonl", "teacher": "m", "format": "xml"}, "format"),
        ({"file": "a.jsonl", "teacher": "m", "limit": 0}, "limit is 1 or more"),
        ({"file": "a.jsonl", "teacher": ""}, "teacher is the name"),
    ):
        with pytest.raises(PlanError) as refused:
            catalog.build("recipe", {"use": "imported", **table})
        assert told in str(refused.value)
    with pytest.raises(DataError, match=r"no data file 'none\.jsonl'"):
        list(Imported("none.jsonl", "m").seeds(tmp_path, {}))
