"""A plan on its schedule: what a tick asks, trains, promotes, and leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.runtime import signals
from flows.schedule.status import accept_drift, status_of
from flows.schedule.tick import run_tick
from flows.stages.end_to_end import end_to_end
from flows.students.registry import promotions_of, roll_back
from tests.support.cli import distill
from tests.support.plans import rows, scripted, write_plan, write_rows
from warehouse.db.lock import exclusive
from warehouse.db.store import Store
from warehouse.errors import (
    NotFoundError,
    PlanError,
    StillhouseError,
    UsageError,
    WarehouseError,
)
from warehouse.records import Call, Failure, Run, Student

SHIP = '[ship]\nconditions = ["student >= base - 0.9 on custom"]\ncertain = false\n'
NEVER = '[ship]\nconditions = ["student >= base + 0.9 on custom"]\ncertain = false\n'
WHEN = "schedule.retrain_when={new_rows=8, share=0.9}"

pytestmark = pytest.mark.trains


def plan_in(folder, more=SHIP, prompts=24):
    plan = write_plan(folder, scripted(folder / "asked.log"), prompts=prompts)
    plan.write_text(plan.read_text() + more)
    return plan


def asked(plan):
    log = plan.parent / "asked.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def reports(plan):
    return sorted(str(path) for path in (plan.parent / "runs").glob("*/report.html"))


def store_of(plan):
    return open_store(load_plan(plan))


def test_the_first_tick_does_all_the_second_nothing_and_the_third_what_is_new(tmp_path):
    plan = plan_in(tmp_path)
    first = run_tick(str(plan), [WHEN])
    assert (first["state"], first["calls_made"]) == ("done", asked(plan))
    assert first["promoted"] == first["trained"] is not None
    current = plan.parent / "students" / "current"
    assert current.resolve().name == first["trained"]
    assert (current / "tuner.json").is_file()
    written, before = reports(plan), asked(plan)

    second = run_tick(str(plan), [WHEN])
    assert second["state"] == "nothing new"
    assert (asked(plan), reports(plan)) == (before, written)
    assert "trained" not in second and "promoted" not in second

    write_rows(plan.parent / "prompts.jsonl", rows(0, 28))
    third = run_tick(str(plan), [WHEN])
    assert third["state"] == "waiting"
    assert third["calls_made"] == 4 and asked(plan) == before + 4
    assert third["changes"]["samples_new"] == 4
    assert "4 new samples (4 of prompts.jsonl)" in third["reason"]
    assert "training waits for 8 new rows" in third["reason"]
    assert reports(plan) == written

    write_rows(plan.parent / "prompts.jsonl", rows(0, 40))
    fourth = run_tick(str(plan), [WHEN])
    assert fourth["trained"] not in (None, first["trained"])
    assert fourth["promoted"] == fourth["trained"]
    assert len(reports(plan)) == len(written) + 1
    assert current.resolve().name == fourth["trained"]

    store = store_of(plan)
    assert [p.before for p in promotions_of(store, "small")] == [None, first["trained"]]
    found = status_of(load_plan(plan), store)
    assert [tick["state"] for tick in found["ticks"]] == ["done", "waiting", "nothing new", "done"]
    assert found["current"] == fourth["trained"] and found["waits"] is None
    assert {row["student_id"] for row in found["students"]} == {first["trained"], fourth["trained"]}
    assert all(row["scores"] for row in found["students"])

    assert roll_back(store, "small").student_id == first["trained"]
    assert current.resolve().name == first["trained"]
    after = run_tick(str(plan), [WHEN])
    assert after["state"] == "nothing new"  # what a person went back from is not promoted again
    assert current.resolve().name == first["trained"]
    with pytest.raises(UsageError, match="is the current one"):
        roll_back(store, "small", first["trained"][:6])
    with pytest.raises(NotFoundError, match="no earlier student 'ffff'"):
        roll_back(store, "small", "ffff")
    assert roll_back(store, "small", fourth["trained"][:10]).student_id == fourth["trained"]

    shown = distill(tmp_path, "status", plan)
    assert fourth["trained"][:8] in shown.stdout and "training waits" in shown.stdout
    listed = distill(tmp_path, "students", plan).stdout
    assert first["trained"][:8] in listed and "rollback" in listed
    back = distill(tmp_path, "rollback", plan)
    assert f"students/current is {first['trained'][:8]}" in back.stdout


def test_many_idle_ticks_leave_one_record(tmp_path):
    plan = plan_in(tmp_path)
    run_tick(str(plan), stage="curate")
    for _ in range(4):
        assert run_tick(str(plan), stage="curate")["state"] == "nothing new"
    store = store_of(plan)
    assert len(store.read(Run)) == 2
    assert status_of(load_plan(plan), store)["ticks"][0]["idle"] == 3


def test_a_student_that_does_not_meet_ship_is_not_promoted(tmp_path):
    plan = plan_in(tmp_path, NEVER)
    found = run_tick(str(plan))
    assert found["trained"] and "promoted" not in found
    assert "not promoted: student >= base + 0.9" in found["reason"]
    assert not (plan.parent / "students" / "current").exists()
    assert promotions_of(store_of(plan), "small") == []
    assert run_tick(str(plan))["state"] == "nothing new"
    again = run_tick(str(plan), ['ship.conditions=["student >= base - 0.9 on custom"]'])
    assert again["promoted"] == found["trained"]  # other conditions: evaluated again, not trained
    assert "trained" not in again


def test_a_student_that_a_person_ran_is_promoted_by_the_next_tick(tmp_path):
    plan = plan_in(tmp_path)
    ran = end_to_end(str(plan))
    assert not (plan.parent / "students" / "current").exists()  # a run promotes nobody
    before = asked(plan)
    found = run_tick(str(plan))
    assert found["promoted"] == ran["student_id"] and "trained" not in found
    assert asked(plan) == before
    assert run_tick(str(plan))["state"] == "nothing new"


def test_an_experiment_neither_counts_as_the_last_student_nor_is_promoted(tmp_path):
    plan = plan_in(tmp_path)
    first = run_tick(str(plan), [WHEN])
    end_to_end(str(plan), ["train.seed=99"])
    write_rows(plan.parent / "prompts.jsonl", rows(0, 26))
    found = run_tick(str(plan), [WHEN])
    assert found["state"] == "waiting" and "(now 2 and" in found["reason"]
    assert [p.student_id for p in promotions_of(store_of(plan), "small")] == [first["trained"]]


def test_where_promoting_failed_the_next_tick_does_it(tmp_path):
    plan = plan_in(tmp_path)
    current = plan.parent / "students" / "current"
    current.mkdir(parents=True)  # in the way
    with pytest.raises(WarehouseError, match="is no link"):
        run_tick(str(plan))
    current.rmdir()
    found = run_tick(str(plan))
    assert found["promoted"] == current.resolve().name and "trained" not in found


def test_other_conditions_leave_the_choice_of_a_person_and_promote_nobody_twice(tmp_path):
    plan = plan_in(tmp_path)
    first = run_tick(str(plan), [WHEN])
    write_rows(plan.parent / "prompts.jsonl", rows(0, 40))
    second = run_tick(str(plan), [WHEN])
    store = store_of(plan)
    milder = [WHEN, 'ship.conditions=["student >= base - 0.8 on custom"]']
    again = run_tick(str(plan), milder)
    assert again["reason"].endswith("it is the promoted one")
    roll_back(store, "small")
    mildest = [WHEN, 'ship.conditions=["student >= base - 0.7 on custom"]']
    assert "a person went back from it" in run_tick(str(plan), mildest)["reason"]
    promoted = [p.student_id for p in promotions_of(store, "small")]
    assert promoted == [first["trained"], second["trained"], first["trained"]]


def test_an_earlier_student_is_evaluated_beside_its_own_rows(tmp_path):
    plan = plan_in(tmp_path, NEVER)
    first = run_tick(str(plan), [WHEN])
    write_rows(plan.parent / "prompts.jsonl", rows(0, 28))
    assert run_tick(str(plan), [WHEN])["state"] == "waiting"
    found = run_tick(str(plan), [WHEN, 'ship.conditions=["student >= base - 0.9 on custom"]'])
    assert found["promoted"] == first["trained"]
    report = json.loads(Path(found["report_path"]).with_suffix(".json").read_text())
    assert report["funnel"][-1]["count"] == 24  # what it was trained on, and not today's 28
    write_rows(plan.parent / "prompts.jsonl", rows(0, 31))
    reason = run_tick(str(plan), [WHEN])["reason"]
    assert "(now 7 and" in reason  # since it was trained, not since it was evaluated


def test_every_seed_of_an_earlier_student_is_evaluated(tmp_path):
    plan = plan_in(tmp_path, NEVER)
    two = [WHEN, "train.seeds=2"]
    run_tick(str(plan), two)
    found = run_tick(str(plan), [*two, 'ship.conditions=["student >= base - 0.9 on custom"]'])
    assert found["promoted"] and "trained" not in found
    [gone] = [
        s for s in store_of(plan).read(Student) if s.seed != 0 and s.student_id != found["promoted"]
    ]
    shutil.rmtree(plan.parent / gone.path)
    with pytest.raises(NotFoundError, match="beside"):
        run_tick(str(plan), [*two, 'ship.conditions=["student >= base - 0.8 on custom"]'])


def test_a_benchmark_without_items_is_a_failure_and_no_patience(tmp_path):
    plan = plan_in(tmp_path)
    (plan.parent / "held_out.jsonl").write_text("")
    with pytest.raises(StillhouseError):
        run_tick(str(plan))
    assert status_of(load_plan(plan), store_of(plan))["ticks"][0]["state"] == "failed"


def test_a_stage_needs_no_more_of_a_plan_than_it_uses(tmp_path):
    plan = plan_in(tmp_path, "")
    text = plan.read_text()
    plan.write_text(text[: text.index("[evaluate]")])
    assert run_tick(str(plan), stage="curate")["state"] == "done"
    assert run_tick(str(plan), stage="train")["trained"]
    with pytest.raises(PlanError, match="no benchmark"):
        run_tick(str(plan))


def test_a_tick_of_another_machine_is_not_signalled(tmp_path, monkeypatch):
    path = tmp_path / "w.duckdb"
    sent = []
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call))
    for host, number in ((socket.gethostname(), 1), ("elsewhere", 0)):
        sent.clear()
        lock = FileLock(f"{path}.lock", thread_local=False)
        lock.acquire()
        Path(f"{path}.lock.pid").write_text(f"4711 tick {host}")
        told = threading.Event()
        thread = threading.Thread(target=wait_for, args=(path, told))
        thread.start()
        assert told.wait(20)
        time.sleep(0.2)
        lock.release()
        thread.join(20)
        assert len(sent) == number
        assert not Path(f"{path}.lock.pid").exists()  # nobody holds it


def wait_for(path, told):
    with exclusive(path, lambda line: told.set(), "cancel", tick=True):
        pass


def swallow_a_signal():
    with signals.interrupted():
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        signals.raise_if_swallowed()


def test_a_signal_that_a_library_caught_is_raised_again():
    with pytest.raises(KeyboardInterrupt):
        swallow_a_signal()
    with signals.interrupted():
        signals.raise_if_swallowed()  # of an earlier run nothing is left


def test_what_duckdb_says_of_a_signal_is_an_interrupt(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    store.insert([Failure("r", "generate", "s", "e", permanent=False)])
    with pytest.raises(KeyboardInterrupt), store._reading():
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="other"), store._reading():
        raise RuntimeError("other")


def test_the_hook_runs_without_a_shell_and_its_failure_is_told(tmp_path):
    mark = tmp_path / "mark"
    code = f"import os;open('{mark}','w').write(os.environ['STILLHOUSE_STUDENT'])"
    hook = f'[schedule]\non_promote = """{sys.executable} -c "{code}" """\n'
    plan = plan_in(tmp_path / "good", SHIP + hook)
    found = run_tick(str(plan))
    assert mark.read_text() == str(plan.parent / "students" / found["promoted"])
    failing = (
        f'[schedule]\non_promote = """{sys.executable} -c "raise SystemExit(\'no room\')" """\n'
    )
    found = run_tick(str(plan_in(tmp_path / "bad", SHIP + failing)))
    assert found["promoted"] and "on_promote ended with 1: no room" in found["reason"]
    missing = '[schedule]\non_promote = "/no/such/program; touch x"\n'
    found = run_tick(str(plan_in(tmp_path / "none", SHIP + missing)))
    assert found["promoted"] and "on_promote cannot be run" in found["reason"]


@pytest.mark.parametrize("way_out", ["remove", "accept"])
def test_data_that_has_drifted_is_not_trained_on_until_removed_or_accepted(tmp_path, way_out):
    plan = plan_in(tmp_path, prompts=60)
    bounds = ["schedule.drift={least=20}", "schedule.retrain_when={new_rows=5}"]
    settings, store = load_plan(plan, bounds), store_of(plan)
    first = run_tick(str(plan), bounds)
    with pytest.raises(NotFoundError, match="found no drift"):
        accept_drift(settings, store)
    good = rows(0, 60)
    bad = [{**row, "passage": row["passage"].replace("is ", "was ")} for row in rows(500, 40)]
    write_rows(plan.parent / "prompts.jsonl", [*good, *bad])
    second = run_tick(str(plan), bounds)
    assert second["state"] == "drift", second
    assert "unusable 0 -> 1 (+100%)" in second["drift"]["description"]
    good += rows(60, 60)  # good rows beside them do not hide them
    write_rows(plan.parent / "prompts.jsonl", [*good, *bad])
    third = run_tick(str(plan), bounds)
    assert (third["state"], third["changes"]["kept_new"]) == ("drift", 60)
    assert "drifted" in status_of(settings, store)["waits"]
    assert [student.student_id for student in store.read(Student)] == [first["trained"]]
    if way_out == "remove":
        write_rows(plan.parent / "prompts.jsonl", good)
    else:
        done = distill(tmp_path, "status", plan, "--accept-drift")
        assert done.stdout.startswith("accepted: 40 new samples:"), done.stderr
    last = run_tick(str(plan), bounds)
    assert last["trained"] not in (None, first["trained"])
    assert run_tick(str(plan), bounds)["state"] == "nothing new"


def test_a_few_new_samples_wait_until_they_can_be_compared(tmp_path):
    plan = plan_in(tmp_path, prompts=40)
    bounds = ["schedule.drift={least=20}", "schedule.retrain_when={new_rows=500, share=1.0}"]
    run_tick(str(plan), bounds)
    baseline = store_of(plan).read(Run)[0].summary["selection_id"]
    for count, compared in ((50, False), (55, False), (61, True)):
        write_rows(plan.parent / "prompts.jsonl", rows(0, count))
        drift = run_tick(str(plan), bounds)["drift"]
        assert ("compared" in drift) is compared
        assert (drift["baseline"] == baseline) is not compared


def test_a_teacher_that_fails_ends_a_tick_and_the_next_one_goes_on(tmp_path):
    plan = plan_in(tmp_path)
    text = plan.read_text()
    replies = text[text.index("[teacher]") : text.index("[datagen]")]
    down = '[teacher]\nuse = "openai_chat"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
    plan.write_text(text.replace(replies, down))
    done = distill(tmp_path, "tick", plan)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    store = store_of(plan)
    [failed] = status_of(load_plan(plan), store)["ticks"]
    assert failed["state"] == "failed" and failed["reason"]
    plan.write_text(text)
    assert run_tick(str(plan), stage="curate")["state"] == "done"
    assert [t["state"] for t in status_of(load_plan(plan), store)["ticks"]] == ["done", "failed"]


def slow(folder):
    return f'[teacher]\nuse = "scripted"\ndefault = "brown"\nlatency_s = 0.5\nlog = "{folder}/asked.log"\n'


def start(plan, *overrides):
    words = [word for text in overrides for word in ("--set", text)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "tick", str(plan), "--stage", "generate", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if asked(plan):
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("the tick did not start")


@pytest.mark.parametrize("policy", ["skip", "cancel", "wait"])
def test_a_tick_beside_another_one(tmp_path, policy):
    plan = write_plan(tmp_path, slow(tmp_path), prompts=16)
    running = start(plan)
    try:
        found = run_tick(str(plan), [f"schedule.overlap={policy}"], "generate")
    finally:
        _, errors = running.communicate(timeout=120)
    store = store_of(plan)
    if policy == "skip":
        assert found["state"] == "skipped" and "is using w.duckdb" in found["reason"]
        assert running.returncode == 0
    elif policy == "cancel":
        assert running.returncode == 3 and "Traceback" not in errors
        assert found["state"] == "done" and 0 < found["calls_made"] <= 16
    else:
        assert running.returncode == 0
        assert found["state"] == "nothing new"
    calls = store.read(Call)
    assert len(calls) == len({call.call_id for call in calls}) == 16


def test_a_run_of_a_person_is_not_cancelled(tmp_path):
    plan = write_plan(tmp_path, slow(tmp_path), prompts=6)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "generate", str(plan)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    holder = plan.parent / "w.duckdb.lock.pid"
    while not holder.exists():
        assert process.poll() is None
        time.sleep(0.1)
    assert run_tick(str(plan), ["schedule.overlap=cancel"], "generate")["state"] == "nothing new"
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_sigterm_ends_a_tick_soon_with_nothing_lost(tmp_path):
    plan = write_plan(tmp_path, slow(tmp_path), prompts=40)
    process = start(plan)
    os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    store = store_of(plan)
    before = len(store.read(Call))
    assert 0 < before < 40
    [run] = store.read(Run)
    assert (run.state, run.summary["tick"]["state"]) == ("stopped", "stopped")
    found = run_tick(str(plan), ["teacher.latency_s=0.0"], "generate")
    assert found["calls_made"] == 40 - before
    assert not list(tmp_path.glob("w.duckdb.spool/*.jsonl"))


def test_a_tick_with_nothing_to_do_imports_no_torch(tmp_path):
    plan = plan_in(tmp_path)
    run_tick(str(plan))
    code = (
        "import sys, json; from flows.schedule.tick import run_tick; "
        f"found = run_tick({str(plan)!r}); "
        "print(json.dumps([found['state'], sorted({'torch', 'transformers', 'trl'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["nothing new", []]
    assert len(store_of(plan).read(Student)) == 1
