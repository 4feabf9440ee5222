"""A server with every fault there is: 2,000 prompts, each one call or one permanent failure,
and no prompt whose reply arrived whole is asked again, by the server's own count."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest
from aiohttp import web

from datagen.generate import ask, requests_for
from datagen.openai import options
from datagen.spending.limits import Budget
from datagen.teacher import Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.datagen.test_generate import prompt
from tests.warehouse.test_store import store  # noqa: F401
from warehouse.db.spool import Spool
from warehouse.records import Call, Failure

PROMPTS = 800
SAMPLING = Sampling(max_tokens=20)
HOPELESS = ("too long", "filtered")


class FaultyServer:
    """A fake chat server. Each request draws a fault or a whole reply; prompts that begin with
    a word of `HOPELESS` are rejected always. `whole` counts the whole replies per prompt."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.whole: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.refusing_until = 0.0
        self.too_soon = 0

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=512).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *reason):
        await self._runner.cleanup()

    async def chat(self, request):
        body = await request.json()
        asked = body["messages"][-1]["content"]
        self.sent[asked] += 1
        moment = asyncio.get_running_loop().time()
        if (
            moment < self.refusing_until
        ):  # a burst: what was in flight with the first is refused too
            return self.refused(self.refusing_until - moment)
        for word in HOPELESS:
            if asked.startswith(word):
                error = {"error": {"message": f"the prompt is {word}", "code": word}}
                return web.json_response(error, status=400)
        fault = self.chance.choices(
            [
                "none",
                "429",
                "status",
                "reset",
                "mid-body",
                "hang",
                "half",
                "type",
                "choices",
                "null",
            ],
            [760, 4, 40, 30, 30, 4, 40, 30, 30, 32],
        )[0]
        self.faults[fault] += 1
        text = json.dumps(self.reply(asked))
        if fault == "429":
            self.refusing_until = moment + 0.2
            return self.refused(0.2)
        if fault == "status":
            return web.Response(status=self.chance.choice([500, 502, 503, 504]), text="<html>oops")
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        if fault == "mid-body":
            response = web.StreamResponse(headers={"Content-Length": str(len(text))})
            await response.prepare(request)
            await response.write(text[: len(text) // 2].encode())
            request.transport.abort()
            return response
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "half":
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        if fault == "type":
            return web.Response(text="<html>please log in</html>", content_type="text/html")
        if fault in ("choices", "null"):
            self.empty[asked] += 1
        if fault == "choices":
            return web.json_response({**self.reply(asked), "choices": []})
        if fault == "null":
            return web.json_response({**self.reply(asked), "choices": None})
        self.whole[asked] += 1
        return web.Response(text=text, content_type="application/json")

    def refused(self, seconds):
        self.faults["refused"] += 1
        return web.json_response(
            {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": f"{seconds}"}
        )

    @staticmethod
    def reply(asked):
        """Every reply has the same id, as some servers give them."""
        message = {"role": "assistant", "content": f"echo {asked}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "choices": [choice],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(options, "LONGEST_WAIT_S", 0.1)


def test_eight_hundred_prompts_each_one_call_or_one_permanent_failure(store, short_waits):  # noqa: F811
    words = [
        f"{HOPELESS[n // 100 % 2]} {n}" if n % 100 == 50 else f"question {n}"
        for n in range(PROMPTS)
    ]
    failures: list[Failure] = []

    async def go():
        async with FaultyServer(seed=7) as server:
            teacher = OpenaiChat(
                model="fake",
                base_url=server.base_url,
                max_in_flight=128,
                timeout_s=6.0,
                max_tries=40,
                input_usd_per_million=1.0,
                output_usd_per_million=1.0,
            )
            requests = requests_for([prompt(word) for word in words], teacher.identity, SAMPLING)
            budget = Budget(usd=100.0)

            def keep(record, reply):
                if isinstance(record, Call):
                    spool.append(record)
                else:
                    failures.append(record)

            with Spool(store.path) as spool:
                await ask(teacher, requests, budget, "r", "generate", keep)
                spool.drain(store)
            return server, requests, budget

    server, requests, budget = asyncio.run(go())
    by_id = {request.call_id: request.messages[0]["content"] for request in requests}
    kept = Counter(by_id[call.call_id] for call in store.read(Call))
    failed = Counter(by_id[failure.subject.partition("/")[0]] for failure in failures)
    hopeless = {word for word in words if word.startswith(HOPELESS)}
    hopeless |= {word for word, number in server.empty.items() if number == 2}
    assert failed == dict.fromkeys(hopeless, 1)
    assert kept == dict.fromkeys(set(words) - hopeless, 1)
    assert all(failure.permanent for failure in failures)
    assert {call.text == f"echo {by_id[call.call_id]}" for call in store.read(Call)} == {True}
    assert server.whole == kept, "a reply that arrived whole was asked again"
    assert min(server.faults.values()) > 0 and len(server.faults) == 11
    assert sum(call.tries for call in store.read(Call)) == sum(
        server.sent[word] for word in set(words) - hopeless
    )
    assert budget.in_flight == 0 and budget.reserved_usd == 0.0
    assert budget.spent_usd - budget.lost_usd == pytest.approx(len(kept) * 15e-6)
