"""Arms of a bake-off and seeds train on workers: the weights of one process, also after a kill."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest

from distill.learning.multiprocess import environment
from distill.learning.objective import TrainingInputs
from distill.objectives.sequence import Sequence
from flows.engines import workers
from flows.engines.processes import ProcessEngine
from flows.stages import train_shard
from flows.stages.generate import generate
from flows.stages.train import train
from flows.stages.train_shard import train_in_worker, train_shards
from flows.studies.bakeoff import bakeoff
from tests.support.plans import scripted, write_plan
from train.config import SftConfig
from train.tuners.lora import Lora
from warehouse.db.store import Store
from warehouse.errors import TrainingError
from warehouse.records import Failure, Sample, Student

LONG = ["train.epochs=40", "train.save_steps=10", "train.tuner.dropout=0.0"]
WORKERS = ["run.engine=process", "run.workers=2"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """A project with samples, and no student yet."""
    folder = tmp_path_factory.mktemp("arms") / "p"
    plan = write_plan(folder, scripted(folder / "asked.log"))
    text = plan.read_text().replace(f'"{folder / "w.duckdb"}"', '"w.duckdb"')
    plan.write_text(text.replace(f'"{folder / "tiny"}"', '"tiny"'))
    generate(str(plan))
    return folder


def project(generated: Path, folder: Path) -> str:
    return str(shutil.copytree(generated, folder) / "plan.toml")


def weights_of(plan: str) -> dict[str, bytes]:
    """Weights by student id."""
    folder = Path(plan).parent
    students = Store(folder / "w.duckdb").read(Student)
    return {
        each.student_id: next(each.folder_in(folder).glob("*.safetensors")).read_bytes()
        for each in students
    }


def test_arms_have_the_same_weights_in_workers_and_one_after_the_other(
    generated, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as each of two workers has on two processors
    monkeypatch.setattr(workers, "usable_processors", lambda: 2)
    here = project(generated, tmp_path / "here")
    ours = bakeoff(here, [], ["lora,ia3"], ["2"])
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # of the run's process: workers have their own
    there = project(generated, tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    theirs = bakeoff("there/plan.toml", WORKERS, ["lora,ia3"], ["2"])
    assert capsys.readouterr().err.count("is trained, ") == 4
    assert len(weights_of(here)) == 4
    assert weights_of(here) == weights_of(there)  # bit by bit
    students = [
        {each.student_id: each for each in Store(Path(plan).parent / "w.duckdb").read(Student)}
        for plan in (here, there)
    ]
    for student_id, student in students[0].items():
        other = students[1][student_id]
        assert other.losses == student.losses
        assert (other.base, other.path) == (student.base, student.path)
    for ours_row, theirs_row in zip(ours["rows"], theirs["rows"], strict=True):
        assert ours_row["tuner"] == theirs_row["tuner"]
        assert ours_row["exact_match"] == theirs_row["exact_match"]
    assert [path.name for path in (tmp_path / "there" / "students").glob("*.*")] == []
    again = train(there, [*WORKERS, "train.seeds=2"])
    assert not again["trained"]


@pytest.fixture(scope="module")
def whole(generated, tmp_path_factory) -> dict[int, list[float]]:
    """Losses of two seeds, by seed, trained here and never interrupted."""
    plan = project(generated, tmp_path_factory.mktemp("whole") / "p")
    train(plan, [*LONG, "train.seeds=2"])
    return losses_of(plan)


def losses_of(plan: str) -> dict[int, list[float]]:
    students = Store(Path(plan).parent / "w.duckdb").read(Student)
    return {each.seed: [entry["loss"] for entry in each.losses] for each in students}


def kill_one(of_worker: bool, killed: list[int]) -> None:
    """Kill a training that has a whole checkpoint, or the worker that has the training."""
    give_up = time.monotonic() + 240
    while time.monotonic() < give_up:
        for child in psutil.Process().children(recursive=True):
            try:
                command = child.cmdline()
                if "distill.learning.multiprocess" not in command:
                    continue
                out = json.loads(Path(command[-1]).read_text())["out"]
                if not Path(f"{out}.work", "checkpoint-20").exists():  # so that of step 10 is whole
                    continue
                victim = child.parent() if of_worker else child
                assert victim is not None
                victim.kill()
            except (psutil.NoSuchProcess, FileNotFoundError):
                continue
            killed.append(victim.pid)
            return
        time.sleep(0.02)


@pytest.mark.parametrize("of_worker", [True, False])
def test_an_arm_that_is_killed_goes_on_at_its_checkpoint(
    of_worker, generated, whole, tmp_path, capsys
):
    plan = project(generated, tmp_path / "p")
    killed: list[int] = []
    killer = Thread(target=kill_one, args=(of_worker, killed))
    killer.start()
    result = train(plan, [*LONG, *WORKERS, "train.seeds=2"])
    killer.join()
    assert killed and result["trained"] and len(result["student_ids"]) == 2
    assert "resumed after step " in capsys.readouterr().err
    found = losses_of(plan)
    assert found.keys() == whole.keys() == {0, 1}
    for seed, losses in found.items():
        assert losses == pytest.approx(whole[seed], rel=1e-4)


def test_ctrl_c_ends_the_trainings_of_all_workers(generated, tmp_path):
    plan = project(generated, tmp_path / "p")
    options = [*LONG, *WORKERS, "train.seeds=2", "train.epochs=4000"]
    words = [word for option in options for word in ("--set", option)]
    command = [sys.executable, "-m", "flows.cli", "train", plan, *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(1))
    give_up = time.monotonic() + 240
    while len({each.parent for each in tmp_path.glob("p/students/*.work/checkpoint-*")}) < 2:
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.05)
    trainings = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3, stderr
    assert "0 of 2 students are trained, and 2 of the others left a checkpoint" in stderr
    _, alive = psutil.wait_procs(trainings, timeout=60)
    assert not alive
    assert not list(tmp_path.glob("p/students/*.lease"))


FAILING = '''
"""A tuner that cannot be attached."""

from dataclasses import dataclass

from train.tuners.lora import Lora
from warehouse.errors import TrainingError


@dataclass(frozen=True)
class Failing(Lora):
    """LoRA that fails."""

    def attach(self, model, setting):
        raise TrainingError("this arm cannot be trained")
'''


def test_an_arm_that_fails_costs_no_other_one(generated, tmp_path):
    plan = project(generated, tmp_path / "p")
    (tmp_path / "p" / "failing.py").write_text(FAILING)
    with pytest.raises(TrainingError, match="this arm cannot be trained"):
        bakeoff(plan, WORKERS, ["lora", '{use = "./failing.py:Failing"}'])
    store = Store(tmp_path / "p" / "w.duckdb")
    (student,) = store.read(Student)
    assert student.tuner["use"] == "lora"
    (failure,) = store.read(Failure, "stage = 'train'")
    assert failure.subject != student.student_id


class Keeping:
    """An engine that keeps what it is sent, and lets a worker have it later."""

    is_local = False

    def map(self, task, shared, shards, finished=None):
        self.shared, self.shards = shared, list(shards)
        return iter(())


@pytest.fixture
def sent(generated, tmp_path):
    """What all trainings share, and one of them; the run that sent it has ended."""
    samples = Store(generated / "w.duckdb").read(Sample)
    config = SftConfig(epochs=20, batch_size=8, save_steps=0)
    inputs = TrainingInputs(
        base=str(generated / "tiny"),
        tuner=Lora(rank=2),
        samples=samples,
        config=config,
        out=tmp_path / "students" / "abc",
    )
    engine = Keeping()
    train_shards(engine, {"abc": (Sequence(), inputs)}, 1, lambda trained: None)
    [shard] = pickle.loads(pickle.dumps(engine.shards))
    return engine.shared, shard


def test_a_worker_that_does_not_see_the_folder_says_what_to_do(sent, monkeypatch):
    monkeypatch.setattr(train_shard, "SEEN_WITHIN_S", 0.1)
    shared, shard = sent
    with pytest.raises(
        TrainingError, match="does not see the project's folder .*mount it"
    ) as caught:
        train_in_worker(shared, shard)
    assert "\n" not in str(caught.value)


def test_a_worker_with_another_base_is_refused(sent, tmp_path):
    shared, shard = sent
    (tmp_path / "students" / "abc.lease").write_text(shard.token)
    with pytest.raises(TrainingError, match="has other weights than here"):
        train_in_worker(shared, replace(shard, base_fingerprint="other"))


def test_a_training_ends_with_the_run_that_sent_it(sent, tmp_path, monkeypatch):
    """Of another run there is another token."""
    shared, shard = sent
    lease = tmp_path / "students" / "abc.lease"
    lease.write_text(shard.token)
    steps = []
    step = train_shard._Following.step

    def end_run(self, at):
        steps.append(at.done)
        lease.write_text("of another run")
        step(self, at)

    monkeypatch.setattr(train_shard._Following, "step", end_run)
    trained = train_in_worker(shared, shard)
    assert isinstance(trained.result, TrainingError)
    assert "the run that had student abc trained has ended" in str(trained.result)
    assert steps == [1] and not (tmp_path / "students" / "abc").exists()
    assert trained.figures["rows_kept"] == 24


def test_what_goes_to_a_worker_is_plain(sent):
    shared, shard = sent
    assert json.loads(shared).keys() == {"samples", "logprobs", "held_out"}
    assert len(json.loads(shared)["samples"]) == 24
    assert json.loads(shard.job).keys() == {"objective", "base", "tuner", "config", "out"}


def test_threads_of_this_machine_are_shared_out(monkeypatch):
    monkeypatch.setattr(workers, "usable_processors", lambda: 8)
    with ProcessEngine(4) as engine:
        assert [engine.threads_of(shards) for shards in (2, 3, 9)] == [4, 2, 2]
    monkeypatch.setattr(engine, "address", "tcp://10.0.0.5:8786")
    assert engine.threads_of(2) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environment(None, 3)["OMP_NUM_THREADS"] == environment(None, 3)["MKL_NUM_THREADS"] == "3"
    assert environment(2, 3)["OMP_NUM_THREADS"] == "1"
    assert environment(2)["OMP_NUM_THREADS"] == "1"
