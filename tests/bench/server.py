"""A chat server for measurements, in a process of its own: `python -m tests.bench.server 0.2`.

Every request is answered after the given latency, or with `tail` after a log-normal one with that
median that its messages determine. The first line printed is the address.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys

from aiohttp import web

SAID = "The answer is forty-two, as everybody knows by now."
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": SAID},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
    }
).encode()


LONGEST = 20.0
"""The longest wait of a long-tailed latency, in medians."""


def tail_latency_s(text: str, median_s: float) -> float:
    """A log-normal wait (sigma 1) that the last message's text determines."""
    z = random.Random(text).gauss(0.0, 1.0)
    return median_s * min(math.exp(z), LONGEST)


async def main(latency_s: float, has_tail: bool) -> None:
    """Serve until standard input closes."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.read()
        wait_s = latency_s
        if has_tail:
            wait_s = tail_latency_s(json.loads(body)["messages"][-1]["content"], latency_s)
        await asyncio.sleep(wait_s)
        return web.Response(body=BODY, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), "tail" in sys.argv[2:]))
