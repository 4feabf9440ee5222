"""Two nodes, here two processes of one machine, learn what two processes of one node learn."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from threading import Thread

import pytest
from safetensors.torch import load_file

from distill.learning import nodes
from distill.learning.multiprocess import environment, train_in_processes
from distill.learning.objective import TrainingInputs
from distill.objectives.sequence import Sequence
from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from tests.support.teaching import sample
from tests.support.tiny import make_tiny
from train.config import SftConfig, parse_rendezvous
from train.tuners.lora import Lora
from warehouse.errors import TrainingError

CONFIG = SftConfig(epochs=2, batch_size=4, learning_rate=1e-2, max_length=128, save_steps=2)
LORA = Lora(rank=4, dropout=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Sums over threads have an order that a machine's number of processors decides."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def inputs_of(base, out, rows=12, **options):
    config = SftConfig.model_validate(CONFIG.model_dump() | options)
    return TrainingInputs(base, LORA, [sample(n) for n in range(rows)], config, out)


def two_nodes(base, out, **options):
    return inputs_of(base, out, nodes=2, rendezvous=f"127.0.0.1:{free_port()}", **options)


def joining(inputs, *words):
    """The other node: a process that knows nothing but the address."""
    command = [sys.executable, "-m", "flows.cli", "join", inputs.config.rendezvous, *words]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=inputs.out.parent, env=environment()
    )


def curve(result):
    return [entry["loss"] for entry in result.losses]


def weights(result):
    (file,) = result.path.glob("*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def here(base, tmp_path_factory):
    """Two processes of one machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        out = tmp_path_factory.mktemp("here") / "student"
        return train_in_processes(Sequence(), inputs_of(base, out, processes=2))


def assert_the_same(one, other):
    assert curve(one) == curve(other)
    assert weights(one).keys() == weights(other).keys()
    for name, tensor in weights(other).items():
        assert tensor.equal(weights(one)[name]), name


@pytest.mark.trains
def test_two_nodes_learn_what_two_processes_learn(base, here, tmp_path):
    inputs = two_nodes(base, tmp_path / "apart")
    other = joining(inputs, "--once")
    apart = train_in_processes(Sequence(), inputs)
    said = other.communicate()[1]
    assert other.returncode == 0, said
    assert "training as node 1 of 2" in said
    assert_the_same(apart, here)


@pytest.mark.slow
@pytest.mark.trains
def test_a_node_that_is_lost_is_one_line_and_the_training_resumes(base, here, tmp_path):
    inputs = two_nodes(base, tmp_path / "apart")
    other = joining(inputs)
    seen = []

    def lose_the_other(step):
        if step.done == 4 and not seen:
            seen.append(step)
            os.kill(other.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"^node 1: it was lost; training resumes") as lost:
        train_in_processes(Sequence(), inputs, lose_the_other)
    assert "\n" not in str(lost.value) and seen
    other.wait()
    assert list((tmp_path / "apart.work").glob("checkpoint-*/rng_state_1.pth"))

    other = joining(inputs, "--once")
    steps = []
    apart = train_in_processes(Sequence(), inputs, steps.append)
    said = other.communicate()[1]
    assert other.returncode == 0, said
    assert min(step.done for step in steps) > 1, "it began anew"
    assert_the_same(apart, here)


@pytest.mark.trains
def test_a_node_with_other_software_is_refused_on_both_sides(base, tmp_path, monkeypatch):
    inputs = two_nodes(base, tmp_path / "student")
    ours = nodes._software(base)
    monkeypatch.setattr(nodes, "_software", lambda base: {**ours, "torch": "0.1"})
    told = []

    def take_part():
        try:
            nodes.join(inputs.config.rendezvous, once=True, say=lambda text: None)
        except TrainingError as error:
            told.append(str(error))

    other = Thread(target=take_part)
    other.start()
    with pytest.raises(TrainingError, match=r"^node 1: differs in torch 0\.1 \(first node: "):
        train_in_processes(Sequence(), inputs)
    other.join()
    assert told[0].startswith("this node cannot take part: differs in torch 0.1")


def test_a_node_that_does_not_come_is_named_with_the_command_that_starts_it(
    base, tmp_path, monkeypatch
):
    monkeypatch.setattr(nodes, "JOIN_S", 0.1)
    inputs = two_nodes(base, tmp_path / "student", batch_size=6)
    inputs = replace(inputs, config=inputs.config.model_copy(update={"nodes": 3, "batch_size": 6}))
    job = job_of(inputs, tmp_path)
    with pytest.raises(
        TrainingError, match=r"^2 nodes of 3 did not join .* start `distill join 127"
    ):
        nodes.lead(job)


def job_of(inputs, folder):
    from distill.learning.multiprocess import job_json

    home = folder / "job"
    home.mkdir()
    (home / "job.json").write_text(json.dumps(job_json(Sequence(), inputs, home)))
    return home / "job.json"


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.9", "no-such-host.invalid"])
def test_an_address_that_cannot_be_listened_at_is_one_line(base, tmp_path, host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        inputs = inputs_of(base, tmp_path / "s", nodes=2, rendezvous=f"{host}:{port}")
        with pytest.raises(TrainingError, match=r"cannot be listened at .* address of") as error:
            nodes.lead(job_of(inputs, tmp_path))
    assert "\n" not in str(error.value)


def test_the_first_node_listens_at_its_address_and_nowhere_else():
    store = nodes._listen("127.0.0.1", port := free_port())
    store.set("it", "listens")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_what_is_left_of_a_stopped_training_goes_along_under_another_name(tmp_path):
    import io
    import tarfile

    job = tmp_path / "job"
    job.mkdir()
    (job / "job.json").write_text("{}")
    (tmp_path / "abc.work" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "abc.work" / "checkpoint-3" / "state").write_text("x" * 100)
    (tmp_path / "abcd.work").mkdir()
    packed = b"".join(nodes._packed(job, tmp_path / "abc"))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = set(tar.getnames())
    assert {"./job.json", "student.work/checkpoint-3/state"} <= names
    assert not [name for name in names if "abcd" in name]


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1:29500", ("10.0.0.1", 29500)), ("[::1]:80", ("::1", 80)), ("head:1", ("head", 1))],
)
def test_an_address_is_read(text, found):
    assert parse_rendezvous(text) == found


@pytest.mark.parametrize(
    "text", ["29500", "host", "host:", ":1", "host:0", "host:70000", "http://h:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="rendezvous"):
        parse_rendezvous(text)


def test_nodes_need_an_address_and_share_a_batch():
    with pytest.raises(ValueError, match="nodes = 2 need a rendezvous"):
        SftConfig(nodes=2)
    with pytest.raises(ValueError, match=r"cannot be shared by processes = 3 x 2 nodes"):
        SftConfig(nodes=2, processes=3, batch_size=8, rendezvous="a:1")
    with pytest.raises(ValueError, match="packed rows"):
        SftConfig(nodes=2, packing=True, rendezvous="a:1")


def test_where_a_student_is_trained_is_in_no_id(tmp_path):
    from distill.plan.plan import load_plan
    from flows.stages.training_records import student_id_of

    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"))
    one = load_plan(plan)
    two = load_plan(plan, ["train.nodes=2", 'train.rendezvous="10.0.0.1:29500"'])
    assert two.training.nodes == 2
    assert one.plan_hash == two.plan_hash
    kept = [sample(1)]
    assert student_id_of(one.training, kept) == student_id_of(two.training, kept)


def test_an_address_of_the_other_kind_is_a_line(tmp_path):
    done = distill(tmp_path, "join", "nowhere")
    assert done.returncode == 2
    assert "is not HOST:PORT" in done.stderr
