"""Serve a GGUF model on this machine as the teacher, in a child process."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datagen.gguf_server import GgufServer
from datagen.request_queue import RequestQueue, RequestSource, answer_all
from datagen.spending.limits import Budget
from datagen.spending.pricing import FREE, Price
from datagen.teacher import Reply, Request
from datagen.teachers.openai_chat import OpenaiChat
from warehouse.errors import TeacherUnusable
from warehouse.inputs import assets


class _Pending:
    """Requests that remember which of them have no reply yet."""

    def __init__(self, requests: RequestSource) -> None:
        self._requests = requests
        self._again: deque[Request] = deque()
        self._open: dict[str, Request] = {}

    @property
    def is_empty(self) -> bool:
        return not self._again and self._requests.is_empty

    async def next(self) -> Request | None:
        request = self._again.popleft() if self._again else await self._requests.next()
        if request is not None:
            self._open[request.subject] = request
        return request

    def done(self, request: Request) -> None:
        self._open.pop(request.subject, None)

    def ask_again(self) -> None:
        """Give out once more what has no reply."""
        self._again.extend(self._open.values())
        self._open.clear()


@dataclass(frozen=True)
class LocalGguf:
    """A GGUF model on this machine, by the name of an asset or the path of a file.

    The server starts with the first request and ends with `close` or this process.
    Its replies cost 0 USD.
    """

    model: str
    """Name of a model asset, or path of a .gguf file."""
    slots: int = 4
    """Requests answered side by side."""
    context: int = 2048
    """Context of one slot in tokens: prompt and reply together."""
    timeout_s: float = 600.0
    """Longest wait for one reply, in seconds."""
    start_timeout_s: float = 120.0
    """Longest wait for the model to load, in seconds."""

    def __post_init__(self) -> None:
        if min(self.slots, self.context) < 1 or min(self.timeout_s, self.start_timeout_s) <= 0:
            raise ValueError("slots, context, timeout_s and start_timeout_s are above 0")

    @cached_property
    def identity(self) -> str:
        """Hash of the model's file: the same weights are the same teacher, wherever they lie."""
        if self._is_asset:
            return f"local_gguf:{assets.entry(self.model).sha256}"
        with self._file().open("rb") as file:
            return f"local_gguf:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def check(self) -> list[str]:
        """Whether the model is available; nothing is downloaded or started.

        Raises:
            TeacherUnusable: it is neither an asset nor a file, or xllamacpp is missing.
        """
        GgufServer.require()
        if self._is_asset:
            state = "on hand" if assets.is_cached(self.model) else "will be fetched"
            return [f"{self.model} ({state}), served on this machine, free of charge"]
        return [f"{self._file()}, served on this machine, free of charge"]

    price: ClassVar[Price] = FREE

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request as they arrive; starts the server if it does not run.

        A server that dies is started again and gets the pending requests; one that dies
        again without a single reply is given up.
        """
        queue = RequestQueue(requests, closed=True)
        async with aclosing(answer_all(self.stream(queue, budget))) as replies:
            async for reply in replies:
                yield reply

    async def stream(
        self, requests: RequestSource, budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """The same for requests that may depend on earlier replies."""
        pending = _Pending(requests)
        if await pending.next() is None:
            return  # nothing to ask starts no server
        pending.ask_again()
        answered = True
        while True:
            replied = 0
            try:
                async with aclosing(self._stream(pending, budget)) as replies:
                    async for reply in replies:
                        pending.done(reply.request)
                        replied += 1
                        yield reply
                return
            except TeacherUnusable:
                if not answered or not await asyncio.to_thread(self._server.died):
                    raise
                answered = replied > 0
                pending.ask_again()

    async def _stream(
        self, requests: RequestSource, budget: Budget | None
    ) -> AsyncGenerator[Reply]:
        url, key = await asyncio.to_thread(self._server.address)
        teacher = OpenaiChat(
            model=Path(self.model).stem,
            base_url=f"{url}/v1",
            headers={"Authorization": f"Bearer {key}"},
            max_in_flight=self.slots,
            timeout_s=self.timeout_s,
            identity_name=self.identity,
            input_usd_per_million=0.0,
            output_usd_per_million=0.0,
        )
        async with aclosing(teacher.stream(requests, budget)) as replies:
            async for reply in replies:
                yield reply

    def close(self) -> None:
        """End the server. Safe to call twice."""
        if "_server" in self.__dict__:
            self._server.stop()

    @cached_property
    def _server(self) -> GgufServer:
        file = assets.path(self.model) if self._is_asset else self._file()
        alias = Path(self.model).stem
        return GgufServer(file, alias, self.slots, self.context, self.start_timeout_s)

    @property
    def _is_asset(self) -> bool:
        return self.model in assets.names("model")

    def _file(self) -> Path:
        if not Path(self.model).is_file():
            raise TeacherUnusable(
                f"no model '{self.model}': it is neither a file nor a known model "
                f"({', '.join(assets.names('model'))})"
            )
        return Path(self.model)
