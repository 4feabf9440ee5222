"""A chat teacher: what it sends, what it keeps of replies, its budget and its servers."""

import asyncio

import pytest

from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask, closed_port
from tests.support.fakes import FakeOpenai, Fault
from warehouse.errors import BudgetReached


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
