"""Servers whose meter cannot be believed: no claim moves a budget beyond its cap by more than a reply."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from datagen.openai.read_reply import read_reply
from datagen.openai.usage import MARK, check_usage, read_usage
from datagen.spending.limits import Budget
from datagen.spending.pricing import Price, Usage
from datagen.teacher import Reply, Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.fakes import FakeOpenai
from warehouse.errors import BudgetReached

WORDS = 60
"""Tokens that each reply really has; the prompts have as many."""
SAMPLING = Sampling(max_tokens=WORDS)


def usage(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


METERS = {
    "honest": lambda p, c: usage(p, c),
    "negative": lambda p, c: usage(-p, -10 * c),
    "zero": lambda p, c: usage(0, 0),
    "missing": lambda p, c: None,
    "text": lambda p, c: usage("n/a", "many"),
    "huge": lambda p, c: usage(10**12, 10**12),
    "fractions": lambda p, c: usage(p + 0.5, c - 0.5),
    "swapped": lambda p, c: usage(c // 8, p),
    "one": lambda p, c: usage(1, 1),
    "not a number": lambda p, c: usage("NaN", "NaN"),
    "null": lambda p, c: usage(None, None, prompt_tokens_details=None),
    "doubled": lambda p, c: usage(2 * p, 2 * c),
    "more cached than read": lambda p, c: usage(p, c, prompt_tokens_details={"cached_tokens": 9 * p}),
    "total alone": lambda p, c: {"total_tokens": p + c},
    "a list": lambda p, c: [p, c],
    "true": lambda p, c: usage(True, True),
    "negative cache": lambda p, c: usage(p, c, prompt_tokens_details={"cached_tokens": -(10**9)}),
    "beyond 64 bits": lambda p, c: usage(2**70, 2**63),
}  # fmt: skip


class Metered(FakeOpenai):
    """Replies of a known length, with a meter that may lie; `reading` is what is really used."""

    def __init__(self, meter, length=lambda: WORDS):
        super().__init__(self.reply, latency_s=0.005)
        self.meter, self.length, self.reading = meter, length, []

    def reply(self, messages):
        prompt, completion = len(messages[0]["content"].split()), self.length()
        self.reading.append((prompt, completion))
        choice = {"message": {"content": "token " * completion}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": self.meter(prompt, completion)}


def spend(server, budget, in_flight=16, prompts=110):
    """Ask until the budget is reached; the replies."""
    teacher = OpenaiChat(
        model="fake", base_url=server.base_url, max_in_flight=in_flight,
        input_usd_per_million=1000.0, output_usd_per_million=4000.0,
    )  # fmt: skip
    texts = [f"{n} " + "question " * (WORDS - 1) for n in range(prompts)]
    requests = [Request.of("t", [{"role": "user", "content": text}], SAMPLING) for text in texts]
    replies = []

    async def collect():
        async for reply in teacher.answer(requests, budget):
            replies.append(reply)

    with pytest.raises(BudgetReached):
        asyncio.run(collect())
    assert budget.in_flight == 0
    return replies


ONE_USD = (WORDS * 1000 + WORDS * 4000) / 1e6


@pytest.mark.parametrize("meter", METERS.values(), ids=METERS)
def test_no_meter_moves_a_budget_beyond_its_cap(meter):
    for budget in (Budget(usd=12.0), Budget(tokens=9_000)):
        with Metered(meter) as server:
            replies = spend(server, budget)
        usd = sum(p * 1000 + c * 4000 for p, c in server.reading) / 1e6
        tokens = sum(p + c for p, c in server.reading)
        assert budget.usd is None or 0 < usd <= budget.usd
        assert budget.tokens is None or 0 < tokens <= budget.tokens
        assert len(replies) == len(server.reading) >= 5
        for reply in replies:
            assert reply.usage.prompt_tokens > 0 and reply.usage.completion_tokens > 0
            assert 0 <= reply.usage.cached_tokens <= reply.usage.prompt_tokens
            assert 0.2 * ONE_USD < reply.cost_usd < 5 * ONE_USD
            assert reply.usage.measured == (MARK in reply.raw)
            assert reply.raw["usage"] == json.loads(json.dumps(meter(*server.reading[0]))) or (
                meter is METERS["beyond 64 bits"]
            )


@pytest.mark.parametrize("in_flight", [1, 4, 32])
def test_replies_that_overrun_their_reservation_exceed_a_cap_by_one_reply_at_most(in_flight):
    chance = random.Random(in_flight)
    lengths = iter(chance.choice([1, WORDS, 2 * WORDS]) for _ in range(1000))
    budget = Budget(tokens=9_000)
    with Metered(METERS["honest"], lambda: next(lengths)) as server:
        spend(server, budget, in_flight)
    assert budget.spent_tokens == sum(p + c for p, c in server.reading)
    assert budget.spent_tokens <= budget.tokens + 3 * WORDS


def test_what_was_measured_counts_in_full_and_is_told():
    budget = Budget(usd=20.0)
    with Metered(METERS["missing"]) as server:
        replies = spend(server, budget)
    recorded = sum(reply.cost_usd for reply in replies)
    assert budget.spent_usd == pytest.approx(recorded + budget.unmetered_usd)
    assert budget.spent_usd <= budget.usd < budget.spent_usd + 2.0
    marks = [reply.raw[MARK] for reply in replies]
    assert {tuple(mark["measured"]) for mark in marks} == {("completion_tokens", "prompt_tokens")}
    more_usd = sum(mark["unmetered"]["usd"] for mark in marks)  # what a later run counts by
    assert more_usd == pytest.approx(budget.unmetered_usd)
    assert sum(mark["unmetered"]["tokens"] for mark in marks) == budget.unmetered_tokens > 0


def reply_with(reported, text="some words", messages=None, **sampling):
    messages = messages or [{"role": "user", "content": "What is it?"}]
    request = Request.of("t", messages, Sampling(**sampling))
    return Reply(request, text=text, raw={"usage": reported})


def test_reasoning_that_is_not_shown_and_pictures_are_believed():
    hidden = check_usage(reply_with(usage(12, 500), max_tokens=512), None, {})
    assert hidden.usage == Usage(12, 500)
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    picture = [{"role": "user", "content": parts}]
    seen = check_usage(reply_with(usage(2_000, 5), messages=picture), None, {})
    assert seen.usage == Usage(2_000, 5)
    many = check_usage(reply_with(usage(12, 80), max_tokens=20), None, {"n": 4})
    assert many.usage == Usage(12, 80)


def test_only_what_is_not_credible_is_measured():
    found = check_usage(reply_with(usage(12, -1)), Price(1.0, 1.0), {})
    assert found.usage == Usage(12, 3, measured=True)  # 10 bytes / 4
    assert found.cost_usd == pytest.approx(15e-6)
    assert found.raw == {"usage": usage(12, -1), MARK: {"measured": ["completion_tokens"]}}
    nothing = check_usage(reply_with(usage(12, 0), text=""), None, {})
    assert nothing.usage == Usage(12, 0)


@pytest.mark.parametrize(
    "value", [None, "n/a", [], {}, True, -1, float("nan"), 1e300, 10**400, "inf"]
)
def test_what_is_no_count_is_none(value):
    assert read_usage(usage(value, value)) == Usage()
    assert read_usage(value) == Usage()


def test_a_reply_is_read_with_the_same_counts():
    details = {"cached_tokens": 3, "cache_write_tokens": 2}
    for reported in (usage("12", 5.0), usage(9, 1, prompt_tokens_details=details), None, [1], "x"):
        raw = {"choices": [{"message": {"content": "Oslo"}}], "usage": reported}
        reply = read_reply(reply_with(None).request, raw, 0.1, None)
        assert reply.usage == read_usage(reported)


def test_counts_are_read_as_servers_write_them():
    assert read_usage(usage("12", 5.0)) == Usage(12, 5)
    details = {"cached_tokens": 3, "cache_write_tokens": 2}
    assert read_usage(usage(9, 1, prompt_tokens_details=details)) == Usage(9, 1, 3, 2)
