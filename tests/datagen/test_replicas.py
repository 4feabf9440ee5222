"""Several servers of one model: shares by speed, one that dies is left out and said, and comes back."""

import asyncio
import logging
import threading
from types import SimpleNamespace

import pytest

from datagen.openai.endpoint import EmptyReply, Overloaded, ReplyLost
from datagen.openai.replicas import LONGEST_PAUSE_S, Replicas
from datagen.openai.unreachable import NobodyThere
from datagen.spending.limits import Budget, RateLimiter
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.asking import ask, closed_port
from tests.support.fakes import FakeOpenai, Fault
from warehouse.errors import TeacherUnusable, TransientError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def replicas_of(number, most=8):
    clock = Clock()
    endpoints = [
        SimpleNamespace(base_url=f"http://{n}/v1", gone=None, pace=RateLimiter(most, clock=clock))
        for n in range(number)
    ]
    return Replicas(endpoints, clock), clock


def shares(replicas, clock, latencies, requests, at_once):
    """How many of the requests each server gets, with so many open at once, in simulated time."""
    got, running, sent = [0] * len(latencies), [], 0
    while sent < requests or running:
        while sent < requests and len(running) < at_once:
            chosen = replicas.pick()
            number = replicas.all.index(chosen)
            got[number] += 1
            sent += 1
            running.append((clock.now + latencies[number], number))
        running.sort()
        clock.now, number = running.pop(0)
        replicas.finish(replicas.all[number])
        replicas.note_reply(replicas.all[number], latencies[number])
    return got


def test_busy_servers_get_requests_in_proportion_to_their_speed():
    replicas, clock = replicas_of(3)
    fast, middle, slow = shares(replicas, clock, [0.1, 0.2, 0.4], 1400, at_once=24)
    assert 600 <= fast <= 1000 and 300 <= middle <= 500 and 150 <= slow <= 250


def test_where_there_is_room_the_fast_server_gets_most():
    replicas, clock = replicas_of(2, most=100)
    fast, slow = shares(replicas, clock, [0.1, 1.0], 1000, at_once=11)
    assert fast > 900 and slow >= 5


def test_equal_servers_share_equally_from_the_first_request_on():
    replicas, _ = replicas_of(4, most=100)
    for _ in range(40):
        replicas.pick()
    assert [replica.open for replica in replicas.all] == [10, 10, 10, 10]


def test_a_server_that_was_slow_once_is_measured_again():
    replicas, clock = replicas_of(2, most=100)
    for replica, latency_s in zip(replicas.all, (0.1, 5.0), strict=True):
        replicas.note_reply(replica, latency_s)
    assert shares(replicas, clock, [0.1, 0.1], 50, at_once=1)[1] == 0
    clock.now += 60
    assert shares(replicas, clock, [0.1, 0.1], 50, at_once=2)[1] > 10


def test_a_server_that_asks_to_wait_is_passed_over():
    replicas, _ = replicas_of(2)
    replicas.all[0].endpoint.pace.pause(30)
    assert [replicas.all.index(replicas.pick()) for _ in range(4)] == [1, 1, 1, 1]


def test_a_failing_server_is_left_out_for_a_growing_time_and_tried_by_one_request():
    replicas, clock = replicas_of(2)
    pauses = []
    for _ in range(9):
        tried = next(each for each in iter(replicas.pick, None) if each is replicas.all[0])
        replicas.note_fault(tried, NobodyThere("nobody"), clock())
        replicas.finish(tried)
        for _ in range(20):
            assert replicas.pick() is replicas.all[1]
        failed_at = clock.now
        while replicas.all[0].failed_at + replicas.all[0].pause_s > clock.now:
            clock.now += 0.5
        pauses.append(clock.now - failed_at)
        replicas.all[1].open = 0
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert replicas.pick() is replicas.all[0]
    assert replicas.pick() is replicas.all[1]  # one request tries
    replicas.finish(replicas.all[0])
    replicas.note_reply(replicas.all[0], 0.1)
    assert replicas.all[0].is_up


def test_requests_that_were_open_together_fail_once():
    replicas, clock = replicas_of(2)
    picked_at = clock()
    clock.now += 1
    for _ in range(8):
        replicas.note_fault(replicas.all[0], ReplyLost("lost"), picked_at)
    assert replicas.all[0].failures == 1


@pytest.mark.parametrize("fault", [EmptyReply("empty"), Overloaded("HTTP 429", 1.0)])
def test_a_server_that_answers_is_not_left_out(fault):
    replicas, clock = replicas_of(2)
    replicas.note_fault(replicas.all[0], fault, clock())
    assert replicas.all[0].is_up


def test_a_single_server_is_never_left_out():
    replicas, clock = replicas_of(1)
    for _ in range(5):
        replicas.note_fault(replicas.pick(), TransientError("HTTP 500"), clock())
    assert replicas.pick().is_up


def stream(teacher, requests, budget=None, on_reply=lambda number: None):
    """Ask real servers; `on_reply` is called with the number of replies so far."""

    async def collect():
        replies = []
        async for reply in teacher.answer(
            [
                Request.of(
                    teacher.identity, [{"role": "user", "content": str(n)}], Sampling(max_tokens=8)
                )
                for n in range(requests)
            ],
            budget,
        ):
            replies.append(reply)
            on_reply(len(replies))
        return replies

    return asyncio.run(collect())


def test_real_servers_get_requests_by_their_speed():
    with FakeOpenai(latency_s=0.01) as fast, FakeOpenai(latency_s=0.2) as slow:
        teacher = OpenaiChat(
            model="fake", base_url=slow.base_url, more_urls=[fast.base_url], max_in_flight=4
        )
        replies = stream(teacher, 300)
    assert all(reply.error is None for reply in replies)
    assert fast.asked + slow.asked == 300
    assert fast.asked > 2 * slow.asked > 0


def test_one_is_killed_in_the_middle_and_comes_back(caplog, monkeypatch):
    """Every request gets its reply; none is sent twice but those that the dying server had."""
    monkeypatch.setattr("datagen.openai.replicas.FIRST_PAUSE_S", 0.05)
    caplog.set_level(logging.WARNING, "datagen")
    logging.getLogger("datagen").propagate = True
    state = {"down": False, "lost": 0, "after": 0}

    def fault_for(messages):
        if state["down"]:
            state["lost"] += 1
            return Fault(0)  # the connection is cut
        state["after"] += bool(state["lost"])
        return None

    with (
        FakeOpenai(latency_s=0.02) as steady,
        FakeOpenai(latency_s=0.02, fault_for=fault_for) as dying,
    ):
        teacher = OpenaiChat(
            model="fake", base_url=dying.base_url, more_urls=[steady.base_url], max_in_flight=4,
            input_usd_per_million=1.0, output_usd_per_million=1.0,
        )  # fmt: skip

        def on_reply(number):
            if number == 40:
                state["down"] = True
            if number == 200:
                state["down"] = False

        budget = Budget()
        replies = stream(teacher, 600, budget, on_reply)
    assert sorted(int(reply.text.removeprefix("echo ")) for reply in replies) == list(range(600))
    assert steady.asked + dying.asked == 600 + state["lost"]
    assert 1 <= state["lost"] <= 4 + 12  # those that were open, then one at a time, ever later
    assert state["after"] > 20  # it has its share again
    assert budget.spent_usd == pytest.approx(
        sum(reply.cost_usd for reply in replies) + budget.lost_usd
    )
    assert sum(reply.tries - 1 for reply in replies) == state["lost"]
    messages = [
        record.getMessage() for record in caplog.records if dying.base_url in record.getMessage()
    ]
    assert [("left out" in message, "again" in message) for message in messages][-1] == (
        False,
        True,
    )
    assert "1 other server goes on" in messages[0] and "\n" not in messages[0]


def test_one_that_refuses_connections_is_said_once_and_comes_back(caplog, monkeypatch):
    monkeypatch.setattr("datagen.openai.replicas.FIRST_PAUSE_S", 0.05)
    caplog.set_level(logging.WARNING, "datagen")
    logging.getLogger("datagen").propagate = True
    late = FakeOpenai(latency_s=0.01)
    port = closed_port()
    opened = threading.Event()

    def open_late(number):
        if number == 100 and not opened.is_set():
            opened.set()
            late.port = port
            late.__enter__()

    with FakeOpenai(latency_s=0.01) as steady:
        teacher = OpenaiChat(
            model="fake", base_url=f"http://127.0.0.1:{port}/v1", more_urls=[steady.base_url],
            max_in_flight=4,
        )  # fmt: skip
        try:
            replies = stream(teacher, 1000, on_reply=open_late)
        finally:
            if opened.is_set():
                late.__exit__()
    assert all(reply.error is None for reply in replies) and len(replies) == 1000
    assert late.asked > 20
    said = [record.getMessage() for record in caplog.records if str(port) in record.getMessage()]
    assert len(said) == 2 and "is left out (no teacher answers" in said[0]
    assert "answers again" in said[1]


def test_answers_of_a_server_that_only_fails_do_not_end_a_run_that_another_serves():
    bad = Fault(500, '{"error": {"message": "out of memory"}}')
    with (
        FakeOpenai(latency_s=0.3) as slow,
        FakeOpenai(fault_for=lambda messages: bad) as broken,
    ):
        teacher = OpenaiChat(
            model="fake", base_url=broken.base_url, more_urls=[slow.base_url], max_in_flight=8
        )
        replies = stream(teacher, 40)
        assert all(reply.error is None for reply in replies)
        assert broken.asked <= 8 + 6


def test_all_dead_is_the_error_of_one(monkeypatch):
    monkeypatch.setattr("datagen.openai.options.FIRST_WAIT_S", 0.01)
    one, two = (f"http://127.0.0.1:{closed_port()}/v1" for _ in range(2))
    with pytest.raises(TeacherUnusable, match="no teacher answers at .*start the server"):
        ask(OpenaiChat(model="fake", base_url=one, more_urls=[two]), *map(str, range(5)))


def test_replies_are_known_by_the_first_address_whoever_gave_them():
    plain = OpenaiChat(model="m", base_url="http://a:8000/v1")
    several = OpenaiChat(model="m", base_url="http://a:8000/v1", more_urls=["http://b:8000/v1"])
    assert plain.identity == several.identity == "m@http://a:8000/v1"
    named = OpenaiChat(
        model="m", base_url="http://b:8000/v1", more_urls=["http://a:8000/v1"], identity_name="ours"
    )
    assert named.identity == "ours"
