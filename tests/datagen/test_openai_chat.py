import asyncio
import logging
import pickle
import socket

import pytest
from aiohttp import web

from datagen.openai import options
from datagen.spending.limits import Budget, RateLimiter
from datagen.teacher import Request, Sampling
from datagen.teachers import openai_chat
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.fakes import FakeOpenai, Fault, message_hash
from warehouse.errors import BudgetReached, PromptRejected, TeacherUnusable, TransientError

KEY = "sk-very-secret-key-0001"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.01)


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
        long = Sampling(max_tokens=500)
        [reply] = ask(priced, "q", sampling=long)
        [unpriced] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q", sampling=long)
    assert reply.cost_usd == pytest.approx(0.004)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1000, 500)
    assert reply.raw["id"] == "fake-1"
    assert "prompt" not in reply.raw
    assert unpriced.cost_usd is None


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


def test_json_that_only_some_servers_write_is_read_and_not_paid_for_again():
    body = (
        '{"choices": [{"message": {"content": "cut \\ud83d"}, "finish_reason": "length", "logprobs": '
        '{"content": [{"token": "a", "logprob": -Infinity}, {"token": "b", "logprob": NaN}]}}]}'
    )
    plain = body.replace("NaN", "-1.5")
    with FakeOpenai(faults=[Fault(200, plain)]) as server:
        [reply] = ask(OpenaiChat(model="fake", base_url=server.base_url), "q")
    assert server.asked == 1 and reply.error is None
    assert reply.text == "cut ?"
    assert reply.logprobs == {"tokens": ["a", "b"], "logprobs": [-9999.0, -1.5], "top": [[], []]}


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


def test_servers_of_one_model_share_the_work_and_one_may_die():
    with FakeOpenai(latency_s=0.02) as one, FakeOpenai(latency_s=0.02) as two:
        teacher = OpenaiChat(
            model="fake", base_url=one.base_url, more_urls=[two.base_url], max_in_flight=4
        )
        assert len(ask(teacher, *map(str, range(40)))) == 40
        assert one.asked + two.asked == 40
        assert min(one.asked, two.asked) >= 10
        dead = f"http://127.0.0.1:{closed_port()}/v1"
        lame = OpenaiChat(model="fake", base_url=one.base_url, more_urls=[dead], max_in_flight=4)
        assert lame.identity == OpenaiChat(model="fake", base_url=one.base_url).identity
        assert all(reply.error is None for reply in ask(lame, *map(str, range(40, 60))))


def test_the_budget_is_never_exceeded_and_is_told_when_it_is_reached():
    says = {"usage": {"prompt_tokens": 10, "completion_tokens": 20}}
    with FakeOpenai(lambda messages: says, latency_s=0.01) as server:
        teacher = OpenaiChat(
            model="fake",
            base_url=server.base_url,
            max_in_flight=64,
            input_usd_per_million=1.0,
            output_usd_per_million=10.0,
        )
        budget = Budget(usd=0.01)
        received = []

        async def collect():
            requests = [
                Request.of("t", [{"role": "user", "content": str(n)}], Sampling(max_tokens=20))
                for n in range(500)
            ]
            async for reply in teacher.answer(requests, budget):
                received.append(reply)

        with pytest.raises(BudgetReached, match="budget_usd = 0.01 is reached"):
            asyncio.run(collect())
    spent = sum(reply.cost_usd for reply in received)
    assert spent == pytest.approx(budget.spent_usd)
    assert 0.009 < spent <= 0.01
    assert server.asked == len(received)
    assert budget.in_flight == 0


def test_a_lost_reply_counts_against_the_budget_in_full():
    with FakeOpenai(faults=[Fault(0), Fault(500)]) as server:
        teacher = OpenaiChat(
            model="fake",
            base_url=server.base_url,
            input_usd_per_million=1.0,
            output_usd_per_million=1.0,
        )
        budget = Budget()

        async def collect():
            request = Request.of("t", [{"role": "user", "content": "q"}], Sampling(max_tokens=20))
            return [reply async for reply in teacher.answer([request], budget)]

        [reply] = asyncio.run(collect())
    most = teacher.most(reply.request)
    assert reply.tries == 3
    assert budget.lost_tokens == most.tokens
    assert budget.spent_usd == pytest.approx(most.usd + reply.cost_usd)


def test_reasoning_and_logprobs_are_kept_apart_from_the_answer():
    def says(messages):
        content = {"inline": "<think>hm, 6 x 7</think>\n42", "cut": "<think>hm"}
        message = {"role": "assistant", "content": content.get(messages[0]["content"], "42")}
        if messages[0]["content"] == "field":
            message["reasoning_content"] = "hm, 6 x 7"
        top = [{"token": "42", "logprob": -0.123456}, {"token": "43", "logprob": -3.0}]
        logprobs = {"content": [{"token": "42", "logprob": -0.123456, "top_logprobs": top}]}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
        return {"choices": [choice]}

    with FakeOpenai(says) as server:
        teacher = OpenaiChat(model="fake", base_url=server.base_url, omit=["temperature"])
        form = {"type": "json_object"}
        drawn = Sampling(max_tokens=20, top_logprobs=2, response_format=form)
        replies = ask(teacher, "inline", "cut", "field", sampling=drawn)
        body = server.bodies[0]
    by_question = {reply.request.messages[0]["content"]: reply for reply in replies}
    assert [by_question[q].text for q in ("inline", "cut", "field")] == ["42", "", "42"]
    assert by_question["inline"].reasoning == by_question["field"].reasoning == "hm, 6 x 7"
    assert by_question["cut"].reasoning == "hm"
    assert by_question["field"].logprobs == {
        "tokens": ["42"],
        "logprobs": [-0.1235],
        "top": [[["42", -0.1235], ["43", -3.0]]],
    }
    assert "logprobs" not in by_question["field"].raw["choices"][0]
    assert (body["logprobs"], body["top_logprobs"], body["response_format"]) == (True, 2, form)
    assert "temperature" not in body
    assert "without temperature" in teacher.identity


def test_a_key_from_a_file_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    (tmp_path / "keys.env").write_text(f"MY_KEY={KEY}\n")
    with FakeOpenai() as server:
        teacher = OpenaiChat(
            model="fake",
            base_url=server.base_url,
            api_key_env="MY_KEY",
            env_file=str(tmp_path / "keys.env"),
        )
        ask(teacher, "q")
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(teacher)


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
        with pytest.raises(TeacherUnusable, match=r"not among the 1 model .* \(fake\)"):
            OpenaiChat(model="fakr", base_url=server.base_url).check()
        assert server.asked == 0
    with pytest.raises(TeacherUnusable, match="no teacher answers"):
        OpenaiChat(model="fake", base_url=server.base_url).check()


@pytest.mark.parametrize(
    ("model", "listed"),
    [("llama3", "llama3:latest"), ("gemini-2.5-flash", "models/gemini-2.5-flash")],
)
def test_check_knows_a_model_under_the_name_that_its_server_lists(model, listed):
    with FakeOpenai(models=["other", listed]) as server:
        assert OpenaiChat(model=model, base_url=server.base_url).check()


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


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/completions/", "/completions?a=b"])
def test_a_base_url_that_is_a_whole_endpoint_is_refused_with_the_right_one(path):
    with pytest.raises(ValueError, match=r"ends before .*completions: http://127\.0\.0\.1:1/v1$"):
        OpenaiChat(model="m", base_url=f"http://127.0.0.1:1/v1{path}")
