"""How fast replies are asked for and kept, as a ratio to a bare aiohttp loop in the same run.

python -m tests.bench.teacher           4,000 prompts, 256 in flight, 200 ms latency
python -m tests.bench.teacher memory    100,000 prompts: resident memory
python -m tests.bench.teacher join      what is pending among 1,000,000 calls
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from datagen.spending.limits import Budget
from datagen.teacher import Request, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from warehouse.db.store import Store
from warehouse.records import Call

PROMPTS, IN_FLIGHT, LATENCY_S, ROUNDS = 4_000, 256, 0.2, 3
WORDS = "What is the meaning of number {0}, and who asked for {0} first, and why in earnest? " * 3


@contextmanager
def server(latency_s: float, *options: str) -> Iterator[str]:
    """The measuring server, in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "tests.bench.server", str(latency_s), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def bare(url: str) -> float:
    """Requests per second of a bare aiohttp loop that parses each reply and keeps nothing."""

    async def go() -> float:
        numbers = iter(range(PROMPTS))
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def work() -> None:
                for n in numbers:
                    body = {
                        "model": "fake",
                        "messages": [{"role": "user", "content": WORDS.format(n)}],
                        "temperature": 0.0,
                        "top_p": 1.0,
                        "max_tokens": 64,
                    }
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        json.loads(await response.read())["choices"][0]["message"]["content"]

            started = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
            return PROMPTS / (time.perf_counter() - started)

    return asyncio.run(go())


def ours(url: str, folder: Path) -> float:
    """Prompts per second of the whole way: requests, what is paid for, replies durable in the
    spool and drained into the warehouse."""
    from flows.runtime.progress import meter
    from flows.stages.teacher_client import TeacherClient

    teacher = OpenaiChat(model="fake", base_url=url, max_in_flight=IN_FLIGHT)
    started = time.perf_counter()
    requests = [
        Request.of(
            teacher.identity,
            [{"role": "user", "content": WORDS.format(n)}],
            Sampling(max_tokens=64),
        )
        for n in range(PROMPTS)
    ]
    work = work_for(teacher, folder)
    with TeacherClient(work) as asking, meter("asking", PROMPTS) as told:
        asking.ask(requests, "generate", told)
    rate = PROMPTS / (time.perf_counter() - started)
    assert len(work.store.paid_ids([(r.call_id, 64) for r in requests])) == PROMPTS
    return rate


def work_for(teacher: Any, folder: Path) -> Any:
    """As much of a run as asking needs."""
    from flows.runtime.run import RunContext

    plan: Any = SimpleNamespace(teacher=teacher)
    run: Any = SimpleNamespace(run_id="bench", summary={})
    return RunContext(plan, "bench.toml", (), Store(folder / "w.duckdb"), run, budget=Budget())


def rates() -> None:
    """Alternate the two, and compare the best of each."""
    with tempfile.TemporaryDirectory() as home, server(LATENCY_S) as url:
        found: dict[str, list[float]] = {"bare": [], "ours": []}
        for n in range(ROUNDS):
            found["bare"].append(bare(url))
            found["ours"].append(ours(url, Path(home) / str(n)))
    best = {name: max(several) for name, several in found.items()}
    print(f"prompts {PROMPTS}, in flight {IN_FLIGHT}, latency {LATENCY_S} s, best of {ROUNDS}")
    for name, several in found.items():
        print(f"  {name:<5} {best[name]:7.0f}/s   ({', '.join(f'{rate:.0f}' for rate in several)})")
    print(f"  ratio {best['ours'] / best['bare']:.2f}   (to reach: 0.75)")


def join() -> None:
    """The anti-join of 1,000,000 wanted requests and as many calls, half of them paid."""
    import duckdb

    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home) / "w.duckdb")
        store.insert([_call()])
        with duckdb.connect(str(store.path)) as db:
            db.execute(
                "INSERT INTO calls BY NAME SELECT c.* REPLACE (md5(i::VARCHAR) AS call_id) "
                "FROM calls c, range(1000000) r(i)"
            )
            ids = db.execute("SELECT md5(i::VARCHAR) FROM range(500000, 1500000) r(i)").fetchall()
        wanted = [(row[0], 64) for row in ids]
        started = time.perf_counter()
        paid = store.paid_ids(wanted)
        spent_s = time.perf_counter() - started
        small = wanted[:4096]
        started = time.perf_counter()
        store.paid_ids(small)
        print(
            f"1,000,000 calls: {len(wanted):,} wanted, {len(wanted) - len(paid):,} pending in "
            f"{spent_s:.2f} s (to reach: 1 s); a shard of 4,096 in "
            f"{time.perf_counter() - started:.3f} s"
        )


def _call() -> Call:
    return Call("x", 64, "t", {}, "text", "stop", 30, 12, 0.2, 0.0, {"id": "x"}, "r")


def memory() -> None:
    """Resident memory of `distill generate` over 100,000 prompts, sampled while it runs."""
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with tempfile.TemporaryDirectory() as home, server(0.05) as url:
        folder = Path(home)
        with (folder / "prompts.jsonl").open("w") as file:
            for n in range(number):
                file.write(json.dumps({"prompt": WORDS.format(n)}) + "\n")
        (folder / "plan.toml").write_text(
            f'name = "memory"\nwarehouse = "w.duckdb"\n[teacher]\nuse = "openai_chat"\n'
            f'model = "fake"\nbase_url = "{url}"\nmax_in_flight = {IN_FLIGHT}\n'
            '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
        )
        command = [sys.executable, "-m", "flows.cli", "generate", "plan.toml", "--json"]
        started = time.perf_counter()
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
        )
        found: list[int] = []
        ended = threading.Event()

        def callbacks() -> None:
            while not ended.wait(1.0):
                found.append(_resident_mb(process.pid))

        watcher = threading.Thread(target=callbacks)
        watcher.start()
        out, _ = process.communicate()
        ended.set()
        watcher.join()
        spent_s = time.perf_counter() - started
    result = json.loads(out)
    tenths = [found[len(found) * n // 10] for n in range(1, 10)]
    print(
        f"{result['calls_made']:,} replies in {spent_s:.0f} s ({number / spent_s:.0f}/s with start-up); "
        f"resident memory at each tenth {tenths} MB, most {max(found)} MB (to reach: 600 MB)"
    )


def _resident_mb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "rates"
    {"rates": rates, "join": join, "memory": memory}[what]()
