"""Replies as servers really write them: each is one call or one failure, and its text is kept."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import orjson
import pytest
from aiohttp import web

from datagen.generate import ask, reread, to_call
from datagen.openai.embedded_errors import error_in
from datagen.openai.error_answers import ErrorKind, read_error, sort_error
from datagen.openai.parse_body import UnreadableReply, parse_body
from datagen.openai.usage import MEASURED
from datagen.recipes.imitation import Imitation
from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.datagen.test_generate import prompt
from tests.support.fakes import FakeOpenai, Fault
from tests.support.replaying import samples_from
from tests.warehouse.test_store import store  # noqa: F401
from warehouse.db.spool import Spool
from warehouse.errors import PromptRejected, TeacherUnusable, TransientError
from warehouse.records import Call, Failure

REQUEST = Request.of("t", [{"role": "user", "content": "capital of Norway?"}], Sampling())
TEACHER = OpenaiChat(model="m", input_usd_per_million=1.0, output_usd_per_million=2.0)
USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


def body(message=None, finish_reason="stop", usage=USAGE, **choice):
    message = {"role": "assistant", "content": "Oslo"} if message is None else message
    choice = {"index": 0, "finish_reason": finish_reason, "message": message, **choice}
    return {"id": "c", "choices": [choice], "usage": usage}


def read(raw):
    content = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return TEACHER.read(REQUEST, parse_body(content), 0.1)


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Os"}}]},
    {"choices": [{"index": 1, "delta": {"content": "Bergen"}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "Nor"}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "way"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
]
STREAM = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "raw",
    [
        body(),
        body({"content": [{"type": "text", "text": "Os"}, {"type": "text", "text": "lo"}]}),
        body({"content": [{"type": "output_text", "text": {"value": "Oslo"}}, "", {"type": "blob"}]}),
        body({"content": None}, text="Oslo"),
        {**body(), "choices": [{"text": "Oslo", "finish_reason": "stop"}]},
        {**body(), "choices": [{"delta": {"content": "Oslo"}, "finish_reason": "stop"}]},
        b"\xef\xbb\xbf" + json.dumps(body()).encode(),
        json.dumps(body()).encode("utf-16"),
        b": keep-alive\n\n: keep-alive\n" + json.dumps(body()).encode(),
        json.dumps(body()).encode() + b"\n\ndata: [DONE]\n",
        json.dumps({**body(), "score": float("nan")}).encode(),
        json.dumps({**body(), "n": 10**400}).encode(),
        json.dumps(body()).encode()[:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps(body()).encode()[:-1] + b', "deep": ' + b'{"a": ' * 500 + b"1" + b"}" * 500 + b"}",
        STREAM.encode(),
        STREAM.replace("\n\n", "\r\n\r\n").encode(),
        STREAM.replace("\n\n", "\n").encode(),
        b": ping\n\n" + STREAM.encode(),
        STREAM.replace("data: [DONE]\n\n", "").encode(),
        f"event: message\ndata: {json.dumps(body())}\n\n".encode(),
    ],
)  # fmt: skip
def test_the_text_is_read_whatever_is_around_it(raw):
    reply = read(raw)
    assert (reply.text, reply.finish_reason) == ("Oslo", "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (9, 2)
    assert reply.cost_usd == pytest.approx(13e-6)
    orjson.dumps(reply.raw)


def test_a_stream_keeps_its_reasoning():
    assert read(STREAM.encode()).reasoning == "Norway"


@pytest.mark.parametrize(
    "raw", [STREAM.partition("data: " + json.dumps(CHUNKS[4]))[0].encode(), b"<html>", b"", b"[]"]
)
def test_what_is_no_reply_or_broke_off_is_unreadable(raw):
    with pytest.raises(UnreadableReply):
        read(raw)


@pytest.mark.parametrize(
    "usage",
    [None, "none", [], {}, {**USAGE, "prompt_tokens": "n/a"}, {**USAGE, "completion_tokens": -1},
     {**USAGE, "prompt_tokens": 10**30}, {**USAGE, "prompt_tokens": None}],
)  # fmt: skip
def test_usage_that_cannot_be_read_is_measured_and_marked(usage):
    reply = read(body(usage=usage, logprobs=[1]))
    assert reply.text == "Oslo" and reply.usage.measured
    assert reply.oddities == ("log-probabilities were unreadable", MEASURED)
    kept = to_call(reply, "t", "r").raw["stillhouse"]
    assert kept["oddities"] == ["log-probabilities were unreadable"] and kept["measured"]


def test_usage_is_read_in_other_forms():
    for usage in (
        {"input_tokens": 9, "output_tokens": 2},
        {"prompt_tokens": "9", "completion_tokens": 2.0},
    ):
        usage["prompt_tokens_details"] = "none"
        assert read(body(usage=usage)).cost_usd == pytest.approx(13e-6)


@pytest.mark.parametrize("logprobs", [[-0.1], "x", {"content": [{"token": "a"}]}, {"content": 3}])
def test_logprobs_that_cannot_be_read_are_left_out(logprobs):
    reply = read(body(logprobs=logprobs))
    assert (reply.text, reply.logprobs) == ("Oslo", None)
    assert reply.oddities == ("log-probabilities were unreadable",)


def test_logprobs_are_read_in_three_forms():
    top = {"Os": -0.1, "Ber": -2}
    listed = [{"token": token, "logprob": value} for token, value in top.items()]
    forms = [
        {"content": [{"token": "Os", "logprob": -0.1, "top_logprobs": listed}]},
        {"content": [{"token": "Os", "logprob": -0.1, "top_logprobs": top}]},
        {"tokens": ["Os"], "token_logprobs": [-0.1], "top_logprobs": [top]},
    ]
    for form in forms:
        assert read(body(logprobs=form)).logprobs == {
            "tokens": ["Os"],
            "logprobs": [-0.1],
            "top": [[["Os", -0.1], ["Ber", -2.0]]],
        }


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Oslo", "reasoning": "Norway"},
        {"content": "Oslo", "reasoning_content": "Norway", "reasoning": ""},
        {"content": "<think>Norway</think>Oslo", "reasoning": ""},
        {"content": "</think>\n\nOslo", "reasoning_content": "Norway"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Norway"}]},
                     {"type": "text", "text": "Oslo"}]},
        {"content": "Oslo", "reasoning_details": [{"type": "reasoning.text", "text": "Norway"}]},
    ],
)  # fmt: skip
def test_reasoning_is_kept_apart_wherever_it_stands(message):
    reply = read(body(message))
    assert (reply.text, reply.reasoning) == ("Oslo", "Norway")


def test_a_refusal_is_one_in_any_words():
    for message in (
        {"content": None, "refusal": "No."},
        {"content": [{"type": "refusal", "refusal": "No."}]},
    ):
        reply = read(body(message))
        assert (reply.text, reply.finish_reason) == ("No.", "content_filter")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, ErrorKind.OVERLOAD),
        ({"error": {"code": "503", "message": "later"}}, ErrorKind.OVERLOAD),
        ({"error": {"type": "insufficient_quota", "message": "pay"}}, ErrorKind.RUN),
        ({"error": {"code": "context_length_exceeded", "message": "long"}}, ErrorKind.PROMPT),
        ({"error": "Unexpected endpoint or method. (POST /x)"}, ErrorKind.RUN),
        ({"error": "upstream"}, ErrorKind.TRANSIENT),
        ({"object": "error", "message": "no", "code": 400}, ErrorKind.PROMPT),
        ({"detail": "oops"}, ErrorKind.TRANSIENT),
        (body(error={"code": 502, "message": "gone"}), ErrorKind.TRANSIENT),
        (body(finish_reason="ERROR"), ErrorKind.TRANSIENT),
        ({**body(), "error": None}, None),
        ({**body(), "error": {"code": 0, "message": ""}}, None),
        ({**body(), "error": {}}, None),
        (body(), None),
    ],
)
def test_an_error_that_came_as_200_is_sorted_as_others_are(raw, kind):
    error = error_in(raw)
    assert (error if error is None else sort_error(read_error(200, error))[0]) == kind


def served(*faults, **settings):
    """Reply and number of requests of a server that answers with these faults, then well."""
    with FakeOpenai(faults=faults) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, **settings)
        request = Request.of(teacher.identity, [{"role": "user", "content": "q"}], Sampling())

        async def go():
            return [reply async for reply in teacher.answer([request], Budget())]

        [reply] = asyncio.run(go())
        return reply, server.asked


def as_200(raw):
    return Fault(200, raw if isinstance(raw, str) else json.dumps(raw))


def test_a_reply_without_a_message_is_asked_for_once_more():
    for raw in ({**body(), "choices": []}, {**body(), "choices": None}, body(message=())):
        raw = {**raw, "choices": [{**c, "message": None} for c in raw["choices"] or []]}
        reply, asked = served(as_200(raw), as_200(raw))
        assert asked == 2 and isinstance(reply.error, PromptRejected)
        reply, asked = served(as_200(raw))
        assert asked == 2 and reply.text == "echo q"


def test_a_filter_without_a_message_is_a_reply():
    raw = body(finish_reason="content_filter: VIOLENCE")
    raw["choices"][0]["message"] = None
    reply, asked = served(as_200(raw))
    assert (reply.text, reply.finish_reason, asked) == ("", "content_filter", 1)


def test_an_error_as_200_is_handled_as_its_status_is():
    reply, asked = served(as_200({"error": {"code": 400, "message": "no"}}))
    assert asked == 1 and isinstance(reply.error, PromptRejected)
    broken = body({"content": "Os"}, finish_reason="error", error={"code": 502, "message": "gone"})
    reply, asked = served(*[as_200(broken)] * 3, max_tries=3)
    assert asked == 3 and isinstance(reply.error, TransientError) and "gone" in str(reply.error)
    with pytest.raises(TeacherUnusable, match="correct base_url"):
        served(as_200({"error": "Unexpected endpoint or method. (POST /chat/completions)"}))


def call_of(text, finish_reason="stop", **fields):
    reply = read(body({"content": "x"}))
    return to_call(reply, "t", "r").__class__(
        **{**vars(to_call(reply, "t", "r")), "text": text, "finish_reason": finish_reason, **fields}
    )


def test_calls_of_earlier_versions_are_read_as_todays():
    old = call_of("Norway.\n</think>\n\nOslo", "EOS", reasoning="first")
    new = reread(old)
    assert (new.text, new.reasoning, new.finish_reason) == ("Oslo", "first\n\nNorway.", "stop")
    assert reread(new) is new
    assert reread(call_of("<think>hm", "MAX_TOKENS")).finish_reason == "length"


@pytest.mark.parametrize(
    ("text", "finish_reason", "status", "reason"),
    [
        ("Oslo", "stop", "ok", None),
        ("Oslo<|im_end|>", "stop", "invalid", "the control mark <|im_end|> is left in the text"),
        ("", "length", "truncated", "the reply reached max_tokens"),
        ("", "content_filter", "refused", "the teacher's content filter ended the reply"),
        ("Os", "error", "invalid", "the reply ended with an error of the server"),
        ("", "tool_calls", "invalid", "the reply calls a tool"),
        ("Oslo", "sunspots", "ok", None),
    ],
)
def test_samples_tell_what_is_wrong_with_a_reply(text, finish_reason, status, reason):
    asked = prompt("q")
    [sample] = samples_from(Imitation(prompts="x.jsonl"), asked, call_of(text, finish_reason))
    assert (sample.status, sample.status_reason) == (status, reason)


ODD_VALUES = [
    None, True, -1, 0, 10**40, -(10**20), 1.5, float("nan"), float("inf"), "", "x", "\ud800", "\x00",
    "<think>", "[DONE]", [], {}, [[]], [None], {"a": None}, {"content": "t"}, [{"text": "t"}], "9" * 5000,
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """A reply with one to four faults."""
    logprobs = {"content": [{"token": "Oslo", "logprob": -0.1, "top_logprobs": []}]}
    raw = body(
        {"role": "assistant", "content": "<think>hm</think>Oslo", "refusal": None},
        logprobs=logprobs,
    )
    raw |= {"error": None} if chance.random() < 0.2 else {}
    for _ in range(chance.randint(1, 4)):
        _mutate(raw, chance)
    content = json.dumps(raw, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = chance.randrange(14)
    if kind == 0:
        content = content[: chance.randrange(len(content) + 1)]
    elif kind == 1:
        content = content.decode(errors="replace").encode(
            chance.choice(["utf-16", "utf-32", "cp037"])
        )
    elif kind == 2:
        start = chance.randrange(len(content) + 1)
        content = content[:start] + chance.randbytes(5) + content[start:]
    elif kind == 3:
        deep, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
        levels = chance.choice([70, 300, 2000, 2000, 100_000])
        value = deep * levels + b"0" + closing * levels
        content = content[:-1] + b', "deep": ' + value + b"}"
    elif kind == 4:
        content = b"data: " + content + chance.choice([b"", b"\n\n", b"\n\ndata: [DONE]\n\n"])
    elif kind == 5:
        content = chance.choice([b"\xef\xbb\xbf", b": hi\n\n", b"\n\n", b"garbage "]) + content
    elif kind == 6:
        content = content + chance.choice([b"}", b"\x00", b"\n[DONE]", content])
    return content


def _mutate(value, chance):
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if not isinstance(value[key], dict | list) or chance.random() < 0.3:
            break
        value = value[key]
    if isinstance(value, dict) and chance.random() < 0.2:
        del value[key]
    else:
        value[key] = chance.choice([*ODD_VALUES, [value[key]], {"text": value[key]}])


def fuzz(store, number: int, seed: int) -> Counter[str]:  # noqa: F811
    """Ask a server whose every reply is mutated; each prompt ends as one call or one failure."""
    chance = random.Random(seed)
    results: Counter[str] = Counter()
    records: list[Call | Failure] = []

    async def chat(request):
        return web.Response(body=mutated(chance), content_type="application/json")

    async def go():
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        teacher = OpenaiChat(model="fake", base_url=url, max_in_flight=64, max_tries=2)
        requests = [
            Request.of(teacher.identity, [{"role": "user", "content": f"q{n}"}], Sampling())
            for n in range(number)
        ]
        waiting = {request.call_id: request for request in requests}

        def keep(record, reply):
            waiting.pop(reply.request.call_id)
            records.append(record)
            results[type(record).__name__] += 1
            if isinstance(record, Call):
                spool.append(record)

        with Spool(store.path) as spool:
            while waiting:  # an error that means a wrong key or address ends a round
                try:
                    await ask(teacher, list(waiting.values()), Budget(), "r", "generate", keep)
                except TeacherUnusable:
                    results["stopped"] += 1
            spool.drain(store)
        await runner.cleanup()

    asyncio.run(go())
    calls = store.read(Call)
    assert len(calls) == results["Call"] and len(records) == number
    asked = prompt("q")
    for call in calls:
        assert reread(call) == call
        assert samples_from(Imitation(prompts="x.jsonl"), asked, call)
    return results


def test_two_thousand_mutated_replies_are_one_call_or_one_failure_each(store):  # noqa: F811
    results = fuzz(store, 2_000, seed=12)
    assert results["Call"] > 1_000 and results["Failure"] > 50


@pytest.mark.slow
def test_twenty_thousand_mutated_replies(store):  # noqa: F811
    assert fuzz(store, 20_000, seed=1212)["Call"] > 10_000
