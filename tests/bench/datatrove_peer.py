"""The same texts through datatrove (Penedo et al., 2024): quality filters and MinHash, local executor.

Run by `tests.bench.datatrove` with a Python that has datatrove and spaCy:

python datatrove_peer.py FOLDER WORKERS      FOLDER/in/*.jsonl with id and text
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.dedup import (  # type: ignore[import-not-found]
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig  # type: ignore[import-not-found]
from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
from datatrove.pipeline.writers import JsonlWriter  # type: ignore[import-not-found]

BANDS, ROWS = 6, 10
"""As Stillhouse sketches at a similarity of 0.8: sixty hashes."""


def main(folder: Path, workers: int) -> None:
    """Filter, then drop near duplicates; prints the seconds of both as JSON."""

    def run(name: str, steps: list[object], tasks: int) -> None:
        logs = str(folder / "log" / name)
        LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=workers, logging_dir=logs).run()

    config = MinhashConfig(num_buckets=BANDS, hashes_per_bucket=ROWS, n_grams=5)
    kept, signatures, buckets, ids, left = (
        str(folder / name) for name in ("kept", "signatures", "buckets", "ids", "left")
    )
    # Made-up words have no English stop words and lengths of their own.
    lenient = dict.fromkeys(("min_stop_words", "min_avg_word_length", "max_avg_word_length"))
    started = time.perf_counter()
    filters = [GopherRepetitionFilter(), GopherQualityFilter(min_doc_words=5, **lenient)]
    run("filter", [JsonlReader(str(folder / "in")), *filters, JsonlWriter(kept)], workers)
    filtered = time.perf_counter()
    run("sign", [JsonlReader(kept), MinhashDedupSignature(signatures, config=config)], workers)
    run("buckets", [MinhashDedupBuckets(signatures, buckets, config=config)], BANDS)
    run("cluster", [MinhashDedupCluster(buckets, ids, config=config)], 1)
    run("drop", [JsonlReader(kept), MinhashDedupFilter(ids), JsonlWriter(left)], workers)
    done = time.perf_counter()
    print("\n" + json.dumps({"filters_s": filtered - started, "minhash_s": done - filtered}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
