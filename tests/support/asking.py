"""Ask a teacher a few questions, and find an address where nobody listens."""

from __future__ import annotations

import asyncio
import socket

from datagen.teacher import Reply, Request, Sampling, Teacher


def ask(teacher: Teacher, *questions: str, sampling: Sampling | None = None) -> list[Reply]:
    """The replies to questions, in the order in which they came."""
    sampling = sampling or Sampling(max_tokens=20)
    requests = [
        Request.of(teacher.identity, [{"role": "user", "content": text}], sampling)
        for text in questions
    ]

    async def collect() -> list[Reply]:
        return [reply async for reply in teacher.answer(requests)]

    return asyncio.run(collect())


def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
