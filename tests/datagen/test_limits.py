"""The budget's accounting under any order of events, the pace on a clock of its own, the headers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.openai.waits import retry_after_s, used_up_s
from datagen.spending.limits import Budget, RateLimiter, Reservation
from warehouse.errors import BudgetReached, Stopped
from warehouse.records import now

# the budget

REQUEST = st.tuples(
    st.integers(1, 60),  # the most it can cost, in cents
    st.integers(1, 400),  # the most tokens
    st.sampled_from(["settle", "release", "lose"]),
    st.floats(0, 1),  # the share that it really cost
    st.integers(0, 3),  # turns of the loop that it takes
)


@settings(deadline=None)
@given(
    requests=st.lists(REQUEST, max_size=40),
    usd=st.none() | st.integers(0, 500),
    tokens=st.none() | st.integers(0, 3000),
    workers=st.integers(1, 16),
)
def test_no_order_of_events_exceeds_a_cap_or_leaves_anything_reserved(
    requests, usd, tokens, workers
):
    budget = Budget(None if usd is None else usd / 100, tokens)
    paid_usd, paid_tokens, refused = [], [], []

    def check():
        assert budget.usd is None or budget.spent_usd + budget.reserved_usd <= budget.usd + 1e-9
        assert budget.tokens is None or budget.spent_tokens + budget.reserved_tokens <= tokens
        assert budget.lost_usd <= budget.spent_usd + 1e-9

    async def work(waiting):
        for cents, most_tokens, end, share, turns in waiting:
            most = Reservation(cents / 100, most_tokens)
            try:
                await budget.reserve(most)
            except BudgetReached:
                refused.append(most)
                return
            check()
            for _ in range(turns):
                await asyncio.sleep(0)
            if end == "settle":
                really = Reservation(most.usd * share, int(most_tokens * share))
                budget.settle(most, really.usd, really.tokens)
            elif end == "lose":
                really = most
                budget.lose(most)
            else:
                really = Reservation()
                budget.release(most)
            paid_usd.append(really.usd)
            paid_tokens.append(really.tokens)
            check()

    async def go():
        waiting = iter(requests)
        await asyncio.wait_for(asyncio.gather(*(work(waiting) for _ in range(workers))), 10)

    asyncio.run(go())
    assert budget.in_flight == 0
    assert (budget.reserved_usd, budget.reserved_tokens) == (0.0, 0)
    assert budget.spent_usd == pytest.approx(sum(paid_usd))
    assert budget.spent_tokens == sum(paid_tokens)
    if usd is None and tokens is None:
        assert not refused and len(paid_usd) == len(requests)
    for most in refused:  # it would not fit now either: nothing was refused too early
        assert (budget.usd is not None and budget.spent_usd + most.usd > budget.usd - 1e-9) or (
            budget.tokens is not None and budget.spent_tokens + most.tokens > budget.tokens
        )


def test_a_request_waits_for_those_in_flight_before_it_is_refused():
    async def go():
        budget = Budget(usd=1.0)
        first = await budget.reserve(Reservation(0.8))
        second = asyncio.ensure_future(budget.reserve(Reservation(0.8)))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle(first, 0.1, 0)
        assert await second == Reservation(0.8)
        third = asyncio.ensure_future(budget.reserve(Reservation(0.8)))
        await asyncio.sleep(0)
        budget.lose(Reservation(0.8))
        with pytest.raises(BudgetReached, match=r"budget_usd = 1 is reached: 0\.9.* USD are spent"):
            await third

    asyncio.run(go())


def test_what_was_spent_before_counts():
    budget = Budget(tokens=100, spent_tokens=95)
    with pytest.raises(BudgetReached, match="budget_tokens = 100 is reached: 95 are spent"):
        asyncio.run(budget.reserve(Reservation(tokens=6)))


def test_a_closed_budget_lets_those_in_flight_settle_and_nothing_more_start():
    async def go():
        budget = Budget(usd=1.0)
        first = await budget.reserve(Reservation(0.8))
        waiting = asyncio.ensure_future(budget.reserve(Reservation(0.8)))
        await asyncio.sleep(0)
        budget.close(Stopped("enough"))
        for refused in (waiting, budget.reserve(Reservation(0.1))):
            with pytest.raises(Stopped, match="enough"):
                await refused
        budget.settle(first, 0.5, 0)
        assert (budget.spent_usd, budget.in_flight) == (0.5, 0)

    asyncio.run(go())


# the pace


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 0.0
        self.naps = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.naps.append(seconds)
        wake = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, wake)


def pace(clock, most=1000, **limits):
    return RateLimiter(most, clock=clock, sleep=clock.sleep, seed=1, **limits)


def test_the_window_doubles_until_the_first_overload_then_grows_by_one_per_window():
    clock = Clock()
    one = pace(clock)
    one.window = 8.0

    async def window(overloaded=0):
        sent = [await one.start(1) for _ in range(int(one.window))]
        clock.now += 1.0
        for n, moment in enumerate(sent):
            one.end(moment, 1, 1, overloaded=n < overloaded)

    async def go():
        await window()
        assert one.window == 16
        await window(overloaded=5)  # once for all that were in flight together
        assert one.slowed == 1 and 8 <= one.window <= 10
        before = one.window
        await window()
        assert before + 0.8 < one.window <= before + 1.0
        for _ in range(40):  # comes to rest where halving outweighs growing
            await window(overloaded=1)
        assert 1 <= one.window < 4

    asyncio.run(go())
    assert one.in_flight == 0


def test_never_more_in_flight_than_the_hard_limit():
    one = pace(Clock(), most=7)
    most = 0

    async def request():
        nonlocal most
        sent = await one.start(1)
        most = max(most, one.in_flight)
        await asyncio.sleep(0)
        one.end(sent, 1, 1)

    async def go():
        await asyncio.gather(*(request() for _ in range(100)))

    asyncio.run(go())
    assert most == 7 and one.window == 7 and one.in_flight == 0


@pytest.mark.parametrize(
    ("limits", "tokens", "least_s"),
    [
        ({"requests_per_minute": 600}, 1, 0.1),
        ({"tokens_per_minute": 6000}, 50, 0.5),
        ({"requests_per_minute": 600, "tokens_per_minute": 6000}, 50, 0.5),
    ],
)
def test_rates_are_kept(limits, tokens, least_s):
    clock = Clock()
    one = pace(clock, **limits)
    sent = []

    async def request():
        moment = await one.start(tokens)
        sent.append(moment)
        one.end(moment, tokens, tokens)

    async def go():
        await asyncio.gather(*(request() for _ in range(20)))

    asyncio.run(go())
    gaps = [b - a for a, b in pairwise(sent)]
    assert min(gaps) >= least_s - 1e-9
    assert sent[-1] <= 20 * least_s + 1e-6  # and used to the full


def test_tokens_that_were_not_used_are_given_back():
    clock = Clock()
    one = pace(clock, tokens_per_minute=60)

    async def go():
        for _ in range(3):
            one.end(await one.start(1000), 1000, 1)

    asyncio.run(go())
    assert clock.now < 4


def test_after_a_pause_requests_do_not_start_all_at_once():
    clock = Clock()
    one = pace(clock)
    sent = []

    async def request():
        sent.append(await one.start(1))

    async def go():
        one.pause(30.0)
        one.pause(3.0)  # a shorter one does not shorten it
        await asyncio.gather(*(request() for _ in range(200)))

    asyncio.run(go())
    assert min(sent) >= 30.0
    assert len({round(nap, 6) for nap in clock.naps}) > 150
    assert max(clock.naps) - min(clock.naps) > 5.0


def test_a_cancelled_start_gives_its_place_back():
    async def go():
        one = RateLimiter(1, seed=1)
        one.pause(60.0)
        waiting = asyncio.ensure_future(one.start(1))
        await asyncio.sleep(0)
        assert one.in_flight == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert one.in_flight == 0

    asyncio.run(go())


# the headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date():
    past = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_s(past) == 0.0
    soon = format_datetime((now() + timedelta(seconds=90)).astimezone(), usegmt=False)
    found = retry_after_s({"retry-after": soon})
    assert found is not None and 80 < found <= 90


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        ("1", "20s", None),
        ("0", "20s", 20.0),
        ("0", "1m2.5s", 62.5),
        ("0", "20ms", 0.02),
        ("0", "3", 3.0),
        ("0", "soon", None),
        ("0", "", None),
    ],
)
def test_used_up_limits(remaining, reset, seconds):
    headers = {"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": reset}
    assert used_up_s(headers) == seconds


def test_the_longer_of_two_used_up_limits_counts():
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert used_up_s(headers) == 360.0


def test_a_reached_budget_tells_what_those_in_flight_cost_since():
    async def go():
        budget = Budget(usd=1.0)
        first, second = (
            await budget.reserve(Reservation(0.3)),
            await budget.reserve(Reservation(0.1)),
        )
        budget.settle(first, 0.8, 0)
        assert budget.reached is None
        with pytest.raises(BudgetReached, match=r"0\.800000 USD are spent, and"):
            await budget.reserve(Reservation(0.3))
        budget.settle(second, 0.4, 0)
        assert "1.200000 USD are spent (more than the cap" in (budget.reached or "")

    asyncio.run(go())
