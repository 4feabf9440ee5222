"""A month of a served plan in minutes: 31 nights, with all that can go wrong in one.

The clock is moved, the teacher is a script with a price, and each night is one tick.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from unittest import mock

import pytest
import time_machine

from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.runtime.period_caps import periods_at
from flows.schedule.status import status_of, students_of
from flows.schedule.tick import run_tick
from flows.students.registry import promotions_of
from tests.support.plans import rows, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.errors import StillhouseError
from warehouse.records import Call, Choice, Run, Sample

pytestmark = pytest.mark.trains

TEACHER = '''
"""A scripted teacher that has a price, and that is down while a file is there."""

import asyncio
import json
import pathlib
from dataclasses import dataclass

from datagen.spending.limits import Budget, Reservation
from datagen.spending.pricing import Price
from datagen.teacher import Reply, Teacher, Usage
from warehouse.errors import TeacherUnusable


@dataclass
class Priced(Teacher):
    """Answers with the colour of the passage; each reply costs a cent."""

    folder: str = "."
    identity = "priced"
    model = "priced"
    price = Price(input=0.0, output=1000.0)

    def check(self):
        return ["priced (a fake)"]

    async def answer(self, requests, budget=None):
        budget = budget or Budget()
        for request in requests:
            if (pathlib.Path(self.folder) / "down").exists():
                raise TeacherUnusable("the teacher is down")
            most = Reservation(0.01, 10)
            await budget.reserve(most)
            if (pathlib.Path(self.folder) / "slow").exists():
                await asyncio.sleep(0.3)
            with open(pathlib.Path(self.folder) / "asked.log", "a") as log:
                log.write(json.dumps([request.call_id]) + "\\n")
            text = str(request.messages[-1]["content"])
            colour = text.partition(" and is ")[2].partition(".")[0]
            budget.settle(most, 0.01, 10)
            yield Reply(request, colour, "stop", Usage(9, 1), 0.0, 0.01, {"fake": True})

    def close(self):
        pass
'''

SCHEDULE = """
[schedule]
cron = "30 2 * * *"
timezone = "Europe/Berlin"
retrain_when = { new_rows = 25, share = 0.9 }
drift = { least = 10 }
[ship]
conditions = ["student >= base - 0.9 on custom"]
certain = false
"""


AT = """
import sys
from datetime import datetime
import time_machine
from flows.cli import main
moment = datetime.fromisoformat(sys.argv.pop(1))
with time_machine.travel(moment, tick=True):
    main()
"""


def nights(first, count):
    """When the plan's schedule runs: Prefect's own dates, over the end of summer time."""
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin")
    return [
        datetime.fromtimestamp(moment.timestamp(), UTC)
        for moment in asyncio.run(schedule.get_dates(count, start=first))
    ]


def with_colours(made):
    return [row for row in made if " and is " in row["passage"]]


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "priced.py").write_text(TEACHER)
    teacher = f'[teacher]\nuse = "./priced.py:Priced"\nfolder = "{tmp_path}"\n'
    plan = write_plan(tmp_path, teacher, prompts=20)
    text = plan.read_text().replace(
        "shard = 10\n", "shard = 10\nbudget_usd_per_day = 0.4\nbudget_usd_per_month = 2.0\n"
    )
    plan.write_text(text + SCHEDULE)
    return plan


def asked(plan):
    return (plan.parent / "asked.log").read_text().splitlines()


def test_a_month_of_nights(plan):
    folder = plan.parent
    documents = {f"day 0, {n}": row for n, row in enumerate(rows(0, 20))}
    bad = {
        f"bad {n}": {**row, "passage": row["passage"].replace(" and is ", " and was ")}
        for n, row in enumerate(rows(700, 15))
    }
    told: list[tuple[str, dict]] = []
    killed = 0
    dates = nights(datetime(2026, 10, 4, tzinfo=UTC), 30)
    # 24 hours apart in UTC, but for the night in which the clocks are changed
    gaps = [(b - a) / timedelta(hours=1) for a, b in pairwise(dates)]
    assert sorted(set(gaps)) == [24, 25] and gaps.count(25) == 1

    for night, moment in enumerate(dates):
        overrides: list[str] = []
        if night in (3, 7, 12, 20, 24):  # documents are added
            new = rows(20 * (night + 1), 12 if night != 24 else 55)
            documents |= {f"day {night}, {n}": row for n, row in enumerate(new)}
        if night == 9:  # one is changed, two are removed
            changed = documents["day 0, 3"]
            passage = changed["passage"].replace("river", "lake")
            documents["day 0, 3"] = {**changed, "passage": passage}
            del documents["day 0, 5"], documents["day 0, 6"]
        if night == 14:
            documents |= bad
        if night == 16:  # a person saw it
            for key in bad:
                del documents[key]
        if 20 <= night < 24:
            overrides = ['ship.conditions=["student >= base + 0.9 on custom"]']
        write_rows(folder / "prompts.jsonl", list(documents.values()))
        for name, on in (("down", night in (5, 6, 7)), ("slow", night == 12)):
            (folder / name).touch() if on else (folder / name).unlink(missing_ok=True)
        with time_machine.travel(moment, tick=True):
            if night == 12:
                killed = kill_in_the_middle(plan, moment)
                (folder / "slow").unlink()
            if night == 3:
                with (
                    mock.patch.object(Store, "insert", full_disk),
                    pytest.raises(StillhouseError, match="cannot be written"),
                ):
                    run_tick(str(plan), overrides)
            try:
                found = run_tick(str(plan), overrides)
            except StillhouseError as error:
                found = {"state": "failed", "reason": str(error)}
            told.append((f"{moment:%m-%d}", found))

    states = {night: found["state"] for night, (_, found) in enumerate(told)}
    print("\n".join(f"{day} {found['state']:12} {found['reason'][:150]}" for day, found in told))
    store = open_store(load_plan(plan))
    calls = store.read(Call)
    assert killed > 0
    assert states[0] == "done" and told[0][1]["promoted"]
    assert states[1] == states[2] == "nothing new"
    assert states[7] == "failed"  # new documents, and nobody answers
    assert states[8] in ("waiting", "done")
    assert states[14] == states[15] == "drift" and states[16] == "waiting"
    assert states[20] == "done" and told[20][1]["trained"] and "promoted" not in told[20][1]
    assert states[24] == "budget" and "budget_usd_per_day" in told[24][1]["reason"]
    assert states[25] == "done" and told[25][1]["promoted"]

    # nothing was asked twice, and nothing is missing that one run over the final documents would ask
    assert len(calls) == len({call.call_id for call in calls}) == len(set(asked(plan)))
    assert len(asked(plan)) - len(calls) <= 1  # in flight when it was killed
    with time_machine.travel(dates[-1] + timedelta(hours=1)):
        last = run_tick(str(plan))
    assert last["state"] == "nothing new" and last["calls_made"] == 0
    newest = max((r for r in store.read(Run) if r.summary.get("selection_id")), key=started)
    chosen = store.read(Choice, "selection_id = ?", [newest.summary["selection_id"]])
    samples = store.by_ids(Sample, "sample_id", [choice.sample_id for choice in chosen])
    questions = {row["prompt"] for row in documents.values()}
    assert {sample.question for sample in samples} == questions

    # no cap was exceeded, counted by hand
    zone = load_plan(plan).schedule.zone
    for key, cap in (("budget_usd_per_day", 0.4), ("budget_usd_per_month", 2.0)):
        spent: dict[datetime, float] = {}
        for call in calls:
            [period] = [p for p in periods_at(call.created_at, zone) if p.key == key]
            spent[period.begins] = spent.get(period.begins, 0.0) + (call.cost_usd or 0.0)
        assert max(spent.values()) <= cap + 1e-9, (key, spent)

    # the registry: every promotion met [ship], and none is of the student that did not
    promoted = [p.student_id for p in promotions_of(store, "small")]
    refused = told[20][1]["trained"]
    assert len(promoted) == len(set(promoted)) >= 2
    assert refused not in promoted
    listed = {row["student_id"]: row for row in students_of(store, "small")}
    assert [key for key, row in listed.items() if row["current"]] == [promoted[-1]]
    current = folder / "students" / "current"
    assert current.resolve().name == promoted[-1]
    assert status_of(load_plan(plan), store)["current"] == promoted[-1]


def started(run):
    return run.started_at


def full_disk(self, records):
    raise StillhouseError(f"{self.path} cannot be written: {os.strerror(errno.ENOSPC)}")


def kill_in_the_middle(plan, moment):
    """Start a tick, kill it while it asks; returns how many requests it had sent by then."""
    before = len(asked(plan))
    process = subprocess.Popen(
        [sys.executable, "-c", AT, moment.isoformat(), "tick", str(plan)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(asked(plan)) < before + 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(asked(plan)) - before
