"""Train on several machines: the first waits for the others and hands them the training.

The first node, which runs the plan, listens at `train.rendezvous` and nowhere else. Its store
(torch's `TCPStore`) is the one through which torchrun's static rendezvous lets the workers meet, so
one port serves both. The others, which run `distill join`, need neither plan nor warehouse nor a
shared disk: rows, options, code of own parts and the last checkpoint come through the store. Whoever
reaches the port can take part: it belongs into a trusted network.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill.learning.multiprocess import WORKER, crash_of, environment, python_command
from train.config import SftConfig, parse_rendezvous
from train.loop.sft import LIBRARIES
from train.model.device import device, require_a_gpu_each
from warehouse.errors import StillhouseError, TrainingError, first_line
from warehouse.parent_process import end_with_parent
from warehouse.wording import format_count

JOIN_S = 600.0
"""Longest wait of the first node for the others, in seconds."""

READY_S = 3600.0
"""Longest wait until they all have the base model, which each fetches for itself, in seconds."""

LEAVE_S = 5.0
"""Longest wait for the others' last word after the training, in seconds."""

_CHUNK = 4 << 20
"""Bytes of the job in one value of the store, which takes 8 MiB at most."""

_STUDENT = "student"
"""Name of the student's folder in the job of another node; checkpoints lie beside it."""

_POLL_S = 0.5


def lead(job: Path) -> None:
    """Wait for the other nodes, hand them the job, and run this node's workers through torchrun.

    Args:
        job: The job file of `distill.learning.multiprocess`; its folder goes to the others.

    Raises:
        TrainingError: the address cannot be listened at, a node did not come or does not fit.
    """
    content = json.loads(job.read_text(encoding="utf-8"))
    config = SftConfig.model_validate_json(json.dumps(content["config"]))
    host, port = parse_rendezvous(config.rendezvous or "")
    run = secrets.token_hex(8)
    store = _listen(host, port)
    chunks = 0
    for chunk in _packed(job.parent, Path(content["out"])):
        store.set(f"chunk/{chunks}", chunk)
        chunks += 1
    header = {
        "id": run,
        "nodes": config.nodes,
        "processes": config.processes,
        "base": content["base"],
        "chunks": chunks,
        "software": _software(content["base"]),
    }
    store.set("header", json.dumps(header))
    fault = _faults(store, config)
    store.set("go", fault)
    if fault:
        raise TrainingError(fault)
    os.environ.update(_interfaces(host))
    try:
        _torchrun(host, port, run, config.nodes, config.processes, 0, job)
    finally:
        _collect_last_words(store, config.nodes, job.parent)


def join(endpoint: str, once: bool = False, say: Callable[[str], None] = print) -> None:
    """Take part in the trainings of another machine, one after the other, until interrupted.

    Args:
        endpoint: Where its `train.rendezvous` listens, HOST:PORT.
        once: Whether to return after one training.
        say: Called with what happens.

    Raises:
        TrainingError: this node does not fit the other one, or, with `once`, the training failed.
    """
    try:
        host, port = parse_rendezvous(endpoint)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store that ends is no news here
    last = ""
    say(f"waiting for a training at {endpoint}; Ctrl-C ends this node")
    while True:
        last, failure = _join_next(host, port, last, say)
        if once:
            if failure:
                raise TrainingError(failure)
            return
        say(f"{failure or 'the training has ended'}; waiting for the next one at {endpoint}")


def _listen(host: str, port: int) -> Any:
    """A store that listens at this address alone."""
    import torch.distributed

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise TrainingError(
            f"train.rendezvous {host}:{port} cannot be listened at ({first_line(error)}); give it an "
            "address of this machine and a port that no other program or training uses"
        ) from error
    return torch.distributed.TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        multi_tenant=True,  # torchrun's rendezvous in this process takes the same one
        master_listen_fd=listener.detach(),
        timeout=timedelta(seconds=JOIN_S),
    )


def _faults(store: Any, config: SftConfig) -> str:
    """Wait for all nodes; why the training cannot begin, in one line, or nothing."""
    give_up = time.monotonic() + JOIN_S
    while (joined := store.add("joined", 0)) < config.nodes - 1:
        if time.monotonic() > give_up:
            missing = format_count(config.nodes - 1 - joined, "node")
            return (
                f"{missing} of {config.nodes} did not join at {config.rendezvous} within "
                f"{JOIN_S:.0f} s; start `distill join {config.rendezvous}` there, then rerun"
            )
        time.sleep(_POLL_S)
    give_up = time.monotonic() + READY_S
    for node in range(1, config.nodes):
        while not store.check([f"ready/{node}"]):
            if time.monotonic() > give_up:
                return (
                    f"node {node} joined at {config.rendezvous} but was not ready within "
                    f"{READY_S:.0f} s; see what its `distill join` says, then rerun"
                )
            time.sleep(_POLL_S)
        if fault := store.get(f"ready/{node}").decode():
            return f"node {node}: {fault}"
    return ""


def _collect_last_words(store: Any, nodes: int, folder: Path) -> None:
    """Write why other nodes failed, where they did, into `folder` for the parent."""
    give_up = time.monotonic() + LEAVE_S
    for node in range(1, nodes):
        key = f"left/{node}"
        while not store.check([key]) and time.monotonic() < give_up:
            time.sleep(_POLL_S)
        failure = store.get(key).decode() if store.check([key]) else "it was lost"
        if failure:
            text = f"node {node}: {failure}; training resumes at its last checkpoint"
            (folder / f"lost.{node}").write_text(text, encoding="utf-8")


def _packed(folder: Path, out: Path) -> Iterator[bytes]:
    """The job's folder and what a stopped training left beside the student, as a tar in chunks."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
            tar.add(folder, arcname=".")
            for kept in out.parent.glob(f"{out.name}.*"):
                tar.add(kept, arcname=_STUDENT + kept.name.removeprefix(out.name))
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk


def _software(base: str) -> dict[str, str]:
    """What has to be the same on all nodes."""
    from train.model.base_model import base_fingerprint

    code = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for room in ("distill", "train", "warehouse"):
        for file in sorted((root / room).rglob("*.py")):
            code.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return {
        **{name: version(name).partition("+")[0] for name in LIBRARIES},
        "code of stillhouse": code.hexdigest()[:12],
        "device": device().partition(":")[0],
        "base model": base_fingerprint(base),
    }


def _unfit(header: Mapping[str, Any]) -> str:
    """Why this machine cannot take part, in one line, or nothing; fetches the base model."""
    from train.model.base_model import resolve_base

    try:
        resolve_base(header["base"])
        require_a_gpu_each(header["processes"])
    except StillhouseError as error:
        return str(error)
    theirs, ours = header["software"], _software(header["base"])
    differing = [
        f"{name} {ours.get(name, 'missing')[:12]} (first node: {theirs[name][:12]})"
        for name in theirs
        if ours.get(name) != theirs[name]
    ]
    return f"differs in {', '.join(differing)}; make both the same, then rerun" if differing else ""


def _join_next(host: str, port: int, last: str, say: Callable[[str], None]) -> tuple[str, str]:
    """Take part in the next training that is not `last`; its id, and why it failed or nothing."""
    import torch.distributed as dist

    while True:
        own = _own_address(host, port)
        if own is None:
            time.sleep(_POLL_S)
            continue
        try:
            store = dist.TCPStore(host, port, timeout=timedelta(seconds=READY_S))
            header = json.loads(store.get("header"))
            if header["id"] != last:
                break
        except (RuntimeError, ValueError):  # it has just ended, or is no store
            pass
        time.sleep(_POLL_S)
    node = store.add("joined", 1)
    if node >= header["nodes"]:
        raise TrainingError(
            f"the training at {host}:{port} has its {header['nodes']} nodes already; end this node, "
            "or raise train.nodes there"
        )
    fault = _unfit(header)
    try:
        store.set(f"ready/{node}", fault)
        if fault:
            raise TrainingError(f"this node cannot take part: {fault}")
        if elsewhere := store.get("go").decode():
            return header["id"], elsewhere
        say(f"training as node {node} of {header['nodes']}")
        with tempfile.TemporaryDirectory(prefix="stillhouse-node-") as home:
            failure = "it was stopped"
            try:
                failure = _work(store, header, node, (host, port), own, Path(home))
            finally:
                store.set(f"left/{node}", failure)
    except dist.DistError as error:
        return header["id"], f"the first node ended ({first_line(error)})"
    return header["id"], failure


def _work(
    store: Any,
    header: Mapping[str, Any],
    node: int,
    endpoint: tuple[str, int],
    own: str,
    folder: Path,
) -> str:
    """Run this node's workers; why they failed, in one line, or nothing."""
    packed = b"".join(store.get(f"chunk/{number}") for number in range(header["chunks"]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    job = folder / "job.json"
    content = json.loads(job.read_text(encoding="utf-8"))
    content["out"] = str(folder / _STUDENT)
    content["config"]["track"] = "none"
    job.write_text(json.dumps(content), encoding="utf-8")
    words = _torchrun_words(
        *endpoint, header["id"], header["nodes"], header["processes"], node, job
    )
    worker = subprocess.Popen(
        python_command("torch.distributed.run", *words),
        stdin=subprocess.PIPE,  # its end is this process's end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(header["processes"]), **_interfaces(own)},
    )
    try:
        stderr = worker.stderr.read() if worker.stderr else ""
        worker.wait()
    finally:
        if worker.poll() is None:
            worker.terminate()
            worker.wait()
    for error in sorted(folder.glob("error.*")):
        return error.read_text(encoding="utf-8")
    if worker.returncode:
        text = str(crash_of(worker.returncode, stderr, folder)).strip()
        return text.splitlines()[-1]
    return ""


def _torchrun(
    host: str, port: int, run: str, nodes: int, processes: int, node: int, job: Path
) -> None:
    """Run workers in this process's torchrun, which finds the store that listens here."""
    from torch.distributed.run import main as torchrun

    torchrun(_torchrun_words(host, port, run, nodes, processes, node, job))


def _torchrun_words(
    host: str, port: int, run: str, nodes: int, processes: int, node: int, job: Path
) -> list[str]:
    options = {
        "nnodes": nodes,
        "nproc-per-node": processes,
        "node-rank": node,
        "master-addr": host,
        "master-port": port,
        "rdzv-id": run,
        "rdzv-conf": f"timeout={JOIN_S:.0f}",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [*words, "--module", WORKER, str(job)]


def _own_address(host: str, port: int) -> str | None:
    """This machine's address in a connection to the first node; None where nobody listens."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            return str(connection.getsockname()[0])
    except OSError:
        return None


def _interfaces(address: str) -> dict[str, str]:
    """Variables that keep gloo and NCCL on the network of an address of this machine."""
    import psutil

    own = {found[4][0] for found in socket.getaddrinfo(address, None)}
    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] in own for entry in addresses):
            variables = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
            return {key: name for key in variables if key not in os.environ}
    return {}


@contextmanager
def _errors_for_the_parent(job: Path) -> Iterator[None]:
    try:
        yield
    except StillhouseError as error:
        job.with_name("error.nodes").write_text(str(error), encoding="utf-8")
        raise


if __name__ == "__main__":
    end_with_parent()
    given = Path(sys.argv[1])
    with _errors_for_the_parent(given):
        lead(given)
