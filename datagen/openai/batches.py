"""Upload, follow and download batches of an OpenAI-compatible batch API.

A call is tried again while the server has a passing fault; nothing is ever submitted twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay

from datagen.openai.endpoint import Endpoint
from datagen.openai.options import backoff_s
from datagen.openai.parse_body import UnreadableReply, parse_body
from warehouse.errors import PromptRejected, TeacherUnusable, TransientError

log = logging.getLogger(__name__)
T = TypeVar("T")

PATH = "/v1/chat/completions"
ENDED = {"completed", "expired", "cancelled", "failed"}
MARK = "stillhouse"
"""The key of a batch's metadata that tells whose it is."""
FORGOTTEN_S = 32 * 86400
"""Older batches are not looked at: their files are gone."""
FIRST_POLL_S = 1.0


@dataclass(frozen=True)
class Batches:
    """The batches at an endpoint that carry one mark."""

    endpoint: Endpoint
    mark: str
    patience_s: float
    """Longest time without an answer of the server."""
    poll_s: float
    """Longest wait between two looks at a batch."""

    async def ours(self) -> list[Any]:
        """What the server says of each batch with the mark, newest first."""

        async def listed() -> list[Any]:
            batches = []
            async for batch in self.endpoint.client.batches.list(limit=100):
                if batch.created_at < time.time() - FORGOTTEN_S:
                    break
                if (batch.metadata or {}).get(MARK) == self.mark:
                    batches.append(batch)
            return batches

        return await self._call(listed)

    async def submit(self, name: str, content: bytes) -> Any:
        """Upload a file of requests and make a batch of it."""
        client = self.endpoint.client
        upload = partial(client.files.create, file=(name, content), purpose="batch")
        file = await self._call(upload)
        sent: list[bool] = []

        async def created() -> Any:
            if sent:  # a reply that was lost may have left a batch behind: the one with this file
                for batch in await self.ours():
                    if batch.input_file_id == file.id:
                        return batch
            sent.append(True)
            return await client.batches.create(
                input_file_id=file.id,
                endpoint=PATH,
                completion_window="24h",
                metadata={MARK: self.mark},
            )

        return await self._call(created)

    async def ended(self, batch_id: str) -> Any:
        """Wait for a batch's end; what the server then says of it."""
        look = partial(self.endpoint.client.batches.retrieve, batch_id)
        wait, reported = FIRST_POLL_S, None
        while (batch := await self._call(look)).status not in ENDED:
            done = batch.request_counts
            now = f"{batch.status}, {done.completed} of {done.total} done" if done else batch.status
            if now != reported:
                log.info("batch %s: %s", batch_id, now)
            reported = now
            await asyncio.sleep(min(wait, self.poll_s))
            wait *= 1.5
        log.info("batch %s: %s", batch_id, batch.status)
        return batch

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch; what it has done by then is charged, and can be had."""
        await self._call(partial(self.endpoint.client.batches.cancel, batch_id))

    async def lines(self, file_id: str) -> list[dict[str, Any]] | None:
        """The objects of a JSONL file, other lines passed over; None where the file is gone."""
        import openai

        async def read() -> bytes | None:
            try:
                content: bytes = (await self.endpoint.client.files.content(file_id)).content
            except openai.NotFoundError:
                return None
            return content

        content = await self._call(read)
        if content is None:
            return None
        objects = (_object(line) for line in content.splitlines())
        return [line for line in objects if line is not None]

    async def forget(self, file_id: str) -> None:
        """Delete an input file: its batch need not be looked at again."""
        import openai

        try:
            await self.endpoint.client.files.delete(file_id)
        except openai.OpenAIError as error:  # it is read once more by the next run, no more
            log.info("file %s stays at the server (%s)", file_id, type(error).__name__)

    async def _call(self, job: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            return await self.endpoint.call(job())

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=_wait_s,
            stop=stop_after_delay(self.patience_s),
            reraise=True,
        )
        try:
            return await attempts(once)
        except TransientError as fault:
            raise TeacherUnusable(
                f"{fault}; run again later, batches that were submitted go on at the server"
            ) from None
        except PromptRejected as fault:
            raise self.endpoint.unusable(str(fault)) from None


def _wait_s(call: RetryCallState) -> float:
    fault = call.outcome.exception() if call.outcome else None
    return max(backoff_s(call.attempt_number), getattr(fault, "retry_after_s", None) or 0.0)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        return parse_body(line)
    except UnreadableReply:
        return None
