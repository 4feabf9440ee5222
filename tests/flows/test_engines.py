"""Shards give the same results in this process and in workers, also where a worker is killed."""

import json
import os
import signal
import time
from pathlib import Path

import duckdb
import pytest

from distill.plan.plan import load_plan
from distill.plan.sections import RunSection
from flows.engines.engine import LocalEngine, engine_of
from flows.engines.processes import DEATHS, ProcessEngine, WorkersLost
from flows.stages import curate as stage
from flows.stages.curate import curate
from flows.stages.generate import generate
from flows.stages.score_shard import ScorerOfPlan, score_in_worker, tables_of
from warehouse.db.store import Store
from warehouse.errors import PlanError
from warehouse.records import Sample

PLAN = """
name = "engines"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "The bridge was built in 1932 by the town."
replies = { "17" = "I am sorry, but I cannot help with that." }
[[datagen.recipe]]
use = "imitation"
prompts = "rows.jsonl"
student_sees_passage = true
[quality]
scorers = [{ use = "grounded" }, { use = "style" }, { use = "refusal" }, { use = "./length.py:Length" }]
gate = { grounded_min = 0.5, refusal_max = 0.5 }
[evaluate]
benchmarks = [{ use = "custom", path = "items.jsonl" }]
"""
SCORER = '''
"""How long a completion is."""

from dataclasses import dataclass

from quality.scoring.scorer import Scorer, Verdict


@dataclass
class Length(Scorer):
    """Characters of the completion."""

    version = "1"
    factor: float = 2.0

    def score_batch(self, samples):
        for sample in samples:
            yield Verdict(self.factor * len(sample.completion))
'''


def project(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {
            "prompt": f"Who built bridge number {n}?",
            "passage": f"Bridge {n} was built in 19{n:02} by the town of A{n}.",
        }
        for n in range(40)
    ]
    items = [{"prompt": rows[n]["prompt"], "reference": ["the town"]} for n in (3, 5)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    (folder / "length.py").write_text(SCORER)
    (folder / "plan.toml").write_text(PLAN)
    generate(str(folder / "plan.toml"))
    return folder / "plan.toml"


def table(plan: Path, name: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(plan.parent / "w.duckdb"), read_only=True) as db:
        return db.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()


def test_workers_write_what_one_process_writes_row_for_row(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 8)
    sent = []
    map_ = ProcessEngine.map

    def noting(self, task, shared, shards):
        sent.append(task.__name__)
        return map_(self, task, shared, shards)

    monkeypatch.setattr(ProcessEngine, "map", noting)
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    curate(str(here))
    assert sent == []
    curate(str(there), ["run.engine=process", "run.workers=2"])
    assert sent == ["score_in_worker", "match_shard"]  # all rules go over a shard at once
    for name in ("scores", "choices", "samples"):
        assert table(here, name) == table(there, name)
    assert len(table(here, "scores")) == 160
    assert {row[3] for row in table(here, "choices")} >= {"kept", "held_out: question"}


def test_the_engine_is_no_part_of_a_plan_s_hash(tmp_path):
    plan = project(tmp_path / "p")
    assert load_plan(plan).plan_hash == load_plan(plan, ["run.engine=process"]).plan_hash
    with pytest.raises(PlanError, match="run.engine"):
        load_plan(plan, ["run.engine=spark"])
    assert isinstance(engine_of(RunSection()), LocalEngine)


def square(offset: int, shard: int) -> tuple[int, int]:
    return shard * shard + offset, os.getpid()


def dies_once(marker: str, shard: int) -> int:
    if shard == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return shard


def dies(_: None, shard: int) -> int:
    if shard == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return shard


def fails(_: None, shard: int) -> int:
    raise PlanError("this shard cannot be scored")


def test_results_come_in_order_from_other_processes():
    with ProcessEngine(2) as engine:
        found = list(engine.map(square, 7, range(9)))
    assert [value for value, _ in found] == [n * n + 7 for n in range(9)]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    with ProcessEngine(2) as engine:
        assert list(engine.map(dies_once, str(tmp_path / "died"), range(8))) == list(range(8))
    assert (tmp_path / "died").exists()


def test_a_worker_that_dies_between_two_shards_costs_nothing_either():
    with ProcessEngine(1) as engine:
        results = engine.map(square, 0, range(6))
        found = [next(results)]
        deadline = time.monotonic() + 60
        assert engine._pool is not None
        while engine._pool._pending_work_items and time.monotonic() < deadline:
            time.sleep(0.05)  # the shards that were sent ahead are done
        for process in list(engine._pool._processes.values()):
            process.kill()
            process.join()
        found += results
    assert [value for value, _ in found] == [n * n for n in range(6)]
    assert len({pid for _, pid in found}) == 2


def test_a_scorer_that_wants_the_teacher_s_messages_is_told_to_stay(tmp_path):
    plan = project(tmp_path / "p")
    scorer = SCORER.replace(
        "for sample in samples:", "self.tools.prompt_messages([])\n        for sample in samples:"
    )
    (plan.parent / "length.py").write_text(scorer)
    table = next(t for t in tables_of(load_plan(plan)) if "length" in t)
    [sample] = Store(plan.parent / "w.duckdb").read(Sample, "completion LIKE 'I am sorry%'")
    with ProcessEngine(1) as engine, pytest.raises(PlanError, match='run.engine = "local"'):
        list(engine.map(score_in_worker, [ScorerOfPlan(str(plan), (), table)], [[sample]]))


def test_workers_that_always_die_end_the_stage_with_what_to_do():
    taken: list[int] = []
    with ProcessEngine(1) as engine, pytest.raises(WorkersLost, match=f"died {DEATHS + 1} times"):
        taken.extend(engine.map(dies, None, range(5)))
    assert taken == [0, 1]


def test_an_error_of_a_shard_is_the_error_of_the_stage():
    with ProcessEngine(1) as engine, pytest.raises(PlanError, match="this shard cannot be scored"):
        list(engine.map(fails, None, range(3)))
