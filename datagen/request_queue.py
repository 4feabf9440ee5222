"""Hand requests of live coroutines to a teacher, one by one or all that wait."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Protocol

from datagen.spending.limits import Budget
from datagen.teacher import Reply, Request, Teacher
from warehouse.errors import BudgetReached, TransientError


class RequestSource(Protocol):
    """Where a teacher that streams takes its requests from."""

    @property
    def is_empty(self) -> bool:
        """Whether no request waits at this moment; more may come."""
        ...

    async def next(self) -> Request | None:
        """The next request; waits for one. None: there will be no more."""
        ...


class RequestQueue:
    """Requests as they come. One event loop uses it."""

    def __init__(self, requests: Iterable[Request] = (), closed: bool = False) -> None:
        self._waiting = [(0, number, request) for number, request in enumerate(requests)]
        self._number = len(self._waiting)
        self._closed = closed
        self._takers: deque[asyncio.Future[None]] = deque()
        self._flush = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no request waits at this moment."""
        return not self._waiting

    def put(self, request: Request, order: int = 0) -> None:
        """Add a request; lower orders go first, so that seeds that have begun are finished."""
        self._number += 1
        heapq.heappush(self._waiting, (order, self._number, request))
        self._wake(1)

    def close(self) -> None:
        """Say that no more requests will come."""
        self._closed = True
        self._flush.set()
        self._wake(len(self._takers))

    def flush(self) -> None:
        """Say that nothing more comes before what waits is answered."""
        if self._waiting:
            self._flush.set()

    async def next(self) -> Request | None:
        """The next request; waits for one. None: there will be no more."""
        while not self._waiting:
            if self._closed:
                return None
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            await taker
        return heapq.heappop(self._waiting)[-1]

    async def begins(self) -> bool:
        """Wait for the first request; false where none comes at all."""
        first = await self.next()
        if first is not None:
            heapq.heappush(self._waiting, (-1, 0, first))
        return first is not None

    async def all_waiting(self) -> list[Request]:
        """All requests, once nothing more comes before these are answered; empty at the end."""
        await self._flush.wait()
        requests = [request for _, _, request in sorted(self._waiting)]
        self._waiting.clear()
        if not self._closed:
            self._flush.clear()
        return requests

    def _wake(self, number: int) -> None:
        while number > 0 and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                number -= 1


async def answer_all(stream: AsyncGenerator[Reply]) -> AsyncGenerator[Reply]:
    """The replies of a stream of requests that are all known, as `Teacher.answer` gives them.

    Raises:
        BudgetReached: at the end, where requests did not fit the budget.
    """
    reached: BudgetReached | None = None
    async with aclosing(stream) as replies:
        async for reply in replies:
            if isinstance(reply.error, BudgetReached):
                reached = reached or reply.error
            else:
                yield reply
    if reached is not None:
        raise reached


async def stream_replies(
    teacher: Teacher, requests: RequestQueue, budget: Budget
) -> AsyncGenerator[Reply]:
    """One reply per request as they arrive, from any teacher.

    A teacher with `stream` gets each request at once. Any other, such as a batch API, gets all that
    wait as soon as nothing more comes before they are answered.
    """
    if not await requests.begins():
        return  # all is recorded: no key, no server and no model is needed
    stream = getattr(teacher, "stream", None)
    if stream is not None:
        async with aclosing(stream(requests, budget)) as replies:
            async for reply in replies:
                yield reply
        return
    while together := await requests.all_waiting():
        left = {request.subject: request for request in together}
        async with aclosing(teacher.answer(list(left.values()), budget)) as replies:
            async for reply in replies:
                left.pop(reply.request.subject, None)
                yield reply
        for request in left.values():
            yield Reply(request, error=TransientError("the teacher gave no reply to the request"))
