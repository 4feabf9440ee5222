"""How fast generate and curate go through many templated rows, and with how much memory.

python -m tests.bench.curate              100,000 rows
python -m tests.bench.curate 1000000      another number of rows
python -m tests.bench.curate 1000000 2    with two worker processes, in a folder that stays: FOLDER=/data/bench
python -m tests.bench.curate 6000 local process dask ray    curate alone, with two workers of each engine

Each row has a passage of 60 words, a question of one of forty forms and an answer from the passage, so
that rows share most of their words, as the rows of real tasks do.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

ROWS, ITEMS, FORMS, WORDS = 100_000, 10_000, 40, 60

PLAN = """
name = "bench"
warehouse = "w.duckdb"
[teacher]
use = "./reader.py:Reader"
[[datagen.recipe]]
use = "imitation"
prompts = "rows.jsonl"
student_sees_passage = true
[quality]
scorers = [{ use = "grounded" }, { use = "style" }, { use = "refusal" }, { use = "reference" }]
gate = { grounded_min = 0.5, refusal_max = 0.5 }
[evaluate]
benchmarks = [{ use = "custom", path = "items.jsonl" }]
"""


def words_of(chance: random.Random) -> list[str]:
    """A vocabulary of made-up words."""
    letters = "aaabcdeeeeefghiiiklmnnooprrssttttuvwy"
    return ["".join(chance.choices(letters, k=chance.randint(3, 10))) for _ in range(20_000)]


def write_rows(path: Path, count: int, seed: int) -> None:
    """Rows of a few forms: a passage, what is asked about one of its words, and the answer."""
    chance = random.Random(seed)
    vocabulary = words_of(random.Random(0))
    weights = [1 / (n + 10) for n in range(len(vocabulary))]  # Zipf, as in language
    asked = random.Random(1)
    forms = [
        " ".join(
            [
                "Which",
                *asked.choices(vocabulary[:500], k=6),
                "{}",
                *asked.choices(vocabulary[:500], k=4),
            ]
        )
        + "?"
        for _ in range(FORMS)
    ]
    bag = chance.choices(vocabulary, weights, k=2_000_000)
    with path.open("w") as file:
        for _ in range(count):
            start = chance.randrange(len(bag) - WORDS)
            passage = bag[start : start + WORDS]
            place = chance.randrange(WORDS - 6)
            row = {
                "prompt": chance.choice(forms).format(" ".join(passage[place : place + 2])),
                "passage": " ".join(passage).capitalize() + ".",
                "reference": " ".join(passage[place + 2 : place + 5]),
            }
            file.write(json.dumps(row) + "\n")


TEACHER = '''
"""Answer with words of the passage, at once."""

import zlib
from dataclasses import dataclass, replace

from datagen.teacher import Teacher
from datagen.teachers.scripted import Scripted


@dataclass
class Reader(Scripted, Teacher):
    async def answer(self, requests, budget=None):
        async for reply in super().answer(requests, budget):
            text = str(reply.request.messages[-1]["content"])
            words = text.split()
            place = zlib.crc32(text.encode()) % 50
            yield replace(reply, text=" ".join(words[place + 2 : place + 6]))
'''


def timed(what: str, folder: Path, *command: str) -> tuple[dict[str, object], float]:
    """Run a command, print its seconds and the resident memory of its processes, at most and the most
    of each tenth of the time; returns its JSON and the seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *command, str(folder / "plan.toml"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ended = threading.Event()
    seen = [0]

    def watch() -> None:
        while not ended.wait(0.2):
            seen.append(resident_of_all_mb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(errors.decode()[-2000:])
    spent_s = time.perf_counter() - started
    tenth = -(-len(seen) // 10)
    over_time = [max(seen[start : start + tenth]) for start in range(0, len(seen), tenth)]
    course = " ".join(str(most) for most in over_time)
    print(f"{what:<22} {spent_s:8.1f} s   most {max(seen):,} MB ({course})", flush=True)
    return json.loads(out), spent_s


def resident_of_all_mb(pid: int) -> int:
    """Resident memory of a process and of those it started, in MB."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total // 1_000_000


def compare_engines(count: int, engines: Sequence[str]) -> None:
    """Curate the same rows with two workers of each engine; what is kept must be the same."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        for engine in engines:
            folder = Path(home) / engine
            folder.mkdir()
            write_project(folder, count)
            timed(f"{engine}: generate", folder, "generate")
            options = ["--set", f"run.engine={engine}"]
            options += ["--set", "run.workers=2"] * (engine != "local")
            kept, _ = timed(f"{engine}: curate", folder, "curate", *options)
            found.append((kept["kept"], kept["reasons"]))
    if any(other != found[0] for other in found):
        raise SystemExit(f"the engines keep different samples: {found}")


def write_project(folder: Path, count: int) -> None:
    """Rows, held-out items, the teacher and the plan."""
    write_rows(folder / "rows.jsonl", count, seed=2)
    write_rows(folder / "items.jsonl", ITEMS, seed=3)
    (folder / "reader.py").write_text(TEACHER)
    (folder / "plan.toml").write_text(PLAN)


def main() -> None:
    """Generate, curate, curate again with nothing new, and ask what another gate would keep."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    workers = next((int(word) for word in sys.argv[2:] if word.isdigit()), 0)
    if len(sys.argv) > 2 and not workers:
        compare_engines(count, sys.argv[2:])
        return
    options = ["--set", "run.engine=process", "--set", f"run.workers={workers}"] if workers else []
    with ExitStack() as stack:
        folder = Path(
            os.environ.get("FOLDER") or stack.enter_context(tempfile.TemporaryDirectory())
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_project(folder, count)
        print(f"{count:,} templated rows, {ITEMS:,} held-out items")
        timed("generate", folder, "generate")
        kept, _ = timed("curate", folder, "curate", *options)
        timed("curate, nothing new", folder, "curate")
        timed("what-if", folder, "curate", "--what-if", "gate.grounded_min=0.9")
        size_b = (folder / "w.duckdb").stat().st_size
        commonest = dict(list(kept["reasons"].items())[:4])
        print(f"kept {kept['kept']} of {kept['samples']}: {commonest}")
        print(f"warehouse {size_b / count:,.0f} bytes for each row")


if __name__ == "__main__":
    main()
