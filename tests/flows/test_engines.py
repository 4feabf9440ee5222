"""Shards give the same results in this process and in workers, also where a worker is killed."""

import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pytest

from distill.plan.plan import load_plan
from distill.plan.sections import RunSection
from flows.engines.dask_cluster import DaskEngine
from flows.engines.engine import LocalEngine, engine_of
from flows.engines.processes import ProcessEngine
from flows.engines.ray_cluster import RayEngine
from flows.engines.workers import (
    DEATHS,
    EngineError,
    WorkerEngine,
    WorkersLost,
    installed_version,
    require_same_version,
)
from flows.runtime.prefect_flow import run_flow
from flows.stages import curate as stage
from flows.stages import embed_shard
from flows.stages.curate import curate
from flows.stages.embed_shard import ShardedEncoder
from flows.stages.evaluate import evaluate
from flows.stages.generate import generate
from flows.stages.score_shard import score_here, score_in_worker, sent_scorer
from quality.gate import sketch_shard
from quality.scoring.scorer import ScorerContext
from tests.support.plans import scripted, write_plan
from tests.support.tiny import make_encoder
from warehouse import extras
from warehouse.catalog import build
from warehouse.db.store import Store
from warehouse.errors import MissingExtraError, PlanError
from warehouse.records import Answer, Sample

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {"process": ProcessEngine, "dask": DaskEngine, "ray": RayEngine}
SLOW_CLUSTERS = [
    "process",
    pytest.param("dask", marks=pytest.mark.slow),
    pytest.param("ray", marks=pytest.mark.slow),
]

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
duplicates = { near = 0.85 }
scorers = [{ use = "grounded" }, { use = "style" }, { use = "refusal" }, { use = "./length.py:Length" }]
gate = { refusal_max = 0.5 }
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
    rows += [
        {"prompt": f"In one sentence, who {word} the old stone bridge over the river?"}
        for word in ("designed", "designs")  # nearly the same
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The project as one process curates it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "SCORED_AT_ONCE", 8)
        plan = project(tmp_path_factory.mktemp("alone") / "p")
        curate(str(plan))
    return plan


@pytest.mark.parametrize("name", ["process", "dask", "ray"])
def test_every_engine_writes_what_one_process_writes_row_for_row(
    name, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 8)
    monkeypatch.setattr(sketch_shard, "SKETCHED_AT_ONCE", 8)
    sent = []
    map_ = WorkerEngine.map

    def noting(self, task, shared, shards, finished=None):
        sent.append(task.__name__)
        return map_(self, task, shared, shards, finished)

    monkeypatch.setattr(WorkerEngine, "map", noting)
    there = project(tmp_path / "there")
    curate(str(there), [f"run.engine={name}", "run.workers=2"])
    # All rules go over a shard at once.
    assert sent == ["score_in_worker", "match_shard", "sketch_shard", "sign_shard"]
    for records in ("scores", "choices", "samples"):
        assert table(alone, records) == table(there, records)
    assert len(table(there, "scores")) == 168
    assert {row[3] for row in table(there, "choices")} >= {
        "kept",
        "held_out: question",
        "near duplicate",
    }


def test_the_engine_is_no_part_of_a_plan_s_hash(tmp_path):
    plan = project(tmp_path / "p")
    assert load_plan(plan).plan_hash == load_plan(plan, ["run.engine=process"]).plan_hash
    with pytest.raises(PlanError, match="run.engine"):
        load_plan(plan, ["run.engine=spark"])
    with pytest.raises(
        PlanError, match='engine = "process" runs on this machine and takes no addr'
    ):
        load_plan(plan, ["run.engine=process", "run.address=tcp://10.0.0.5:8786"])
    with pytest.raises(PlanError, match='gpus_per_worker is for workers, and engine = "local"'):
        load_plan(plan, ["run.gpus_per_worker=1"])
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


def slow_at_first(folder: str, shard: int) -> int:
    """Ends when the next shard has ended, which another worker takes."""
    if shard:
        Path(folder, "next").touch()
    deadline = time.monotonic() + 60
    while not Path(folder, "next").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return shard


def sleeps(_: None, shard: int) -> int:
    time.sleep(5)
    return shard


def gpus(_: None, shard: int) -> tuple[int, str | None]:
    time.sleep(0.05)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("name", SLOW_CLUSTERS)
def test_an_encoder_gives_the_same_vectors_on_every_engine(name, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_shard, "EMBEDDED_AT_ONCE", 8)
    encoder = make_encoder(tmp_path, ["bridge", "number", *map(str, range(40))])
    texts = [f"Who built bridge number {n}{' of a town' * (n % 5)}?" for n in range(40)]
    here = ShardedEncoder(str(encoder), LocalEngine()).encode(texts)
    with engine_of(RunSection(engine=name, workers=2)) as engine:
        there = ShardedEncoder(str(encoder), engine).encode(texts)
    assert there.shape == (40, 16)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-6)
    assert len(np.unique(here.round(4), axis=0)) == 40


def answers_of(folder: Path, engine: str) -> list[Answer]:
    """What the untuned base answers to 150 items, which are three shards."""
    plan = write_plan(folder, scripted(folder / "asked.log"), prompts=1, held_out=150)
    options = ['evaluate.contestants=["base"]', f"run.engine={engine}"]
    evaluate(str(plan), [*options, *(["run.workers=2"] if engine != "local" else [])])
    return sorted(Store(folder / "w.duckdb").read(Answer), key=lambda answer: answer.answer_id)


@pytest.fixture(scope="module")
def answers_here(tmp_path_factory) -> list[Answer]:
    """Those of one process."""
    return answers_of(tmp_path_factory.mktemp("answers"), "local")


@pytest.mark.parametrize("name", SLOW_CLUSTERS)
def test_a_base_gives_the_same_answers_on_every_engine(name, answers_here, tmp_path, monkeypatch):
    sent = []
    share = ENGINES[name].share
    monkeypatch.setattr(ENGINES[name], "share", lambda *args: sent.append(1) or share(*args))
    answers = answers_of(tmp_path, name)
    assert sent == [1]
    assert len(answers) == len(answers_here) == 150
    assert len({answer.text for answer in answers}) > 1
    for here, there in zip(answers_here, answers, strict=True):
        ours, theirs = (dict(answer.details or {}) for answer in (here, there))
        assert theirs.pop("confidence") == pytest.approx(ours.pop("confidence"), rel=1e-5)
        assert theirs == ours
        changing = {"run_id": "", "latency_s": 0.0, "details": None}
        assert replace(there, **changing) == replace(here, **changing)


@pytest.mark.parametrize("name", ["process", "dask", "ray"])
def test_an_engine_with_nothing_to_do_starts_nothing(name, monkeypatch):
    with engine_of(RunSection(engine=name, workers=2)) as engine:
        monkeypatch.setattr(engine, "start", lambda: pytest.fail("a cluster was started"))
        assert list(engine.map(square, 0, [])) == []


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
    scorer = load_plan(plan).quality.scorers[3].with_tools(ScorerContext(folder=plan.parent))
    [sample] = Store(plan.parent / "w.duckdb").read(Sample, "completion LIKE 'I am sorry%'")
    with ProcessEngine(1) as engine, pytest.raises(PlanError, match='run.engine = "local"'):
        list(engine.map(score_in_worker, [sent_scorer(scorer)], [[sample]]))


@pytest.mark.parametrize("name", SLOW_CLUSTERS)
def test_workers_that_always_die_end_the_stage_with_what_to_do(name):
    taken: list[int] = []
    section = RunSection(engine=name, workers=1)
    with engine_of(section) as engine, pytest.raises(WorkersLost, match=f"died {DEATHS + 1} times"):
        taken.extend(engine.map(dies, None, range(5)))
    assert taken == [0, 1][: len(taken)]


def test_a_scorer_s_code_goes_along_and_its_folder_need_not_be_there(tmp_path):
    plan = project(tmp_path / "p")
    scorer = load_plan(plan).quality.scorers[3].with_tools(ScorerContext(folder=plan.parent))
    sent = pickle.loads(pickle.dumps(sent_scorer(scorer)))
    samples = Store(plan.parent / "w.duckdb").read(Sample)
    here = score_here([scorer], samples)
    (plan.parent / "length.py").write_text("raise SystemExit")  # what was loaded counts
    (plan.parent / "docs.md").write_text("The bridge was built in 1932.")
    documents = build("scorer", {"use": "retrieved", "documents": ["docs.md"]}).with_tools(
        ScorerContext(folder=plan.parent)
    )
    sent_documents = sent_scorer(documents)
    shutil.rmtree(plan.parent)
    there = score_in_worker([sent], samples)
    assert there.scores.equals(here.scores)
    assert (len(there.scores), there.failed) == (42, [])
    with pytest.raises(PlanError, match=f"has no folder {plan.parent}"):
        score_in_worker([sent_documents], samples)


def test_a_cluster_at_an_address_is_used_and_left(tmp_path):
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        address = cluster.scheduler_address
        with engine_of(RunSection(engine="dask", address=address)) as engine:
            assert [value for value, _ in engine.map(square, 1, range(3))] == [1, 2, 5]
        with Client(address) as client:
            assert len(client.nthreads()) == 1


def test_a_ray_cluster_at_an_address_is_used_and_left(tmp_path):
    from flows.engines.ray_cluster import set_environment

    set_environment(is_here=True)
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        code = (
            "from distill.plan.sections import RunSection\n"
            "from flows.engines.engine import engine_of\n"
            "from tests.flows.test_engines import square\n"
            f"with engine_of(RunSection(engine='ray', address='{address}')) as engine:\n"
            "    print([value for value, _ in engine.map(square, 1, range(3))])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout.strip() == "[1, 2, 5]", done.stderr
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_an_address_that_does_not_answer_is_one_line(name):
    section = RunSection(engine=name, address="127.0.0.1:9")
    with engine_of(section) as engine, pytest.raises(EngineError) as caught:
        list(engine.map(square, 0, range(2)))
    assert str(caught.value).startswith(f"no {name} cluster answers at run.address '127.0.0.1:9' (")
    assert "\n" not in str(caught.value)


def test_a_cluster_with_another_version_is_refused():
    require_same_version([installed_version()])
    with pytest.raises(EngineError, match="the workers at run.address have stillhouse 0.0.1, and"):
        require_same_version([installed_version(), "0.0.1"])
    with pytest.raises(EngineError, match="have stillhouse not installed"):
        require_same_version([None])


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_names_its_extra(name, module, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"{module}.*pip install 'stillhouse\[{name}\]'"):
        engine_of(RunSection(engine=name))


@pytest.mark.parametrize("name", ["process", "dask", "ray"])
def test_each_worker_has_gpus_of_its_own(name, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with engine_of(RunSection(engine=name, workers=2, gpus_per_worker=1)) as engine:
        found = set(engine.map(gpus, None, range(12)))
    assert {devices for _, devices in found} == {"4", "5"}
    assert len(found) == 2
    with pytest.raises(PlanError, match="with 2 workers takes 4 GPUs, and this machine has 2"):
        engine_of(RunSection(engine=name, workers=2, gpus_per_worker=2))


def test_workers_end_with_the_run_that_is_killed():
    code = (
        "import os, signal\n"
        "from flows.engines.processes import ProcessEngine\n"
        "from tests.flows.test_engines import square\n"
        "if __name__ == '__main__':\n"
        "    engine = ProcessEngine(1)\n"
        "    print([pid for _, pid in engine.map(square, 0, [1])][0], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    worker = int(done.stdout)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(worker)


@pytest.mark.parametrize("name", SLOW_CLUSTERS)
def test_ctrl_c_ends_the_wait_for_shards(name):
    taken: list[int] = []
    with engine_of(RunSection(engine=name, workers=2)) as engine:
        list(engine.map(square, 0, range(4)))  # the workers are there
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            taken.extend(engine.map(sleeps, None, range(8)))
    assert len(taken) < 8


# Last, since a process has one Ray cluster at a time.
@pytest.fixture(scope="module", params=["process", "dask", "ray"])
def engine(request):
    """An engine of two workers."""
    with engine_of(RunSection(engine=request.param, workers=2)) as engine:
        yield engine


def test_results_come_in_order_from_other_processes(engine):
    found = list(engine.map(square, 7, range(9)))
    assert [value for value, _ in found] == [n * n + 7 for n in range(9)]
    assert os.getpid() not in {pid for _, pid in found}


def test_the_bar_advances_with_the_worker_that_is_first(engine, tmp_path):
    finished: list[int] = []
    results = engine.map(slow_at_first, str(tmp_path), range(2), finished.append)
    assert list(results) == [0, 1]
    assert sorted(finished) == [0, 1]


def test_a_killed_worker_costs_nothing_but_time(engine, tmp_path):
    marker = tmp_path / "died"
    assert list(engine.map(dies_once, str(marker), range(8))) == list(range(8))
    assert marker.exists()


def test_an_error_of_a_shard_is_the_error_of_the_stage(engine):
    with pytest.raises(PlanError, match="this shard cannot be scored"):
        list(engine.map(fails, None, range(3)))
    assert [value for value, _ in engine.map(square, 0, range(3))] == [0, 1, 4]


def test_within_a_flow_run_each_shard_is_a_task_run(engine, prefect_configured):
    name = f"shards of {type(engine).__name__}"
    assert len(run_flow(name, lambda: list(engine.map(square, 0, range(5))))) == 5
    with sqlite3.connect(prefect_configured) as database:
        states = database.execute(
            "SELECT task_run.name, task_run.state_type FROM task_run "
            "JOIN flow_run ON flow_run.id = task_run.flow_run_id "
            "JOIN flow ON flow.id = flow_run.flow_id WHERE flow.name = ?",
            [name],
        ).fetchall()
    assert [state for _, state in states] == ["COMPLETED"] * 5
