"""How long the gate takes over 1,000,000 scores: `python -m tests.bench.gate`."""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from quality.gate.choose import decide
from quality.gate.policy import GatePolicy

SAMPLES, ROUNDS = 200_000, 3
SCORERS = ("toxicity", "grounded", "reference", "entailment", "refusal")
POLICY = GatePolicy.model_validate(
    {
        "toxicity_max": 0.5,
        "grounded_min": 0.8,
        "reference_min": 0.5,
        "entailment_min": 0.5,
        "refusal_max": 0.5,
        "max_words": 50,
        "recipe": {"imitation": {"grounded_min": 0.9}},
    }
)


def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples and five scores of each; every tenth score abstains."""
    random = np.random.default_rng(0)
    ids = [f"{n:032x}" for n in range(SAMPLES)]
    samples = pl.DataFrame(
        {
            "sample_id": ids,
            "recipe": ["imitation" if n % 3 else "another" for n in range(SAMPLES)],
            "status": ["ok" if n % 20 else "truncated" for n in range(SAMPLES)],
            "words": random.integers(1, 80, SAMPLES),
            "held_out": ["question" if n % 1000 == 0 else None for n in range(SAMPLES)],
            "human": pl.Series([None] * SAMPLES, dtype=pl.Float64),
        }
    )
    scores = pl.concat(
        pl.DataFrame(
            {
                "sample_id": ids,
                "scorer": [scorer] * SAMPLES,
                "value": [None if n % 10 == 0 else v for n, v in enumerate(random.random(SAMPLES))],
                "why": ["no passage" if n % 10 == 0 else None for n in range(SAMPLES)],
            }
        )
        for scorer in SCORERS
    )
    return samples, scores.sample(fraction=1.0, shuffle=True, seed=0)


def main() -> None:
    """Best of three."""
    samples, scores = frames()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        reasons = decide(samples, scores, POLICY)["reasons"]
        kept = int((reasons.list.len() == 0).sum())
        spent.append(time.perf_counter() - started)
    print(
        f"gate over {len(scores):,} scores of {len(samples):,} samples: {min(spent):.2f} s "
        f"(to reach: under 2 s), {kept:,} kept"
    )


if __name__ == "__main__":
    main()
