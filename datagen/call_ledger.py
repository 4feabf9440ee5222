"""Look up the calls that were paid for before: all that are wanted at one moment together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from datagen.teacher import Reply, Request
from warehouse.records import Call, Failure

LOOKED_UP_AT_ONCE = 2048
"""Calls in one look-up."""


class CallLedger(Protocol):
    """What a run knows of calls, and where it keeps them."""

    async def find(self, requests: Sequence[Request]) -> dict[str, Call]:
        """The usable calls among those that were paid for, by call id."""
        ...

    def refusal_of(self, request: Request) -> str | None:
        """Why a request was refused for good before; None where it was not."""
        ...

    def keep(self, record: Call | Failure, reply: Reply) -> None:
        """Store a call or a failure before anything else is done with it."""
        ...


class CallLookups:
    """Look-ups of single calls in a ledger, which is asked for many of them at once."""

    def __init__(self, ledger: CallLedger) -> None:
        self._ledger = ledger
        self._wanted: deque[tuple[Request, asyncio.Future[Call | None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def find(self, request: Request) -> Call | None:
        """The call of a request; None where it was not paid for before."""
        found: asyncio.Future[Call | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((request, found))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_up())
        return await found

    async def _look_up(self) -> None:
        await asyncio.sleep(0)  # the seeds that start together are looked up together
        while self._wanted:
            number = min(LOOKED_UP_AT_ONCE, len(self._wanted))
            several = [self._wanted.popleft() for _ in range(number)]
            try:
                calls = await self._ledger.find([request for request, _ in several])
            except BaseException as error:
                for _, future in several:
                    if not future.done():
                        future.set_exception(error)
                return
            for request, future in several:
                if not future.done():
                    future.set_result(calls.get(request.call_id))
