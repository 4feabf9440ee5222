"""How fast recipes ask, as ratios to a bare aiohttp loop and to the ideal of the same run.

python -m tests.bench.recipes           one call for each of 4,000 seeds, against a bare aiohttp loop
python -m tests.bench.recipes steps     400 seeds of ten calls one after the other, long-tailed latency
python -m tests.bench.recipes memory    10,000 and 30,000 seeds of two calls: resident memory
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.server import SAID, tail_latency_s
from tests.bench.teacher import (
    IN_FLIGHT,
    LATENCY_S,
    PROMPTS,
    ROUNDS,
    WORDS,
    _resident_mb,
    bare,
    server,
)
from tests.support import steps

PLAN = """
name = "bench"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "fake"
base_url = "{url}"
max_in_flight = {in_flight}
[datagen]
sampling = {{ max_tokens = 64 }}
[[datagen.recipe]]
{recipe}
"""
SEEDS, STEPS, FEWER_IN_FLIGHT, MEDIAN_S = 400, 10, 64, 0.15


def project(folder: Path, url: str, recipe: str, in_flight: int) -> None:
    """A plan with the recipe, and the recipes of the tests beside it."""
    folder.mkdir(parents=True)
    (folder / "steps.py").write_text(Path(steps.__file__).read_text())
    (folder / "plan.toml").write_text(PLAN.format(url=url, recipe=recipe, in_flight=in_flight))


def generate_s(folder: Path) -> float:
    """Seconds of the generate stage, as the run records them."""
    command = [sys.executable, "-m", "flows.cli", "generate", str(folder / "plan.toml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    from warehouse.db.store import Store
    from warehouse.records import Run

    [run] = Store(folder / "w.duckdb").read(Run, "run_id = ?", [json.loads(done.stdout)["run_id"]])
    return float(run.summary["seconds"]["generate"])


def rates() -> None:
    """The whole stage, replies durable and samples stored, against a bare loop."""
    found: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as home, server(LATENCY_S) as url:
        for number in range(ROUNDS):
            found["bare"].append(bare(url))
            folder = Path(home) / str(number)
            project(folder, url, 'use = "imitation"\nprompts = "prompts.jsonl"', IN_FLIGHT)
            rows = "".join(json.dumps({"prompt": WORDS.format(n)}) + "\n" for n in range(PROMPTS))
            (folder / "prompts.jsonl").write_text(rows)
            found["ours"].append(PROMPTS / generate_s(folder))
    best = {name: max(several) for name, several in found.items()}
    for name, several in found.items():
        print(f"  {name:<5} {best[name]:7.0f}/s   ({', '.join(f'{rate:.0f}' for rate in several)})")
    print(f"  ratio {best['ours'] / best['bare']:.2f}   (to reach: 0.75)")


def ideal_s() -> float:
    """The least time: the longest chain, or all waits over the requests in flight."""
    from datagen.recipe import Seed

    chains = []
    for number in range(SEEDS):
        seed = Seed(number, order=number)
        text, waits = f"seed {number} draws {seed.random.randrange(100)}", []
        for step in range(STEPS):
            asked = f"step {step} of {number}: {text}"
            waits.append(tail_latency_s(asked, MEDIAN_S))
            text = SAID
        chains.append(sum(waits))
    return max(max(chains), sum(chains) / FEWER_IN_FLIGHT)


def long_chains() -> None:
    """Ten calls one after the other for each seed, against the ideal."""
    with tempfile.TemporaryDirectory() as home, server(MEDIAN_S, "tail") as url:
        folder = Path(home) / "p"
        recipe = (
            f'use = "./steps.py:Chain"\nseeds_wanted = {SEEDS}\nsteps = {STEPS}\nis_named = true'
        )
        project(folder, url, recipe, FEWER_IN_FLIGHT)
        spent_s = generate_s(folder)
    least_s = ideal_s()
    print(
        f"{SEEDS} seeds of {STEPS} calls, {FEWER_IN_FLIGHT} in flight: {spent_s:.1f} s, ideal "
        f"{least_s:.1f} s: {spent_s / least_s:.2f} times (to reach: 1.6)"
    )


def memory() -> None:
    """Resident memory with three times as many seeds."""
    most: dict[int, int] = {}
    for number in (10_000, 30_000):
        with tempfile.TemporaryDirectory() as home, server(0.0) as url:
            folder = Path(home) / "p"
            recipe = (
                f'use = "./steps.py:Chain"\nseeds_wanted = {number}\nsteps = 2\nis_named = true'
            )
            project(folder, url, recipe, IN_FLIGHT)
            command = [
                sys.executable,
                "-m",
                "flows.cli",
                "generate",
                str(folder / "plan.toml"),
                "--json",
            ]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            found: list[int] = []
            ended = threading.Event()

            def watch(pid: int, found: list[int], ended: threading.Event) -> None:
                while not ended.wait(0.5):
                    found.append(_resident_mb(pid))

            watcher = threading.Thread(target=watch, args=(process.pid, found, ended))
            started = time.perf_counter()
            watcher.start()
            out, _ = process.communicate()
            ended.set()
            watcher.join()
            most[number] = max(found)
            spent_s = time.perf_counter() - started
            print(
                f"{number:,} seeds, {json.loads(out)['calls_made']:,} calls in {spent_s:.0f} s: "
                f"most {max(found)} MB"
            )
    print(
        f"three times as many seeds: {most[30_000] / most[10_000]:.2f} times the memory (to reach: 1.1)"
    )


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "rates"
    {"rates": rates, "steps": long_chains, "memory": memory}[what]()
