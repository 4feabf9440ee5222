"""SIGKILL at random moments: no reply that was received is lost, doubled or asked for again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from datagen.generate import requests_for
from datagen.teacher import Sampling
from tests.datagen.test_generate import prompt
from tests.support.fakes import FakeOpenai, message_hash
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.records import Call

IN_FLIGHT = 32

ASKER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
import openai, httpx2
from datagen.generate import requests_for
from datagen.spending.limits import Budget
from datagen.teacher import Sampling
from datagen.teachers.openai_chat import OpenaiChat
from flows.runtime.run import RunContext
from flows.stages import teacher_client
from flows.runtime.progress import meter
from tests.datagen.test_generate import prompt
from warehouse.db.store import Store

folder, url, prompts, in_flight = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
teacher_client.DRAIN_EVERY = 50  # so that some kills fall into a drain


def work():
    teacher = OpenaiChat(model="fake", base_url=url, max_in_flight=in_flight)
    requests = requests_for(
        [prompt(str(n)) for n in range(prompts)], teacher.identity, Sampling(max_tokens=20)
    )
    plan, run = SimpleNamespace(teacher=teacher), SimpleNamespace(run_id="r", summary={})
    store = Store(folder / "w.duckdb")
    at_work = RunContext(plan, "p", (), store, run, budget=Budget())
    with teacher_client.TeacherClient(at_work) as asker, meter("asking", prompts) as told:
        asker.ask(requests, "generate", told)


for line in sys.stdin:  # each line starts a process, with everything imported before
    process = os.fork()
    if not process:
        work()
        os._exit(0)
    print(process, flush=True)
    _, status = os.waitpid(process, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts processes that ask, one after the other; gives a process id and how to wait."""
    makers = []

    def begin(url, prompts):
        words = [sys.executable, "-c", ASKER, str(tmp_path), url, str(prompts), str(IN_FLIGHT)]
        maker = subprocess.Popen(words, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
        makers.append(maker)

        def one():
            maker.stdin.write("\n")
            maker.stdin.flush()
            return int(maker.stdout.readline()), lambda: int(maker.stdout.readline().split()[1])

        return one

    yield begin
    for maker in makers:
        maker.stdin.close()
        maker.wait(60)
        maker.stdout.close()


@pytest.mark.parametrize(
    ("kills", "number"), [(3, 400), pytest.param(20, 2_500, marks=pytest.mark.slow)]
)
def test_kills_lose_and_double_nothing(tmp_path, start, kills, number):
    chance = random.Random(20)
    store = Store(tmp_path / "w.duckdb")
    with FakeOpenai(latency_s=0.05) as server:
        identity = f"fake@{server.base_url}"
        prompts = [prompt(str(n)) for n in range(number)]
        requests = requests_for(prompts, identity, Sampling(max_tokens=20))
        asked_as = {request.call_id: message_hash(request.messages) for request in requests}
        one = start(server.base_url, number)
        asked_twice, in_flight, settled = 0, 0, {}
        for _ in range(kills):
            before = server.asked
            process, ended = one()
            goal = chance.randrange(160)  # requests of this process, before it is killed
            deadline = time.monotonic() + 60
            while server.asked < before + goal and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.uniform(0.0, 0.1))
            os.kill(process, signal.SIGKILL)
            assert ended() == -signal.SIGKILL
            while server.in_flight:  # what was on its way has been counted
                time.sleep(0.01)
            asked_twice += sum(server.counts[asked] - n for asked, n in settled.items())
            with Spool(store.path) as spool:
                spool.drain(store)
            kept = [asked_as[call.call_id] for call in store.read(Call)]
            assert len(kept) == len(set(kept))
            assert settled.keys() <= set(kept), "a reply was lost"
            settled = {asked: server.counts[asked] for asked in kept}
            in_flight = server.asked - len(kept)
        durable = len(settled)
        process, ended = one()
        assert ended() == 0
        asked_twice += sum(server.counts[asked] - n for asked, n in settled.items())
    calls = store.read(Call)
    print(
        f"\n{kills} kills: {server.asked} requests reached the server; {durable} replies received and "
        f"durable at the last kill, {in_flight} in flight at one of the kills; {len(calls)} calls "
        f"in the warehouse in the end; received replies asked again = {asked_twice}"
    )
    assert asked_twice == 0
    assert {call.call_id for call in calls} == asked_as.keys()
    assert len(calls) == number
    assert 10 * kills < durable < number  # the kills fell into the work
    assert in_flight == server.asked - number <= kills * IN_FLIGHT
    assert not list((tmp_path / "w.duckdb.spool").glob("*"))
