"""Faults of a chat server: what is tried again, what fails one prompt, what stops the run."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from aiohttp import web

from datagen.spending.limits import RateLimiter
from datagen.teacher import Request, Sampling
from datagen.teachers import openai_chat
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask, closed_port
from tests.support.fakes import FakeOpenai, Fault, message_hash
from warehouse.errors import PromptRejected, TeacherUnusable, TransientError


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429), Fault(500), Fault(503), Fault(0), Fault(200, "not json"),
        Fault(200, '{"error": {"message": "upstream"}}'),
    ],
    ids=["429", "500", "503", "cut", "not json", "error as 200"],
)  # fmt: skip
def test_a_transient_fault_is_tried_again(fault):
    with FakeOpenai(faults=[fault, fault]) as server:
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert reply.text == "echo q"
    assert reply.error is None
    assert server.asked == 3


def test_tries_used_up_is_one_failed_reply_and_the_rest_goes_on():
    broken = message_hash([{"role": "user", "content": "bad"}])
    with FakeOpenai(
        fault_for=lambda messages: Fault(500) if message_hash(messages) == broken else None
    ) as server:
        replies = ask(
            OpenaiChat(model="fake", base_url=server.base_url, max_tries=4), "bad", "good"
        )
    by_question = {reply.request.messages[0]["content"]: reply for reply in replies}
    assert isinstance(by_question["bad"].error, TransientError)
    assert "scripted fault" in str(by_question["bad"].error)
    assert by_question["good"].text == "echo good"
    assert server.counts[broken] == 4


def test_a_slow_reply_is_transient():
    with FakeOpenai(latency_s=5) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, timeout_s=0.1, max_tries=2)
        [reply] = ask(teacher, "q")
    assert isinstance(reply.error, TransientError)
    assert "no reply within 0.1 s" in str(reply.error)
    assert server.asked == 2


def test_retry_after_pauses_the_endpoint(monkeypatch):
    pauses = []
    monkeypatch.setattr(RateLimiter, "pause", lambda self, seconds: pauses.append(seconds))
    with FakeOpenai(faults=[Fault(429, headers={"Retry-After": "7"})]) as server:
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert reply.text == "echo q"
    assert reply.tries == 2
    assert pauses == [7]


def test_a_wait_beyond_all_patience_stops_the_run():
    with FakeOpenai(faults=[Fault(429, headers={"Retry-After": "86400"})]) as server:
        with pytest.raises(TeacherUnusable, match="asks to wait 86400 s.*run again later"):
            ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
        assert server.asked == 1


def test_a_server_that_only_refuses_is_not_hammered():
    with FakeOpenai(fault_for=lambda messages: Fault(429)) as server:
        teacher = OpenaiChat(
            model="fake", base_url=server.base_url, max_in_flight=8, patience_s=0.5
        )
        with pytest.raises(TeacherUnusable, match="no good reply for .* HTTP 429"):
            ask(teacher, *map(str, range(500)))
        assert server.asked < 200


def test_an_empty_account_is_not_a_rate_limit():
    said = '{"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}'
    with FakeOpenai(faults=[Fault(429, said)]) as server:
        with pytest.raises(TeacherUnusable, match="no credit.*You exceeded"):
            ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
        assert server.asked == 1


def test_a_plan_whose_every_request_is_rejected_stops_early():
    with FakeOpenai(fault_for=lambda messages: Fault(400, "no such parameter")) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=4)
        with pytest.raises(TeacherUnusable, match="first 20 requests were all rejected.*no such"):
            ask(teacher, *map(str, range(500)))
        assert server.asked < 30


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(500), "HTTP 500: scripted fault; see the server's log"),
        (Fault(0), "connection to .* was lost"),
        (Fault(200, "not json"), "not a chat completion: not json"),
        (Fault(200, "<html><title>Sign in</title>"), "a web page .Sign in."),
        (Fault(200, '{"choices": [], "usage": {}}'), 'the reply has no message: {"choices"'),
        (Fault(200, '{"error": {"message": "req_1f upstream"}}'), "HTTP 200: req_1f upstream"),
    ],
)
def test_a_fault_that_lasts_stops_the_run(fault, told):
    with FakeOpenai(fault_for=lambda messages: fault) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=4)
        with pytest.raises(TeacherUnusable, match=f"8 times the same answer.*{told}"):
            ask(teacher, *map(str, range(100)))
        assert (
            server.asked <= 8 + 2 * 4
        )  # those in flight, and answers that came at the same moment


NO_MODEL = '{"error": {"message": "the model `x` does not exist"}}'


@pytest.mark.parametrize(("status", "in_all"), [(500, 2), (503, 2), (504, 2), (400, 1), (404, 2)])
def test_words_alone_stop_no_run_that_had_a_good_reply(status, in_all):
    faults = {"bad": [Fault(status, NO_MODEL)]}

    def fault_for(messages):
        left = faults.get(messages[0]["content"])
        return left.pop() if left else None

    with FakeOpenai(fault_for=fault_for) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=1)
        replies = ask(teacher, "good", "bad", "good too")
        bad = message_hash([{"role": "user", "content": "bad"}])
        assert server.counts[bad] == in_all
        texts = {reply.request.messages[0]["content"]: reply for reply in replies}
        assert texts["good too"].text == "echo good too"
        assert isinstance(texts["bad"].error, PromptRejected) == (status == 400)
        faults["first of a shard"] = [Fault(status, NO_MODEL)]
        [reply] = ask(teacher, "first of a shard")  # the next shard of the same run
        assert isinstance(reply.error, PromptRejected) == (status == 400)


def test_words_alone_stop_a_run_that_has_no_reply_unless_the_server_has_a_fault():
    for status in (200, 400, 404, 405, 422):
        with FakeOpenai(faults=[Fault(status, NO_MODEL)]) as server:
            with pytest.raises(TeacherUnusable, match="no such model.*does not exist.*correct"):
                ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
            assert server.asked == 1
    for status in (500, 502, 503, 504):
        with FakeOpenai(faults=[Fault(status, NO_MODEL)]) as server:
            [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
            assert (reply.text, server.asked) == ("echo q", 2)


def test_a_server_without_the_model_is_left_though_another_one_answered():
    with (
        FakeOpenai() as good,
        FakeOpenai(fault_for=lambda messages: Fault(400, NO_MODEL)) as lame,
    ):
        teacher = OpenaiChat(
            model="fake", base_url=good.base_url, more_urls=[lame.base_url], max_in_flight=2
        )
        replies = ask(teacher, *map(str, range(20)))
    assert sorted(reply.text for reply in replies) == sorted(f"echo {n}" for n in range(20))


def test_a_wrong_path_is_told_at_once_by_requests_and_by_check():
    class LmStudio(FakeOpenai):
        def routes(self):
            return [*super().routes(), web.route("*", "/{path:.*}", self.unexpected)]

        async def unexpected(self, request):
            where = f"({request.method} {request.path})"
            return web.json_response({"error": f"Unexpected endpoint or method. {where}"})

    with LmStudio() as server:
        lame = OpenaiChat(model="fake", base_url=server.base_url.removesuffix("/v1"))
        for use in (lambda: ask(lame, "q1", "q2"), lame.check):
            with pytest.raises(TeacherUnusable, match="Unexpected endpoint.*base_url.*/v1"):
                use()
    with FakeOpenai() as server:  # one that says 404
        lame = OpenaiChat(model="fake", base_url=server.base_url.removesuffix("/v1"))
        for use in (lambda: ask(lame, "q1", "q2"), lame.check):
            with pytest.raises(TeacherUnusable, match=server.base_url):
                use()


def test_a_limit_that_is_used_up_for_years_does_not_hang_a_run(monkeypatch):
    pauses = []
    monkeypatch.setattr(RateLimiter, "pause", lambda self, seconds: pauses.append(seconds))
    for reset in ("inf", "nan", "4102444800", "1e300", "-5", "300d"):
        limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
        body = '{"choices": [{"message": {"content": "hi"}}]}'
        with FakeOpenai(faults=[Fault(200, body, limits)]) as server:
            [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
        assert reply.text == "hi"
    assert pauses == [600.0]  # of the 300 days; the others mean no wait


@pytest.mark.parametrize("status", [400, 422])
def test_a_rejected_prompt_is_final_and_not_retried(status):
    with FakeOpenai(faults=[Fault(status)]) as server:
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert isinstance(reply.error, PromptRejected)
    assert server.asked == 1


def test_replies_on_their_way_are_yielded_before_the_stop():
    def fault_for(messages):
        return Fault(401) if messages[0]["content"] == "bad" else None

    class Slow(FakeOpenai):
        async def _chat(self, request):
            if (await request.json())["messages"][0]["content"] == "paid":
                await asyncio.sleep(0.2)
            return await super()._chat(request)

    received = []

    async def collect(teacher, requests):
        async for reply in teacher.answer(requests):
            received.append(reply.text)

    with Slow(fault_for=fault_for) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=2)
        requests = [
            Request.of("t", [{"role": "user", "content": text}], Sampling())
            for text in ("paid", "bad", "never asked")
        ]
        with pytest.raises(TeacherUnusable):
            asyncio.run(collect(teacher, requests))
    assert received == ["echo paid"]
    assert server.asked == 2


def test_nobody_listening_is_one_line():
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(
        TeacherUnusable, match=f"no teacher answers at {url}; start the server or correct"
    ):
        ask(OpenaiChat(model="fake", base_url=url), "q1", "q2")


def test_a_server_that_goes_away_stops_the_run_and_fails_no_prompt(monkeypatch):
    monkeypatch.setattr(openai_chat, "CONNECT_PATIENCE_S", 0.3)
    server = FakeOpenai()
    replies = []

    async def collect(teacher, requests):
        async for reply in teacher.answer(requests):
            replies.append(reply)
            if len(replies) == 1:
                await asyncio.to_thread(server.__exit__)

    server.__enter__()
    teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=1)
    requests = [
        Request.of("t", [{"role": "user", "content": str(n)}], Sampling()) for n in range(6)
    ]
    with pytest.raises(TeacherUnusable, match="no teacher answers") as caught:
        asyncio.run(collect(teacher, requests))
    assert replies
    assert all(reply.error is None for reply in replies)
    assert pickle.loads(pickle.dumps(caught.value))
