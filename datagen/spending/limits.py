"""Enforce budgets and the rate limits of an endpoint.

`Budget` is a hard cap: what a request can cost at most is reserved before it is sent and
settled after, so the cap holds however many are in flight. `RateLimiter` is one endpoint's speed:
additive increase and multiplicative decrease of the requests in flight (Chiu and Jain
1989, the rule of TCP's congestion control), requests and tokens per minute, and pauses
that the server asks for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from warehouse.errors import BudgetReached, Outcome, StillhouseError

BACK_OFF = 0.5
"""What is left of the window after a sign of overload."""
LEAST_WINDOW = 1.0
LONGEST_NAP_S = 0.1
MOST_OVERRUN = 2.0
"""Times its reservation that a reply may have cost and still be believed: servers may count
reasoning, or a long system prompt of their own."""


@dataclass(frozen=True)
class Reservation:
    """What one request can cost at most."""

    usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class PeriodCap:
    """What all runs of a warehouse together may spend in USD until a moment."""

    name: str
    """The plan's key, such as budget_usd_per_day."""
    usd: float
    spent_usd: float
    """Spent in this period when the run started, by every run."""
    ends: str
    """When the next period begins, as it is told to people."""


@dataclass
class Budget:
    """A cap on USD and on tokens (prompt and completion together); None is no cap.

    `spent` and `reserved` together never exceed the cap when a request is sent. Several are in
    flight only while the cap would hold if each of them cost `MOST_OVERRUN` times its
    reservation, or more where a reply has cost more; what is left is spent by one request at a
    time. So the cap is exceeded at most once, by one reply.

    `lost` is the part of `spent` that went to requests with no whole reply, `unmetered` the part
    by which replies without credible usage count more than their calls record. One event loop
    uses it at a time.
    """

    usd: float | None = None
    tokens: int | None = None
    spent_usd: float = 0.0
    spent_tokens: int = 0
    periods: Sequence[PeriodCap] = ()
    """Caps of all runs together; the tightest of them and of the run's own is `usd`."""
    lost_usd: float = field(default=0.0, init=False)
    lost_tokens: int = field(default=0, init=False)
    unmetered_usd: float = field(default=0.0, init=False)
    unmetered_tokens: int = field(default=0, init=False)
    reserved_usd: float = field(default=0.0, init=False)
    reserved_tokens: int = field(default=0, init=False)
    _open: int = field(default=0, init=False)
    _overrun: float = field(default=MOST_OVERRUN, init=False)
    _refused: Reservation | None = field(default=None, init=False)
    _largest_usd: float = field(default=0.0, init=False)
    _largest_tokens: int = field(default=0, init=False)
    _closed: StillhouseError | Outcome | None = field(default=None, init=False)
    _settled: list[asyncio.Future[None]] = field(default_factory=list, init=False, repr=False)
    _largest_request_usd: float | None = field(default=None, init=False)
    _period: PeriodCap | None = field(default=None, init=False)
    _spent_before: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Let the tightest cap be the run's."""
        self._spent_before = self.spent_usd
        self._largest_request_usd = self.usd
        for cap in self.periods:
            left = self.spent_usd + max(0.0, cap.usd - cap.spent_usd)
            if self._largest_request_usd is None or cap.usd < self._largest_request_usd:
                self._largest_request_usd = cap.usd
            if self.usd is None or left < self.usd:
                self.usd, self._period = left, cap

    @property
    def reached_period(self) -> PeriodCap | None:
        """The cap of all runs together that was reached; None where it was another, or none."""
        usd = None if self._refused is None else self._refused.usd
        over = usd is not None and self.usd is not None and self.spent_usd + usd > self.usd
        return self._period if over else None

    async def reserve(self, most: Reservation, cautious: bool = True) -> Reservation:
        """Reserve what a request can cost at most; waits while in-flight requests may return some.

        Args:
            most: The request's reservation.
            cautious: Whether those in flight may overrun theirs. Not so for a batch, whose
                requests must be sent together.

        Raises:
            BudgetReached: it does not fit, and nothing in flight could make it fit.
            StillhouseError: what `close` was given.
        """
        while self._closed or not (self._fits_beside(most) if cautious else self.fits(most)):
            if self._closed:
                raise self._closed
            if not self._open or not self._could_fit(most):
                self._refused = most
                self._note_size(most)
                raise BudgetReached(self._told(most))
            waiter = asyncio.get_running_loop().create_future()
            self._settled.append(waiter)
            await waiter
        return self.adopt(most)

    def adopt(self, most: Reservation) -> Reservation:
        """Reserve the cost of a request that was sent before, whether it fits or not."""
        self.reserved_usd += most.usd
        self.reserved_tokens += most.tokens
        self._open += 1
        return most

    def settle(self, most: Reservation, usd: float, tokens: int) -> None:
        """Put what a request did cost in place of what was reserved for it."""
        self._open -= 1
        if self._open:
            self.reserved_usd -= most.usd
            self.reserved_tokens -= most.tokens
        else:
            self.reserved_usd, self.reserved_tokens = 0.0, 0  # no rounding is left over
        self.spent_usd += usd
        self.spent_tokens += tokens
        for actual, reserved in ((usd, most.usd), (tokens, most.tokens)):
            if reserved > 0:
                self._overrun = max(self._overrun, actual / reserved)
        self._wake()

    def settle_measured(self, most: Reservation, usd: float, tokens: int) -> tuple[float, int]:
        """Settle a reply whose usage we measured: an average, so it counts as all that was
        reserved for it, or as more where more was measured.

        Returns:
            USD and tokens by which it counts more than was measured.
        """
        self.settle(most, max(usd, most.usd), max(tokens, most.tokens))
        more_usd, more_tokens = max(0.0, most.usd - usd), max(0, most.tokens - tokens)
        self.unmetered_usd += more_usd
        self.unmetered_tokens += more_tokens
        return more_usd, more_tokens

    def release(self, most: Reservation) -> None:
        """Return a whole reservation: the request was refused and cost nothing."""
        self.settle(most, 0.0, 0)

    def lose(self, most: Reservation) -> None:
        """Count a reservation as spent: the request was sent, and what became of it is unknown."""
        self.settle(most, most.usd, most.tokens)
        self.lost_usd += most.usd
        self.lost_tokens += most.tokens

    def close(self, reason: StillhouseError | Outcome) -> None:
        """Stop new reservations; in-flight requests finish."""
        self._closed = reason
        self._wake()

    @property
    def in_flight(self) -> int:
        """Requests reserved and not settled."""
        return self._open

    def fits(self, most: Reservation) -> bool:
        """Whether a request could be reserved at once."""
        return (self.usd is None or self.spent_usd + self.reserved_usd + most.usd <= self.usd) and (
            self.tokens is None
            or self.spent_tokens + self.reserved_tokens + most.tokens <= self.tokens
        )

    def too_expensive(self, most: Reservation) -> str | None:
        """Why a request can never be sent within these caps; None where it can."""
        if self._largest_request_usd is not None and most.usd > self._largest_request_usd:
            self._note_size(most)
            cap = self._largest_request_usd
            name = next((p.name for p in self.periods if p.usd == cap), "budget_usd")
            return (
                f"the request can cost {most.usd:.6f} USD, more than {name} = {cap:g}; "
                f"raise {name}, or shorten the prompt or max_tokens"
            )
        if self.tokens is not None and most.tokens > self.tokens:
            self._note_size(most)
            return (
                f"the request can take {most.tokens} tokens, more than budget_tokens = "
                f"{self.tokens}; raise budget_tokens, or shorten the prompt or max_tokens"
            )
        return None

    def _note_size(self, most: Reservation) -> None:
        self._largest_usd = max(self._largest_usd, most.usd)
        self._largest_tokens = max(self._largest_tokens, most.tokens)

    @property
    def required(self) -> tuple[float, int]:
        """USD and tokens that the caps must be at least, for the largest request that did not fit."""
        return (self.spent_usd + self._largest_usd, self.spent_tokens + self._largest_tokens)

    def _fits_beside(self, most: Reservation) -> bool:
        """Whether a request may be sent beside those in flight, should all overrun."""
        times = self._overrun
        return self.fits(most) and (
            not self._open
            or (
                (
                    self.usd is None
                    or self.spent_usd + times * (self.reserved_usd + most.usd) <= self.usd
                )
                and (
                    self.tokens is None
                    or self.spent_tokens + times * (self.reserved_tokens + most.tokens)
                    <= self.tokens
                )
            )
        )

    def _wake(self) -> None:
        waiters, self._settled = self._settled, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _could_fit(self, most: Reservation) -> bool:
        return (self.usd is None or self.spent_usd + most.usd <= self.usd) and (
            self.tokens is None or self.spent_tokens + most.tokens <= self.tokens
        )

    @property
    def reached(self) -> str | None:
        """The cap that was reached, with what is spent by now; None where none was.

        Replies that were in flight when a request was refused have been charged since.
        """
        return None if self._refused is None else self._told(self._refused)

    def _told(self, most: Reservation) -> str:
        if self.usd is not None and self.spent_usd + most.usd > self.usd:
            if (cap := self._period) is not None:
                spent = cap.spent_usd + self.spent_usd - self._spent_before
                return (
                    f"{cap.name} = {cap.usd:g} is reached: {spent:.6f} USD are spent by all runs"
                    f"{_beyond(spent, cap.usd)}, and the next request can cost {most.usd:.6f}; "
                    f"it goes on from {cap.ends} on, or raise {cap.name}"
                )
            return (
                f"budget_usd = {self.usd:g} is reached: {self.spent_usd:.6f} USD are spent"
                f"{_beyond(self.spent_usd, self.usd)}, and the next request can cost "
                f"{most.usd:.6f}; raise budget_usd to go on"
            )
        return (
            f"budget_tokens = {self.tokens} is reached: {self.spent_tokens} are spent"
            f"{_beyond(self.spent_tokens, self.tokens or 0)}, and the next request can take "
            f"{most.tokens}; raise budget_tokens to go on"
        )


def _beyond(spent: float, cap: float) -> str:
    if spent <= cap:
        return ""
    return " (more than the cap: a reply was longer than its max_tokens allows, or dearer)"


class RateLimiter:
    """The speed at which one endpoint is asked.

    The window of requests in flight starts at `SLOW_START`, doubles with every window of
    successes until the first sign of overload (429, 503, timeout), is halved by each such
    sign, at most once per round trip, and then grows by one request per window. After a
    pause that the server asked for, requests start again one after the other, spread by
    chance, never all at once.
    """

    SLOW_START = 256.0

    def __init__(
        self,
        max_in_flight: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        seed: int | None = None,
    ) -> None:
        self.max_in_flight = max_in_flight
        self.window = min(float(max_in_flight), self.SLOW_START)
        self.in_flight = 0
        self.slowed = 0
        self._request_gap_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token_gap_s = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_token = 0.0
        self._resume_at = 0.0
        self._decreased_at = float("-inf")
        self._steep = True
        self._clock, self._sleep = clock, sleep
        self._chance = random.Random(seed)
        self._turn = asyncio.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def pause_left_s(self) -> float:
        """Seconds until the pause that the server asked for is over."""
        return max(0.0, self._resume_at - self._clock())

    async def start(self, tokens: int) -> float:
        """Wait for a place in flight, for the rates and for any pause; take the place.

        Args:
            tokens: What the request may use at most; `end` corrects it.

        Returns:
            The moment of sending, for `end`.
        """
        while self.in_flight >= max(1, int(self.window)):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self.in_flight += 1
        try:
            if self._request_gap_s or self._token_gap_s:
                async with self._turn:  # one waits for the next turn, the others for that one
                    await self._take_turn(tokens)
            while (moment := self._clock()) < self._resume_at:
                spread = min(max(1.0, 0.05 * self.in_flight), 10.0)
                jitter = self._chance.uniform(0.0, spread)
                await self._sleep(self._resume_at - moment + jitter)
        except BaseException:
            self._give_back()
            raise
        return self._clock()

    async def _take_turn(self, tokens: int) -> None:
        """Virtual scheduling (the generic cell rate algorithm, ITU-T I.371, annex A), burst 1."""
        while (wait := max(self._next_request, self._next_token) - self._clock()) > 0:
            await self._sleep(min(wait, LONGEST_NAP_S))  # tokens that were not used come back
        moment = self._clock()
        self._next_request = moment + self._request_gap_s
        self._next_token = max(self._next_token, moment) + tokens * self._token_gap_s

    def end(self, sent: float, reserved: int, used: int | None, overloaded: bool = False) -> None:
        """Give the place back and learn from how it went.

        Args:
            sent: What `start` returned.
            reserved: The tokens that `start` was given.
            used: The tokens really used; None where unknown.
            overloaded: Whether the server reported too many requests.
        """
        if used is not None:
            self._next_token -= (reserved - used) * self._token_gap_s
        if overloaded:
            if sent > self._decreased_at:  # once for all that were in flight together
                self._decreased_at = self._clock()
                self.window = max(LEAST_WINDOW, self.window * BACK_OFF)
                self._steep = False
                self.slowed += 1
        elif self.window < self.max_in_flight:
            step = 1.0 if self._steep else 1.0 / self.window
            self.window = min(float(self.max_in_flight), self.window + step)
        self._give_back()

    def pause(self, seconds: float) -> None:
        """Start nothing before `seconds` have passed, as the server asked."""
        self._resume_at = max(self._resume_at, self._clock() + seconds)

    def _give_back(self) -> None:
        self.in_flight -= 1
        free = int(self.window) - self.in_flight
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1
