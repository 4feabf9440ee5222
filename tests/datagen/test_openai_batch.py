import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing

import pytest

from datagen.openai import batches
from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_batch import OpenaiBatch
from datagen.teachers.openai_chat import OpenaiChat
from tests.support.fake_batches import FakeBatches, answered, refused
from tests.support.fakes import Fault
from warehouse.errors import BudgetReached, PromptRejected, TeacherUnusable, TransientError

KEY = "sk-very-secret-key-0002"


@pytest.fixture(autouse=True)
def short_polls(monkeypatch):
    monkeypatch.setattr(batches, "FIRST_POLL_S", 0.01)


def teacher(server, **options):
    return OpenaiBatch(model="fake", base_url=server.base_url, poll_s=0.02, **options)


def requests_of(one, *questions):
    sampling = Sampling(max_tokens=20)
    return [
        Request.of(one.identity, [{"role": "user", "content": text}], sampling)
        for text in questions
    ]


def ask(one, *questions, budget=None):
    async def collect():
        return [r async for r in one.answer(requests_of(one, *questions), budget)]

    return asyncio.run(collect())


def texts(replies):
    return sorted(reply.text for reply in replies)


QUESTIONS = [f"q{n}" for n in range(10)]


def test_every_request_is_answered_once_by_batches_of_the_planned_size():
    with FakeBatches(looks=2) as server:
        replies = ask(teacher(server, requests_per_batch=4), *QUESTIONS)
        assert texts(replies) == sorted(f"echo {question}" for question in QUESTIONS)
        sizes = sorted(batch["request_counts"]["total"] for batch in server.batches.values())
        assert sizes == [2, 4, 4]
        assert set(server.lines.values()) == {1}
        # inputs are deleted when their replies are kept, outputs stay
        assert sorted(server.files) == sorted(
            batch["output_file_id"] for batch in server.batches.values()
        )


def test_it_is_the_same_teacher_as_the_chat_api_for_half_the_price():
    prices = {"input_usd_per_million": 2.0, "output_usd_per_million": 8.0}
    with FakeBatches() as server:
        one = teacher(server, **prices)
        chat = OpenaiChat(model="fake", base_url=server.base_url, **prices)
        assert one.identity == chat.identity
        [reply] = ask(one, "q")
        quarter = teacher(server, price_factor=0.25, **prices)
    assert reply.cost_usd == pytest.approx((100 * 1.0 + 10 * 4.0) / 1e6)
    assert one.price == chat.price.scaled(0.5)
    assert quarter.price == chat.price.scaled(0.25)
    assert OpenaiBatch(model="gpt-4o-mini").price == OpenaiChat(model="gpt-4o-mini").price.scaled(
        0.5
    )
    assert OpenaiBatch(model="unheard-of").price is None


def test_faults_of_single_lines():
    def line_for(custom_id, body):
        asked = body["messages"][-1]["content"]
        if asked == "too long":
            return refused(custom_id, 400, "maximum context length")
        if asked == "crowded" and server.lines[custom_id] < 2:
            return refused(custom_id, 429, "slow down")
        if asked == "always 500":
            return refused(custom_id, 500, "oops")
        if asked == "missing" and server.lines[custom_id] < 2:
            return None
        if asked == "half" and server.lines[custom_id] < 2:
            return '{"custom_id": "'
        if asked == "no choices" and server.lines[custom_id] < 2:
            made = answered(custom_id, body)
            made["response"]["body"]["choices"] = []
            return made
        return answered(custom_id, body)

    asked = ["fine", "too long", "crowded", "always 500", "missing", "half", "no choices"]
    with FakeBatches(line_for=line_for) as server:
        replies = ask(teacher(server), *asked)
        counts = {
            request.messages[0]["content"]: server.lines[request.subject]
            for request in requests_of(teacher(server), *asked)
        }
    by_question = {reply.request.messages[0]["content"]: reply for reply in replies}
    assert len(replies) == len(asked)
    assert isinstance(by_question["too long"].error, PromptRejected)
    assert "maximum context length" in str(by_question["too long"].error)
    assert isinstance(by_question["always 500"].error, TransientError)
    for again in ("crowded", "missing", "half", "no choices"):
        assert (by_question[again].text, by_question[again].tries) == (f"echo {again}", 2)
    assert counts == {
        "fine": 1, "too long": 1, "crowded": 2, "always 500": 3,
        "missing": 2, "half": 2, "no choices": 2,
    }  # fmt: skip


def test_a_line_with_words_of_a_missing_model_stops_no_batch_with_a_good_reply():
    def line_for(custom_id, body):
        asked = body["messages"][-1]["content"]
        if asked == "first":
            return refused(custom_id, 400, "the text says: model x not found")
        if asked == "second" and server.lines[custom_id] < 2:
            return refused(custom_id, 404, "model x not found")
        return answered(custom_id, body)

    with FakeBatches(line_for=line_for) as server:
        replies = {
            r.request.messages[0]["content"]: r
            for r in ask(teacher(server), "first", "second", "third")
        }
    assert isinstance(replies["first"].error, PromptRejected)
    assert (replies["second"].text, replies["third"].text) == ("echo second", "echo third")


def test_good_replies_of_a_batch_are_kept_before_a_line_stops_the_run():
    def line_for(custom_id, body):
        if body["messages"][-1]["content"] == "first":
            return refused(custom_id, 401, "bad key")
        return answered(custom_id, body)

    received = []

    async def collect(one):
        async for reply in one.answer(requests_of(one, "first", "second")):
            received.append(reply.text)

    with (
        FakeBatches(line_for=line_for) as server,
        pytest.raises(TeacherUnusable, match="the key was refused"),
    ):
        asyncio.run(collect(teacher(server)))
    assert received == ["echo second"]


def test_lines_that_are_doubled_or_strange_change_nothing():
    def line_for(custom_id, body):
        twice = [answered(custom_id, body), answered("of somebody else", body)]
        return "\n".join(json.dumps(line) for line in [*twice, twice[0]])

    with FakeBatches(line_for=line_for) as server:
        assert texts(ask(teacher(server), "a", "b")) == ["echo a", "echo b"]


def test_what_expired_is_submitted_again_and_what_was_cancelled_is_not():
    with FakeBatches(endings=["expired"]) as server:
        replies = ask(teacher(server), *QUESTIONS)
        assert texts(replies) == sorted(f"echo {question}" for question in QUESTIONS)
        assert sorted(server.lines.values()) == [1] * 5 + [2] * 5
    with FakeBatches(endings=["cancelled"]) as server:
        replies = ask(teacher(server), *QUESTIONS)
        failed = [reply for reply in replies if reply.error]
        assert len(failed) == 5 and len(replies) == 10
        assert "ended as cancelled" in str(failed[0].error)
        assert all(isinstance(reply.error, TransientError) for reply in failed)
        assert set(server.lines.values()) == {1}


def test_passing_faults_of_the_server_and_a_lost_creation_submit_nothing_twice():
    faults = [Fault(503), Fault(0), Fault(500), Fault(429, headers={"Retry-After": "0"})]
    with FakeBatches(faults=faults, lost_creates=1, looks=3) as server:
        assert len(ask(teacher(server), *QUESTIONS)) == 10
        assert len(server.batches) == 1
        assert set(server.lines.values()) == {1}


def test_a_full_queue_is_waited_for():
    with FakeBatches(most_live=1, looks=3) as server:
        replies = ask(teacher(server, requests_per_batch=4), *QUESTIONS)
        assert texts(replies) == sorted(f"echo {question}" for question in QUESTIONS)
        assert set(server.lines.values()) == {1}
    with FakeBatches(most_live=0) as server:
        with pytest.raises(TeacherUnusable, match="queue is full .Enqueued token limit"):
            ask(teacher(server), "q")
        assert not server.lines


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"endings": ["failed"]}, "was refused: line 1 is no JSON"),
        ({"faults": [Fault(401)]}, "the key was refused"),
        ({"faults": [Fault(400, '{"error": {"message": "no batches here"}}')]}, "no batches here"),
        ({"line_for": lambda name, body: refused(name, 404, "no such model")}, "no such model"),
    ],
)
def test_what_can_not_work_stops_at_once_and_never_tells_the_key(options, told, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with FakeBatches(**options) as server, pytest.raises(TeacherUnusable, match=told) as caught:
        ask(teacher(server, api_key_env="MY_KEY"), "q")
    assert KEY not in str(caught.value)


def test_a_server_that_stays_away_is_given_up():
    with (
        FakeBatches(faults=[Fault(503)] * 1000) as server,
        pytest.raises(TeacherUnusable, match="batches that were submitted go on"),
    ):
        ask(teacher(server, patience_s=0.2), "q")


def test_the_budget_splits_batches_and_is_never_exceeded():
    with FakeBatches(looks=2) as server:
        one = teacher(server, input_usd_per_million=100.0, output_usd_per_million=100.0)
        most = one.most(requests_of(one, "q0")[0]).usd
        real = 110 * 50 / 1e6
        roomy = Budget(usd=10 * real + 2 * most)
        assert len(ask(one, *QUESTIONS, budget=roomy)) == 10
        assert roomy.spent_usd == pytest.approx(10 * real)
        assert roomy.reserved_usd == 0 and roomy.in_flight == 0
        assert len(server.batches) > 1  # as many at once as fit
        tight = Budget(usd=3.5 * most)
        with pytest.raises(BudgetReached):
            ask(one, *[f"other {n}" for n in range(50)], budget=tight)
        assert 0 < tight.spent_usd <= 3.5 * most
        assert tight.in_flight == 0


def first_of(one, questions, budget=None):
    """Take one reply, and leave as a process that is killed would."""

    async def go():
        async with aclosing(one.answer(requests_of(one, *questions), budget)) as replies:
            return await anext(replies)

    return asyncio.run(go())


def test_a_restart_takes_up_what_is_there_and_submits_only_the_rest():
    with FakeBatches(looks=1) as server:
        one = teacher(server, requests_per_batch=5)
        got = first_of(one, QUESTIONS)
        assert len(server.lines) == 10
        rest = [question for question in QUESTIONS if f"echo {question}" != got.text]
        budget = Budget()
        replies = ask(one, *rest, "new", budget=budget)
        assert texts(replies) == sorted(f"echo {question}" for question in [*rest, "new"])
        assert set(server.lines.values()) == {1}
        assert len(server.lines) == 11
        assert budget.in_flight == 0
        assert budget.spent_tokens == 110 * 10
        inputs = {batch["input_file_id"] for batch in server.batches.values()}
        assert len(inputs & server.files.keys()) == 1  # that of the reply taken before


def test_cancelling_takes_what_was_done_with_the_next_run():
    with FakeBatches(looks=1) as server:
        one = teacher(server)
        server.looks = 10**6

        async def submit():
            async with aclosing(one.answer(requests_of(one, *QUESTIONS))) as replies:
                await asyncio.wait_for(anext(replies), 0.5)

        with pytest.raises(TimeoutError):
            asyncio.run(submit())
        [batch_id] = one.cancel()
        assert server.batches[batch_id]["status"] == "cancelling"
        server.looks = 1
        assert one.cancel() == [batch_id]  # until it has ended
        replies = ask(one, *QUESTIONS)
        assert len(replies) == 10 and sum(reply.error is None for reply in replies) == 5
        assert one.cancel() == []
        again = ask(one, *[r.request.messages[0]["content"] for r in replies if r.error])
        assert len(again) == 5
        assert sorted(server.lines.values()) == [1] * 5 + [2] * 5


ASKER = """
import asyncio, sys
from pathlib import Path
from datagen.openai import batches
from datagen.generate import ask, requests_for
from datagen.spending.limits import Budget
from datagen.teacher import Sampling
from datagen.teachers.openai_batch import OpenaiBatch
from tests.datagen.test_generate import prompt
from warehouse.records import Call
from warehouse.db.spool import Spool
from warehouse.db.store import Store

batches.FIRST_POLL_S = 0.02
teacher = OpenaiBatch(model="fake", base_url=sys.argv[2], poll_s=0.05, requests_per_batch=20)
requests = requests_for([prompt(str(n)) for n in range(100)], teacher.identity, Sampling())
store = Store(Path(sys.argv[1]))
with Spool(store.path) as spool:
    spool.drain(store)
    paid = store.paid_ids([(r.call_id, 512) for r in requests])
    left = [request for request in requests if request.call_id not in paid]
    keep = lambda record, reply: spool.append(record)
    asyncio.run(ask(teacher, left, Budget(), "r", "generate", keep))
    spool.drain(store)
"""


def test_killed_while_batches_are_in_progress_nothing_is_submitted_twice(tmp_path):
    from warehouse.db.store import Store
    from warehouse.records import Call

    path = tmp_path / "w.duckdb"
    with FakeBatches(looks=4, lost_creates=1) as server:
        command = [sys.executable, "-c", ASKER, str(path), server.base_url]
        for goal in (1, 3, 5):
            process = subprocess.Popen(command)
            deadline = time.monotonic() + 60
            while len(server.batches) < goal and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.05 * goal)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert subprocess.run(command, timeout=120).returncode == 0
        assert len(server.lines) == 100
        assert set(server.lines.values()) == {1}
    assert len(Store(path).read(Call)) == 100


@pytest.mark.parametrize(
    "options",
    [
        {"requests_per_batch": 0}, {"requests_per_batch": 50_001}, {"most_batches": 0},
        {"poll_s": 0.0}, {"max_tries": 0}, {"price_factor": -1.0}, {"base_url": "ftp://x"},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError):
        OpenaiBatch(**{"model": "m", **options})
