"""Speed, size and memory of archives.

    python -m tests.bench.archive [FOLDER]       # 200,000 replies of 20 runs, about two minutes

Calls and samples like those of a chat endpoint, in messages of about 120 words and replies of about
90: words of the SciQ passages, drawn one by one with their frequencies, so that there are no
phrases which a compressor could find twice. FOLDER: keep the files there.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from warehouse.db.store import Store
from warehouse.db.write_archive import restore_archive, write_archive
from warehouse.inputs import assets
from warehouse.records import Call, Prompt, Run, Sample, make_id

REPLIES, RUNS = 200_000, 20


def words_of_passages() -> np.ndarray:
    """Words of the SciQ passages, each as often as it is there."""
    import pyarrow as pa

    table = pa.ipc.open_stream(assets.path("sciq")).read_all()
    return np.array(" ".join(table["support"].to_pylist()).split(), dtype=object)


def fill(store: Store, replies: int, runs: int) -> None:
    """Runs with their calls, prompts and samples."""
    rng, words = np.random.default_rng(0), words_of_passages()

    def text(most: int) -> str:
        return " ".join(rng.choice(words, int(rng.integers(most // 2, most))))

    for number in range(runs):
        run_id = f"20261130-{number:06d}-bench"
        records: list[Call | Prompt | Sample] = []
        for _ in range(replies // runs):
            messages = [{"role": "user", "content": f"{text(160)} {rng.integers(1 << 40)}"}]
            reply, call_id = text(120), make_id(messages)
            usage = {"prompt_tokens": 150, "completion_tokens": 120, "total_tokens": 270}
            choice = {"index": 0, "message": {"role": "assistant"}, "finish_reason": "stop"}
            raw = {"id": f"chatcmpl-{call_id}", "object": "chat.completion", "choices": [choice]}
            prompt = Prompt.of(recipe="imitation", messages=messages, question="")
            call = Call(
                call_id, 256, "m@http://127.0.0.1:8000/v1", {"temperature": 0.7}, reply, "stop",
                150, 120, float(rng.gamma(4, 0.3)), 0.0001, {**raw, "usage": usage}, run_id,
                stage="generate", messages=messages,
            )  # fmt: skip
            sample = Sample.of(
                prompt, call_ids=[call_id], recipe_version="1", completion=reply, status="ok"
            )
            records += [call, prompt, sample]
        store.insert(records)
        store.put_run(Run(run_id, "bench", "hash", {}, "completed", None, {}))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took, and the peak memory of the process until then."""
    started = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what:<38} {time.perf_counter() - started:6.1f} s   peak {peak:.2f} GB", flush=True)


def main(folder: Path) -> None:
    """Print the measurements."""
    store, archive = Store(folder / "w.duckdb"), str(folder / "archive")
    if not store.path.exists():
        fill(store, REPLIES, RUNS)
    for what in ("archive", "archive again, nothing new"):
        with timed(what):
            print(write_archive(store, archive))
    lake = f"ducklake:{folder / 'catalog.ducklake'}"
    with timed("the same into a DuckLake"):
        write_archive(store, lake, folder / "lake")
    for name, places in (("warehouse", []), ("warehouse and archive", [archive])):
        for sql in ("SELECT count(*), sum(length(text)) FROM calls", "SELECT * FROM ledger"):
            with timed(f"{name}: {sql[:28]}"):
                store.query(sql, archives=places)
    with timed("archive alone: sum(length(text))"):
        Store(folder / "none.duckdb").query(
            "SELECT sum(length(text)) FROM calls", archives=[archive, lake]
        )
    with timed("restore into a new warehouse"):
        restore_archive(Store(folder / "restored.duckdb"), archive)
    rows = 3 * REPLIES
    for name in ("w.duckdb", "archive", "lake"):
        path = folder / name
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        print(
            f"{name:<12} {size / 1e6:8.1f} MB  {size / rows:6.0f} bytes a row  {len(files)} files"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
