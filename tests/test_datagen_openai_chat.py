import asyncio
import logging
import pickle
import socket

import pytest

from datagen.teacher import Request, Sampling
from datagen.teachers import openai_chat
from datagen.teachers.openai_chat import OpenaiChat
from tests.fakes import FakeOpenai, Fault, message_hash
from warehouse.errors import PromptRejected, TeacherUnusable, TransientError

KEY = "sk-very-secret-key-0001"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(openai_chat, "FIRST_WAIT_S", 0.01)


def ask(teacher, *questions, sampling=Sampling(max_tokens=20)):
    requests = [
        Request.of(teacher.identity, [{"role": "user", "content": text}], sampling)
        for text in questions
    ]

    async def collect():
        return [reply async for reply in teacher.answer(requests)]

    return asyncio.run(collect())


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_answers_every_request_once_within_the_limit_in_flight():
    with FakeOpenai(latency_s=0.02) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=3)
        questions = [f"q{n}" for n in range(12)]
        replies = ask(teacher, *questions)
    assert sorted(reply.text for reply in replies) == sorted(f"echo {q}" for q in questions)
    assert set(server.counts.values()) == {1}
    assert server.asked == 12
    assert 1 < server.most_in_flight <= 3


def test_replies_arrive_as_they_come():
    def slow_first(messages):
        return messages[-1]["content"]

    class Uneven(FakeOpenai):
        async def _chat(self, request):
            if (await request.json())["messages"][0]["content"] == "slow":
                await asyncio.sleep(0.3)
            return await super()._chat(request)

    with Uneven(slow_first) as server:
        replies = ask(OpenaiChat(model="fake", base_url=server.base_url), "slow", "quick")
    assert [reply.text for reply in replies] == ["quick", "slow"]


def test_sends_what_sampling_says_and_extra_body():
    with FakeOpenai() as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, extra_body={"top_k": 5})
        drawn = Sampling(temperature=0.7, max_tokens=9, top_p=0.9, seed=3, stop=["\n"])
        ask(teacher, "q", sampling=drawn)
    assert server.bodies == [
        {
            "model": "fake",
            "messages": [{"role": "user", "content": "q"}],
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 9,
            "seed": 3,
            "stop": ["\n"],
            "top_k": 5,
        }
    ]


def test_cost_and_usage_and_raw_without_echo():
    says = {"prompt": "the echo", "usage": {"prompt_tokens": 1000, "completion_tokens": 500}}
    with FakeOpenai(lambda messages: says) as server:
        priced = OpenaiChat(
            model="fake",
            base_url=server.base_url,
            input_usd_per_million=2.0,
            output_usd_per_million=4.0,
        )
        [reply] = ask(priced, "q")
        [unpriced] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert reply.cost_usd == pytest.approx(0.004)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1000, 500)
    assert reply.raw["id"] == "fake-1"
    assert "prompt" not in reply.raw
    assert unpriced.cost_usd is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429), Fault(500), Fault(503), Fault(0), Fault(200, "not json"),
        Fault(200, '{"choices": []}'), Fault(200, '{"error": {"message": "upstream"}}'),
    ],
    ids=["429", "500", "503", "cut", "not json", "no choices", "error as 200"],
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


def test_retry_after_is_waited_for(monkeypatch):
    waits = []

    async def no_sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(openai_chat, "_sleep", no_sleep)
    with FakeOpenai(faults=[Fault(429, headers={"Retry-After": "7"})]) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url)
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
        assert reply.text == "echo q"
        assert max(waits) == 7
        server.faults.append(Fault(429, headers={"Retry-After": "86400"}))
        [reply] = ask(teacher, "q")
    assert isinstance(reply.error, TransientError)
    assert reply.error.retry_after_s == 86400
    assert server.asked == 3


def test_retry_after_as_a_date():
    assert openai_chat._retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert openai_chat._retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e8
    assert openai_chat._retry_after({"retry-after": "soon"}) is None
    assert openai_chat._retry_after({}) is None


@pytest.mark.parametrize("status", [400, 422])
def test_a_rejected_prompt_is_final_and_not_retried(status):
    with FakeOpenai(faults=[Fault(status)]) as server:
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert isinstance(reply.error, PromptRejected)
    assert server.asked == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_unusable_teacher_stops_at_once_and_never_tells_the_key(status, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    fault = Fault(status, f'{{"error": {{"message": "bad key {KEY}"}}}}')
    with FakeOpenai(fault_for=lambda messages: fault) as server:
        teacher = OpenaiChat(
            model="fake-7b", base_url=server.base_url, api_key_env="MY_KEY", max_in_flight=1
        )
        with pytest.raises(TeacherUnusable) as caught:
            ask(teacher, "q1", "q2")
    message = str(caught.value)
    assert "fake-7b" in message
    assert server.base_url in message
    assert "\n" not in message
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.asked == 1
    assert KEY not in message
    assert KEY not in caplog.text
    assert KEY not in repr(teacher)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_the_key_is_kept_out_of_raw_and_failures(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    leaky = Fault(400, f"you sent {KEY}")
    with FakeOpenai(lambda messages: {"debug": f"key={KEY}"}) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, api_key_env="MY_KEY")
        [reply] = ask(teacher, "q")
        server.faults.append(leaky)
        [failed] = ask(teacher, "q")
    assert reply.raw["debug"] == "key=[redacted]"
    assert KEY not in str(failed.error)
    assert "you sent" in str(failed.error)


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
    with pytest.raises(TeacherUnusable, match=f"no teacher answers at {url}; start it or mend"):
        ask(OpenaiChat(model="fake", base_url=url), "q1", "q2")


def test_a_server_that_goes_away_fails_only_what_was_left():
    server = FakeOpenai()
    texts, errors = [], []

    async def collect(teacher, requests):
        async for reply in teacher.answer(requests):
            (errors if reply.error else texts).append(reply.error or reply.text)
            if len(texts) == 1 and not errors:
                await asyncio.to_thread(server.__exit__)

    server.__enter__()
    teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=1, max_tries=2)
    requests = [
        Request.of("t", [{"role": "user", "content": str(n)}], Sampling()) for n in range(6)
    ]
    asyncio.run(collect(teacher, requests))
    assert texts
    assert errors
    assert len(texts) + len(errors) == 6
    assert all(isinstance(error, TransientError) for error in errors)
    assert pickle.loads(pickle.dumps(errors[-1]))


def test_closing_early_stops_asking():
    async def first(teacher, requests):
        replies = teacher.answer(requests)
        reply = await anext(replies)
        await replies.aclose()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return reply, left

    with FakeOpenai() as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, max_in_flight=2)
        requests = [
            Request.of("t", [{"role": "user", "content": str(n)}], Sampling()) for n in range(50)
        ]
        reply, left = asyncio.run(first(teacher, requests))
    assert reply.text.startswith("echo")
    assert server.asked < 50
    assert not left


def test_a_key_that_is_not_set_is_one_line(monkeypatch):
    monkeypatch.delenv("MISSING_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    named = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1", api_key_env="MISSING_KEY")
    with pytest.raises(TeacherUnusable, match="MISSING_KEY is not set"):
        ask(named, "q")
    with pytest.raises(TeacherUnusable, match="OPENAI_API_KEY is not set"):
        OpenaiChat(model="m").check()


def test_no_key_is_needed_elsewhere(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeOpenai() as server:
        ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert server.headers[0]["Authorization"] == "Bearer not-needed"


def test_check_asks_for_the_models_only():
    with FakeOpenai(models=["fake"]) as server:
        assert OpenaiChat(model="fake", base_url=server.base_url).check() == [
            f"fake at {server.base_url}"
        ]
        [line] = OpenaiChat(model="fakr", base_url=server.base_url).check()
        assert "not among the 1 models" in line
        assert server.asked == 0
    with pytest.raises(TeacherUnusable, match="no teacher answers"):
        OpenaiChat(model="fake", base_url=server.base_url).check()


def test_identity_is_model_url_and_body():
    here = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1")
    assert here.identity == OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1/").identity
    assert here.identity != OpenaiChat(model="m", base_url="http://127.0.0.1:2/v1").identity
    assert here.identity != OpenaiChat(model="n", base_url="http://127.0.0.1:1/v1").identity
    body = OpenaiChat(model="m", base_url="http://127.0.0.1:1/v1", extra_body={"a": 1})
    assert body.identity != here.identity
    assert OpenaiChat(model="m", identity_name="mine").identity == "mine"


@pytest.mark.parametrize(
    "options",
    [
        {"model": " "}, {"model": "m", "base_url": "localhost"}, {"model": "m", "max_tries": 0},
        {"model": "m", "max_in_flight": 0}, {"model": "m", "timeout_s": 0},
        {"model": "m", "input_usd_per_million": 1.0},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError):
        OpenaiChat(**options)
