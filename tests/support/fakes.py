"""A fake OpenAI-compatible server on the loopback, in a thread of its own.

    with FakeOpenai(lambda messages: "hello") as server:
        OpenaiChat(model="fake", base_url=server.base_url)

`faults` are served first, one per request; `counts` tells how often each conversation
was asked, by the hash of its messages.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from warehouse.records import Message, make_id

Say = Callable[[list[Message]], "str | dict[str, Any]"]


def message_hash(messages: list[Message]) -> str:
    """The key of `FakeOpenai.counts`."""
    return make_id(messages)


@dataclass(frozen=True)
class Fault:
    """A reply that goes wrong: a status with body and headers, or a connection cut (status 0)."""

    status: int
    body: str = '{"error": {"message": "scripted fault"}}'
    headers: dict[str, str] = field(default_factory=dict)


class LoopbackServer:
    """An aiohttp server in a thread of its own, for as long as the context lasts."""

    base_url = ""
    port = 0
    """Where it listens; 0 for any free port."""

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        raise NotImplementedError

    def middlewares(self) -> list[Any]:
        """What stands before all routes."""
        return []

    def tls(self) -> Any:
        """Its certificate; None where it talks plainly."""
        return None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *reason: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        app = web.Application(middlewares=self.middlewares(), client_max_size=2**28)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        tls = self.tls()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()
        self.base_url = (
            f"{'https' if tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        )

    async def _shut(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class FakeOpenai(LoopbackServer):
    """Context manager; `say(messages)` gives a text, or a dict merged over the whole reply."""

    def __init__(
        self,
        say: Say = lambda messages: f"echo {messages[-1]['content']}",
        *,
        latency_s: float = 0.0,
        faults: Iterable[Fault] = (),
        fault_for: Callable[[list[Message]], Fault | None] = lambda messages: None,
        models: Iterable[str] = ("fake", "m"),
    ) -> None:
        self.say, self.latency_s, self.fault_for = say, latency_s, fault_for
        self.faults, self.models = deque(faults), list(models)
        self.counts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0

    @property
    def asked(self) -> int:
        """How many chat requests arrived."""
        return self.counts.total()

    def routes(self) -> list[web.RouteDef]:
        """Chat completions and the list of models."""
        return [
            web.post("/v1/chat/completions", self._chat),
            web.get("/v1/models", self._list),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = body["messages"]
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.counts[message_hash(messages)] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            fault = self.faults.popleft() if self.faults else self.fault_for(messages)
            if fault is None:
                return web.json_response(self._completion(messages))
            if fault.status == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=fault.status or 500, text=fault.body, headers=fault.headers)
        finally:
            self.in_flight -= 1

    def _completion(self, messages: list[Message]) -> dict[str, Any]:
        said = self.say(messages)
        text = said if isinstance(said, str) else ""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage = {
            "prompt_tokens": sum(len(message["content"].split()) for message in messages),
            "completion_tokens": len(text.split()),
        }
        reply = {"id": "fake-1", "object": "chat.completion", "choices": [choice], "usage": usage}
        return {**reply, **said} if isinstance(said, dict) else reply
