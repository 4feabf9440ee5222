"""Errors that come with HTTP 200: which are none, what is kept, and what counts in the budget."""

from __future__ import annotations

import asyncio
import json

import pytest

from datagen.generate import as_reply, pending, to_call
from datagen.openai.embedded_errors import error_in, has_output
from datagen.recipes.imitation import Imitation
from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.datagen.test_generate import prompt
from tests.support.fakes import FakeOpenai, Fault
from tests.support.replaying import samples_from
from warehouse.errors import PromptRejected, TransientError

USAGE = {"prompt_tokens": 12, "completion_tokens": 5}
SUCCESSES = [
    {"code": 200, "message": "OK"}, {"code": "200", "message": "Success."}, {"code": 0, "message": "fine"},
    {"code": "0", "type": "none", "message": "done"}, {"code": "success", "message": "done"},
    {"code": "SUCCESS", "message": "x"}, {"code": None, "message": "success"}, {"message": "ok"},
    {"status": "ok", "message": "done"}, {"error_code": 0, "error_msg": "done"}, "success", "OK", 0, 200,
    "", "none", [], {}, False, [{}], [{"code": 0, "message": "ok"}],
]  # fmt: skip
FAULTS = [
    {"code": 500, "message": "success"}, {"code": "", "message": "gone"}, {"message": "gone"}, "gone",
    {"code": None, "message": "gone"}, {"type": "server_error"}, {"code": "failed"}, True, 502,
    [{"code": 0, "message": "ok"}, {"code": 502, "message": "gone"}], {"code": 0.5, "message": "x"},
]  # fmt: skip


def raw_of(text="Oslo", finish_reason="stop", usage=USAGE, **more):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"choices": [choice], "usage": usage, **more}


def served(*bodies, **settings):
    """The reply of a server that answers with these bodies and then well, with budget and number
    of requests."""
    faults = [Fault(200, body if isinstance(body, str) else json.dumps(body)) for body in bodies]
    budget = Budget(tokens=10**6)
    with FakeOpenai(faults=faults) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, **settings)
        request = Request.of(teacher.identity, [{"role": "user", "content": "q"}], Sampling())

        async def collect():
            return [reply async for reply in teacher.answer([request], budget)]

        [reply] = asyncio.run(collect())
        assert budget.in_flight == 0
        return reply, budget, server.asked


@pytest.mark.parametrize("error", SUCCESSES)
def test_an_error_that_says_success_is_none(error):
    assert error_in(raw_of(error=error)) is None
    in_choice = raw_of()
    in_choice["choices"][0]["error"] = error
    assert error_in(in_choice) is None
    reply, budget, asked = served(raw_of(error=error))
    assert (reply.text, reply.error, asked, budget.lost_tokens) == ("Oslo", None, 1, 0)


@pytest.mark.parametrize("error", FAULTS)
def test_an_error_that_says_anything_else_is_one(error):
    found = error_in(raw_of(error=error))
    assert found == (error[1] if isinstance(error, list) else error)


def test_an_error_that_says_success_makes_no_whole_reply_of_a_broken_stream():
    chunk = raw_of(finish_reason=None, error={"code": 0, "message": "ok"})
    chunk["choices"][0]["delta"] = chunk["choices"][0].pop("message")
    reply, _, asked = served(f"data: {json.dumps(chunk)}\n\n")
    assert (reply.text, asked) == ("echo q", 2)
    reply, _, asked = served(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")
    assert (reply.text, asked) == ("Oslo", 1)


@pytest.mark.parametrize(
    "reason", ["abort", "timeout", "cancelled", "FinishReason.ABORTED", "interrupted"]
)
def test_an_aborted_reply_with_a_text_is_stored_once_and_marked_as_cut(reason):
    reply, budget, asked = served(raw_of(finish_reason=reason))
    assert (reply.text, reply.finish_reason, asked) == ("Oslo", "aborted", 1)
    assert (budget.spent_tokens, budget.lost_tokens) == (17, 0)
    call = to_call(reply, "t", "r")
    assert pending([reply.request], {call.call_id: call}) == []
    asked_for = prompt("q")
    [sample] = samples_from(Imitation(prompts="x.jsonl"), asked_for, call)
    assert (sample.completion, sample.status) == ("Oslo", "truncated")
    assert sample.status_reason == "the server aborted the reply before its end"
    assert as_reply(call, reply.request).finish_reason == "aborted"


def test_an_aborted_thought_is_no_answer():
    for text in ("<think>Norway", "", "  "):
        reply, _, asked = served(raw_of(text, "abort"))
        assert (reply.text, asked) == ("echo q", 2)
    reply, _, asked = served(raw_of("<think>Norway</think>Os", "abort"))
    assert (reply.text, reply.reasoning, asked) == ("Os", "Norway", 1)


@pytest.mark.parametrize(
    ("body", "is_charged"),
    [
        (raw_of(finish_reason="error"), True),
        (raw_of(finish_reason="error", usage=None), True),
        (raw_of("", "error"), True),
        (raw_of("", "abort"), True),
        (raw_of("", "error", usage=None), False),
        (raw_of("", "abort", usage={"prompt_tokens": 0, "completion_tokens": 0}), False),
        (raw_of(error={"code": 502, "message": "gone"}), True),
        (raw_of(error={"code": 429, "message": "slow down"}), True),
        (raw_of("<think>Norway", "timeout", usage=None), True),
        ({"error": {"code": 502, "message": "gone"}, "usage": USAGE}, True),
        ({"error": {"code": 502, "message": "gone"}}, False),
        ({"error": {"code": 429, "message": "slow down"}}, False),
    ],
)
def test_what_came_with_a_text_or_usage_counts_when_it_is_asked_again(body, is_charged):
    assert has_output(body) == is_charged
    reply, budget, asked = served(body)
    assert (reply.text, asked, reply.tries) == ("echo q", 2, 2)
    most = OpenaiChat(model="m").most(reply.request).tokens
    assert budget.lost_tokens == (most if is_charged else 0)
    used = reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert budget.spent_tokens == budget.lost_tokens + used


def test_every_try_that_is_charged_counts_and_so_does_a_rejected_prompt():
    reply, budget, asked = served(*[raw_of(finish_reason="error")] * 3, max_tries=3)
    assert isinstance(reply.error, TransientError) and asked == 3
    most = OpenaiChat(model="m").most(reply.request).tokens
    assert budget.spent_tokens == budget.lost_tokens == 3 * most
    filtered = raw_of(error={"code": "content_filter", "message": "no"})
    reply, budget, asked = served(filtered)
    assert isinstance(reply.error, PromptRejected) and asked == 1
    assert budget.spent_tokens == budget.lost_tokens == most
