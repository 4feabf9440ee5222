"""No secret comes back in what is kept or shown, however a server writes it."""

from __future__ import annotations

import asyncio
import json

import pytest

from datagen.generate import to_call
from datagen.openai import batches
from datagen.openai.keys import Redactor
from datagen.spending.limits import Budget
from datagen.teacher import REDACTED, Request, Sampling
from datagen.teachers.openai_batch import OpenaiBatch
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask
from tests.support.fake_batches import FakeBatches, answered
from tests.support.fakes import FakeOpenai, Fault
from warehouse.errors import TeacherUnusable, TransientError

KEY = 'sk-"very"/secret\\key-3'
DIGITS = "1234567890"


@pytest.fixture(autouse=True)
def short_polls(monkeypatch):
    monkeypatch.setattr(batches, "FIRST_POLL_S", 0.01)


def escaped(text):
    return "".join(f"\\u{ord(character):04X}" for character in text)


def raw_of(content, **more):
    choice = {"message": {"content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 8}
    return {"created": int(DIGITS), "choices": [choice], "usage": usage, **more}


def reply_to(body, monkeypatch, key=KEY):
    """The reply of a chat server that answers with a body, and of a batch with the same line."""
    monkeypatch.setenv("MY_KEY", key)
    with FakeOpenai(faults=[Fault(200, body)]) as server:
        chat = OpenaiChat(model="fake", base_url=server.base_url, api_key_env="MY_KEY")
        [reply] = ask(chat, "q")
        assert server.asked == 1
    return reply


def batch_reply(line_for, monkeypatch, key=KEY, budget=None, **options):
    monkeypatch.setenv("MY_KEY", key)
    with FakeBatches(line_for=line_for) as server:
        one = OpenaiBatch(
            model="fake", base_url=server.base_url, poll_s=0.02, api_key_env="MY_KEY", **options
        )
        request = Request.of(one.identity, [{"role": "user", "content": "q"}], Sampling())

        async def collect():
            return [reply async for reply in one.answer([request], budget)]

        [reply] = asyncio.run(collect())
        return reply


SPELLINGS = {
    "plain": json.dumps(f"is {KEY}!"),
    "slashes": json.dumps(f"is {KEY}!").replace("/", "\\/"),
    "code points": f'"is {escaped(KEY)}!"',
    "some code points": json.dumps(f"is {KEY}!").replace("s", "\\u0073"),
    "JSON as text": json.dumps("is " + json.dumps(KEY)[1:-1] + "!"),
    "code points as text": json.dumps(f"is {escaped(KEY).lower()}!"),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_is_found_in_every_spelling_by_chat_and_by_batch(spelling, monkeypatch):
    body = json.dumps(raw_of("TEXT")).replace('"TEXT"', spelling)

    def line_for(custom_id, _):
        line = {"custom_id": custom_id, "response": {"status_code": 200, "body": "BODY"}}
        return json.dumps(line).replace('"BODY"', body)

    for reply in (reply_to(body, monkeypatch), batch_reply(line_for, monkeypatch)):
        assert reply.text == "is [redacted]!"
        assert reply.raw[REDACTED] == 1
        assert reply.raw["created"] == int(DIGITS)
        assert "secret" not in json.dumps(reply.raw)


def test_a_key_of_digits_leaves_numbers_as_they_are(monkeypatch):
    body = json.dumps(raw_of(f"is {DIGITS}!", note=[float(DIGITS), 1e-3]))
    reply = reply_to(body, monkeypatch, DIGITS)
    assert reply.text == "is [redacted]!"
    assert reply.raw["created"] == int(DIGITS) and reply.raw["note"] == [float(DIGITS), 1e-3]
    assert (reply.usage.prompt_tokens, reply.usage.measured) == (12, False)

    def line_for(custom_id, body):
        line = answered(custom_id, body)
        line["response"]["body"]["created"] = int(DIGITS)
        return line

    assert batch_reply(line_for, monkeypatch, DIGITS).raw["created"] == int(DIGITS)


def streamed(deltas, end="data: [DONE]\n\n"):
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_a_key_that_is_split_over_chunks_is_found(size, monkeypatch):
    text = f"It is {KEY}, twice: {KEY}."
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    told = "It is [redacted], twice: [redacted]."
    for delta in (
        lambda piece: {"content": piece},
        lambda piece: {"content": [{"type": "text", "text": piece}]},
    ):
        reply = reply_to(streamed(map(delta, pieces)), monkeypatch)
        assert reply.text == told and reply.raw[REDACTED] == 2
    thinking = [{"reasoning_details": [{"type": "reasoning.text", "text": p}]} for p in pieces]
    reply = reply_to(streamed([*thinking, {"content": "Oslo"}]), monkeypatch)
    assert (reply.text, reply.reasoning) == ("Oslo", told)


def test_log_probabilities_that_spell_a_key_are_left_out(monkeypatch):
    tokens = ["is ", *KEY[:-2], KEY[-2:]]
    listed = [
        {"token": token, "logprob": -0.1, "top_logprobs": [{"token": token, "logprob": -0.1}]}
        for token in tokens
    ]
    raw = raw_of(f"is {KEY}")
    raw["choices"][0]["logprobs"] = {"content": listed}
    reply = reply_to(json.dumps(raw), monkeypatch)
    assert (reply.text, reply.logprobs) == ("is [redacted]", None)
    assert reply.oddities == ("log-probabilities were left out: they spell a secret",)
    raw = raw_of("is", debug=KEY)  # elsewhere it does them no harm
    raw["choices"][0]["logprobs"] = {"content": listed[:1]}
    reply = reply_to(json.dumps(raw), monkeypatch)
    assert reply.logprobs["tokens"] == ["is "] and reply.raw["debug"] == "[redacted]"


def test_a_stream_that_broke_off_shows_no_piece_of_a_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    pieces = [{"content": KEY[n : n + 2]} for n in range(0, len(KEY), 2)]
    with FakeOpenai(fault_for=lambda messages: Fault(200, streamed(pieces, end=""))) as server:
        chat = OpenaiChat(model="fake", base_url=server.base_url, api_key_env="MY_KEY", max_tries=2)
        [reply] = ask(chat, "q")
    assert "the event stream ended before its reply did" in str(reply.error)
    assert "delta" not in str(reply.error) and KEY[:6] not in str(reply.error)


@pytest.mark.parametrize("levels", [100, 300, 900, 100_000])
def test_a_deep_line_of_a_batch_is_one_reply_or_one_failure(levels, monkeypatch):
    deep = '{"a":' * levels + json.dumps(KEY) + "}" * levels

    def line_with(body):
        response = f'{{"status_code": 200, "body": {body}}}'
        return lambda custom_id, _: f'{{"custom_id": "{custom_id}", "response": {response}}}'

    beside = json.dumps(raw_of("Oslo"))[:-1] + f', "deep": {deep}}}'
    reply = batch_reply(line_with(beside), monkeypatch)
    assert reply.text == "Oslo" and "secret" not in json.dumps(to_call(reply, "t", "r").raw)
    for body in (deep, '{"error": ' + deep + "}"):
        reply = batch_reply(line_with(body), monkeypatch, max_tries=1)
        assert isinstance(reply.error, TransientError) and "secret" not in str(reply.error)
    nothing = json.dumps(raw_of("x")).replace('"x"', deep)
    reply = batch_reply(line_with(nothing), monkeypatch)
    assert (reply.text, reply.error) == ("", None) and "secret" not in json.dumps(reply.raw)

    def deep_error(custom_id, _):
        return f'{{"custom_id": "{custom_id}", "response": null, "error": {deep}}}'

    reply = batch_reply(deep_error, monkeypatch, max_tries=1)
    assert isinstance(reply.error, TransientError) and "secret" not in str(reply.error)


def test_a_batch_that_is_refused_does_not_show_the_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)

    class Refusing(FakeBatches):
        async def _retrieve(self, request):
            response = await super()._retrieve(request)
            batch = json.loads(response.body)
            batch |= {"status": "failed", "errors": {"data": [{"message": f"bad key {KEY}"}]}}
            response.text = json.dumps(batch)
            return response

    with Refusing() as server:
        one = OpenaiBatch(model="fake", base_url=server.base_url, poll_s=0.02, api_key_env="MY_KEY")
        with pytest.raises(TeacherUnusable, match=r"was refused: bad key \[redacted\]"):
            ask(one, "q")


def test_keys_of_objects_and_pieces_in_lists_are_redacted_in_place():
    redactor = Redactor(["Bearer the-secret", "short", "not-needed"])
    value = {"a": ["x the-", "", "sec", "ret y", "the-secret"], "the-secret": {"the-secret": 1}}
    assert redactor.redact_value(value) == 4
    assert value == {
        "a": ["x [redacted]", "", "", " y", "[redacted]"],
        "[redacted]": {"[redacted]": 1},
    }
    apart = [{"a": "the-", "b": "secret"}, "the-secret"[:4], ["secret"]]
    assert redactor.redact_value(apart) == 0  # these are never read as one text
    assert redactor.redact("short, not-needed, \\u0074he-secret") == "short, not-needed, [redacted]"


def test_many_backslashes_and_many_pieces_are_read():
    redactor = Redactor(["\\" * 10, KEY])
    assert redactor.redact("\\u" * 200_000 + "x").endswith("x")
    pieces = ["".join(KEY[n % len(KEY)]) for n in range(200 * len(KEY))]
    assert redactor.redact_value(pieces) == 200
    assert "".join(pieces) == "[redacted]" * 200


def test_a_budget_counts_what_a_batch_was_charged_for(monkeypatch):
    def line_for(custom_id, body):
        line = answered(custom_id, body)
        line["response"]["body"]["choices"][0]["finish_reason"] = "error"
        return line

    budget = Budget()
    reply = batch_reply(line_for, monkeypatch, budget=budget, max_tries=2)
    assert isinstance(reply.error, TransientError)
    most = OpenaiChat(model="m").most(reply.request)
    assert (budget.lost_tokens, budget.spent_tokens) == (2 * most.tokens, 2 * most.tokens)
    assert budget.in_flight == 0
