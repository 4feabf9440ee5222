"""Call a teacher through an OpenAI-compatible batch API: half the price, hours for seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import orjson

from datagen.openai.batches import ENDED, PATH, Batches
from datagen.openai.endpoint import EmptyReply, Endpoint
from datagen.openai.options import OpenaiApi, arriving
from datagen.openai.parse_body import UnreadableReply
from datagen.spending.limits import Budget, RateLimiter
from datagen.spending.pricing import Price, batch_factor_of
from datagen.teacher import Reply, Request
from warehouse.errors import (
    Outcome,
    PromptRejected,
    StillhouseError,
    TeacherError,
    TeacherUnusable,
    TooExpensive,
    TransientError,
)
from warehouse.records import make_id

log = logging.getLogger(__name__)

USUAL_FACTOR = 0.5
MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000
"""Of one batch; the API takes 50,000 requests and 200 MB."""
CROWDED = "token_limit_exceeded"


@dataclass
class _Batch:
    """A batch at the server, and what of it is wanted."""

    id: str
    wanted: dict[str, Request]
    """By custom id."""
    input_file: str
    whole: bool = True
    """Whether it holds nothing else."""


@dataclass
class _BatchRound:
    """What the workers of one `answer` know of each other."""

    batches: Batches
    budget: Budget
    replies: asyncio.Queue[Reply | None] = field(default_factory=asyncio.Queue)
    waiting: deque[Request] = field(default_factory=deque)
    tries: Counter[str] = field(default_factory=Counter)
    live: int = 0
    ended: int = 0
    refusals: int = 0
    stop: StillhouseError | Outcome | None = None


@dataclass(frozen=True)
class OpenaiBatch(OpenaiApi):
    """Any server with an OpenAI-compatible `/files` and `/batches`.

    A batch continues at the server when this process ends: the next run finds it
    by its metadata, takes its replies and submits only what is in no batch. The input
    file of a batch is deleted once all its replies are kept; its output stays.
    """

    asks_at_once: ClassVar[int] = 200_000
    """Requests that it is best given together: a batch takes hours, however small."""
    window_s: ClassVar[float] = 86400.0
    """Longest time that the API takes for a batch."""

    requests_per_batch: int = 20_000
    """Most requests in one batch."""
    most_batches: int = 8
    """Most batches in progress at once."""
    poll_s: float = 30.0
    """Longest wait between two looks at a batch, in seconds."""
    timeout_s: float = 600.0
    """Longest time for one upload or download, in seconds."""
    max_tries: int = 3
    """Batches that a request may be part of before it counts as failed."""
    patience_s: float = 1800.0
    """Longest time without an answer of the server before the run stops, in seconds."""
    price_factor: float | None = None
    """What a batch multiplies prices by. Unset: as known for the model at its host, else 0.5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.requests_per_batch <= MOST_REQUESTS:
            raise ValueError(f"requests_per_batch is from 1 to {MOST_REQUESTS}")
        if min(self.most_batches, self.max_tries) < 1:
            raise ValueError("most_batches and max_tries are 1 or more")
        if min(self.poll_s, self.timeout_s, self.patience_s) <= 0:
            raise ValueError("poll_s, timeout_s and patience_s are above 0")
        if self.price_factor is not None and self.price_factor < 0:
            raise ValueError("price_factor is 0 or more")

    @cached_property
    def price(self) -> Price | None:
        """The price of the ordinary API, given or known, times the batch factor."""
        ordinary = self.ordinary_price
        if ordinary is None:
            return None
        factor = self.price_factor
        if factor is None:
            factor = batch_factor_of(self.model, self.base_url) or USUAL_FACTOR
        return ordinary.scaled(factor)

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """One reply per request, when its batch has ended.

        Raises:
            TeacherUnusable, BudgetReached: after the replies of the batches in progress.
        """
        async with self._batches() as batches:
            state = _BatchRound(batches, budget or Budget())
            adopted = await self._adopt(state, requests)
            workers = [self._work(state, batch) for batch in adopted]
            workers += [self._work(state) for _ in range(self.most_batches)]
            async with aclosing(arriving(workers, state.replies)) as replies:
                async for reply in replies:
                    yield reply
            if state.stop is not None:
                raise state.stop

    def cancel(self) -> list[str]:
        """Cancel every batch of this teacher in progress; the next run takes what was done.

        Returns:
            The ids of the batches.
        """

        async def go() -> list[str]:
            async with self._batches() as batches:
                ids = [batch.id for batch in await batches.ours() if batch.status not in ENDED]
                for batch_id in ids:
                    await batches.cancel(batch_id)
                return ids

        return asyncio.run(go())

    async def _adopt(self, state: _BatchRound, requests: Sequence[Request]) -> list[_Batch]:
        """The batches with requests that are wanted; what is in none goes to `state.waiting`."""
        open_ = {request.subject: request for request in requests}
        adopted = []
        for batch in await state.batches.ours():
            if batch.status == "failed" or not open_:
                continue
            lines = await state.batches.lines(batch.input_file_id)
            if lines is None and batch.status in ENDED:
                continue  # its replies were all kept, so the file was deleted
            if lines is None:
                raise TeacherUnusable(
                    f"batch {batch.id} is in progress, and its input file cannot be read to see "
                    "what it holds; wait for its end, or cancel it"
                )
            held = [line["custom_id"] for line in lines]
            wanted = {name: open_.pop(name) for name in held if name in open_}
            if wanted:
                log.info("batch %s: found, with %d of the requests", batch.id, len(wanted))
                for request in wanted.values():
                    state.budget.adopt(self.most(request))
                whole = len(wanted) == len(held)
                adopted.append(_Batch(batch.id, wanted, batch.input_file_id, whole))
        state.waiting.extend(open_.values())
        return adopted

    async def _work(self, state: _BatchRound, adopted: _Batch | None = None) -> None:
        """Follow one batch after the other to its end, until nothing waits."""
        try:
            if adopted is not None:
                await self._follow(state, adopted)
            while state.stop is None and state.waiting:
                if (batch := await self._submit(state)) is not None:
                    await self._follow(state, batch)
        except (StillhouseError, Outcome) as error:
            state.stop = state.stop or error

    async def _submit(self, state: _BatchRound) -> _Batch | None:
        """Submit the next requests; None where none of them is within the budget's caps."""
        portion = await self._portion(state)
        if not portion:
            return None
        name = f"stillhouse-{make_id(sorted(portion))[:12]}.jsonl"
        content = b"".join(self._line(request) for request in portion.values())
        try:
            batch = await state.batches.submit(name, content)
        except BaseException:
            self._release(state, portion)
            raise
        log.info("batch %s: submitted, with %d requests", batch.id, len(portion))
        return _Batch(batch.id, portion, batch.input_file_id)

    async def _portion(self, state: _BatchRound) -> dict[str, Request]:
        """The next requests, as many as one batch and the budget allow."""
        portion: dict[str, Request] = {}
        size = 0
        while state.waiting and len(portion) < self.requests_per_batch and size < MOST_BYTES:
            request = state.waiting.popleft()
            most = self.most(request)
            if why := state.budget.too_expensive(most):
                state.replies.put_nowait(Reply(request, error=TooExpensive(why)))
                continue
            if portion and not state.budget.fits(most):
                state.waiting.appendleft(request)
                break
            try:
                await state.budget.reserve(most, cautious=False)
            except (StillhouseError, Outcome):
                state.waiting.appendleft(request)
                raise
            portion[request.subject] = request
            size += len(self._line(request))
        return portion

    async def _follow(self, state: _BatchRound, batch: _Batch) -> None:
        """Wait for a batch's end and hand out its replies; what it did not answer waits again."""
        state.live += 1
        left = dict(batch.wanted)
        try:
            finished = await state.batches.ended(batch.id)
            if finished.status == "failed":
                self._refused(state, finished, left)
            else:
                await self._deliver(state, finished, left)
        finally:
            state.live -= 1
            state.ended += 1
            self._release(state, left)
        if finished.status == "failed":
            await self._wait_for_room(state)
        elif batch.whole:
            await state.replies.join()  # every reply is kept by now
            await state.batches.forget(batch.input_file)

    async def _deliver(self, state: _BatchRound, batch: Any, left: dict[str, Request]) -> None:
        """Hand out what there is, and take it from `left`; the rest waits for another batch."""
        faults: dict[str, Exception] = {}
        lines: list[dict[str, Any]] = []
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            lines += await state.batches.lines(file_id) or []
        for reply in self._replies(state.batches.endpoint, left, lines):
            subject, error = reply.request.subject, reply.error
            if isinstance(error, TeacherError) and error.is_charged:
                state.budget.lose(self.most(reply.request))
                state.budget.adopt(self.most(reply.request))
            if isinstance(error, TeacherUnusable):
                raise error
            if isinstance(error, EmptyReply) and state.tries[subject]:
                reply = replace(reply, error=PromptRejected(str(error)))
            if isinstance(reply.error, TransientError):
                faults[subject] = reply.error
                continue
            del left[subject]
            self._hand_out(state, reply)
        for request in list(left.values()):
            state.tries[request.subject] += 1
            if batch.status != "cancelled" and state.tries[request.subject] < self.max_tries:
                state.waiting.append(request)
                continue
            del left[request.subject]
            fault = faults.get(request.subject) or TransientError(
                f"{self.model}: batch {batch.id} ended as {batch.status} without this request"
            )
            self._hand_out(state, Reply(request, error=fault))

    def _replies(
        self, endpoint: Endpoint, left: dict[str, Request], lines: list[dict[str, Any]]
    ) -> Iterator[Reply]:
        """The replies to what is in `left`, which the caller empties. Lines that would stop the run
        come last and are read anew, since a good reply among the others may refute them."""
        doubtful: list[tuple[Request, dict[str, Any]]] = []
        for line in lines:
            name = line.get("custom_id")
            request = left.get(name) if isinstance(name, str) else None
            if request is None:
                continue
            reply = self._read(endpoint, request, line)
            if isinstance(reply.error, TeacherUnusable):
                doubtful.append((request, line))
                continue
            if reply.error is None:
                endpoint.note_good_reply()
            yield reply
        for request, line in doubtful:
            if request.subject in left:
                yield self._read(endpoint, request, line)

    def _read(self, endpoint: Endpoint, request: Request, line: dict[str, Any]) -> Reply:
        """One line of a batch's output."""
        response, error = line.get("response"), line.get("error")
        if not isinstance(response, dict):
            detail = endpoint.short({"error": error})
            return Reply(request, error=TransientError(f"{self.model}: {detail}"))
        status, raw = response.get("status_code"), endpoint.redact(response.get("body"))
        if status not in (200, "200"):
            status = status if isinstance(status, int) and 300 <= status <= 599 else 500
            return Reply(request, error=endpoint.error_of(status, raw))
        if (fault := endpoint.embedded_error(raw)) is not None:
            return Reply(request, error=fault)
        try:
            return self.read(request, raw, 0.0)
        except UnreadableReply as error:
            return Reply(request, error=endpoint.unreadable(error))

    def _hand_out(self, state: _BatchRound, reply: Reply) -> None:
        most = self.most(reply.request)
        if reply.error is None:
            reply = self.settle(state.budget, most, reply)
            state.refusals = 0
            reply = replace(reply, tries=state.tries[reply.request.subject] + 1)
        else:
            state.budget.release(most)
        state.replies.put_nowait(reply)

    def _release(self, state: _BatchRound, requests: dict[str, Request]) -> None:
        for request in requests.values():
            state.budget.release(self.most(request))

    def _refused(self, state: _BatchRound, batch: Any, left: dict[str, Request]) -> None:
        """A batch that the server did not take: its queue is full, or something is wrong with it."""
        errors = (batch.errors.data or []) if batch.errors else []
        short = state.batches.endpoint.short
        reasons = list(dict.fromkeys(short(error.message or "no reason given") for error in errors))
        reason = "; ".join(reasons[:3]) or "no reason given"
        state.refusals += 1
        if not any(error.code == CROWDED for error in errors):
            raise state.batches.endpoint.unusable(f"batch {batch.id} was refused: {reason}")
        if state.live == 1 and state.refusals >= self.max_tries:
            raise TeacherUnusable(
                f"model '{self.model}' at {self.base_url}: its queue is full ({reason}); lower "
                "requests_per_batch, or run again later: nothing was lost"
            )
        state.waiting.extend(left.values())

    async def _wait_for_room(self, state: _BatchRound) -> None:
        ended = state.ended
        await asyncio.sleep(self.poll_s)
        while state.live and state.ended == ended:
            await asyncio.sleep(min(self.poll_s, 1.0))

    def _line(self, request: Request) -> bytes:
        body = self.body(request)
        line = {"custom_id": request.subject, "method": "POST", "url": PATH, "body": body}
        return orjson.dumps(line) + b"\n"

    @asynccontextmanager
    async def _batches(self) -> AsyncIterator[Batches]:
        pace = RateLimiter(self.most_batches)
        key = self.key()
        endpoint = Endpoint(
            self.model, self.base_url, key, self.sent_headers, pace, self.timeout_s, self.secrets,
            self.answered,
        )  # fmt: skip
        try:
            mark = make_id("batch", self.identity)
            yield Batches(endpoint, mark, self.patience_s, self.poll_s)
        finally:
            await endpoint.close()
