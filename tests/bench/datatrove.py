"""How fast curate is beside datatrove's filters and MinHash, on the same templated texts.

python -m tests.bench.datatrove PYTHON          with a Python that has datatrove[io,processing] and spaCy
python -m tests.bench.datatrove PYTHON 50000    another number of rows

datatrove is no dependency: it pins much, and the comparison needs it alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.curate import PLAN, TEACHER, timed, write_rows
from warehouse.records import Sample

WORKERS = 2
ROWS = 20_000
FILTERS = """
[quality]
scorers = [{ use = "style" }, { use = "refusal" }]
gate = { refusal_max = 0.5, style = { words_min = 1 } }
duplicates = { near = 0.8 }
"""
"""What is nearest to the peer's filters: rules on the text alone, and near duplicates."""


def write_texts(folder: Path) -> None:
    """The samples of a warehouse as texts, one file for each worker."""
    from warehouse.db.store import Store

    samples = Store(folder / "w.duckdb").read(Sample)
    (folder / "peer" / "in").mkdir(parents=True)
    for part in range(WORKERS):
        with (folder / "peer" / "in" / f"{part}.jsonl").open("w") as file:
            for sample in samples[part::WORKERS]:
                text = f"{sample.passage}\n\n{sample.question}\n{sample.completion}"
                file.write(json.dumps({"id": sample.sample_id, "text": text}) + "\n")


def main() -> None:
    """Curate by rules on the text, then by all that the bench of curate has; then the peer."""
    python = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        write_rows(folder / "rows.jsonl", count, seed=2)
        write_rows(folder / "items.jsonl", 10_000, seed=3)
        (folder / "reader.py").write_text(TEACHER)
        both = ("--set", "run.engine=process", "--set", f"run.workers={WORKERS}")
        head, _, rest = PLAN.partition("[quality]")
        evaluate = rest[rest.index("[evaluate]") :]
        (folder / "plan.toml").write_text(head + FILTERS)
        timed("generate", folder, "generate")
        shutil.copy(folder / "w.duckdb", folder / "generated.duckdb")
        _, alike_s = timed("curate, text rules", folder, "curate", *both)
        shutil.copy(folder / "generated.duckdb", folder / "w.duckdb")
        (folder / "plan.toml").write_text(
            f"{head}[quality]{rest[: rest.index('[evaluate]')]}{evaluate}"
        )
        _, all_s = timed("curate, all of it", folder, "curate", *both)
        write_texts(folder)
        peer = Path(__file__).with_name("datatrove_peer.py")
        command = [python, "-P", str(peer), str(folder / "peer"), str(WORKERS)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        spent = json.loads(found.stdout.strip().splitlines()[-1])
        peer_s = sum(spent.values())
        print(f"datatrove              {peer_s:8.1f} s   {spent}")
        print(
            f"datatrove takes {peer_s / alike_s:.1f} times as long as text rules and near duplicates,"
        )
        print(f"and {peer_s / all_s:.1f} times as long as all of curate, start included")


if __name__ == "__main__":
    main()
