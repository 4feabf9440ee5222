"""How often students are told apart from a base as good, with one training seed and with three.

python -m tests.bench.study_seeds     prints the table of docs/evaluation.md (four minutes)

Items differ in how hard they are, and seeds in how good their student is (standard deviation on
the log-odds scale); on average over seeds the students are as good as the base.
"""

from __future__ import annotations

import numpy as np

from distill.evaluation import hierarchical_bootstrap as module
from distill.evaluation.hierarchical_bootstrap import hierarchical_bootstrap

RATE, EASE, TRIALS, RESAMPLES = 0.3, 1.5, 500, 1_000


def draw(rng: np.random.Generator, n: int, seeds: int, spread: float) -> tuple[object, object]:
    """Grades of the students, (seeds, items), and of the base, (1, items)."""
    ease = np.log(RATE / (1 - RATE)) + rng.normal(0, EASE, n)
    shift = rng.normal(0, spread, (seeds, 1))
    students = rng.random((seeds, n)) < 1 / (1 + np.exp(-(ease + shift)))
    base = rng.random((1, n)) < 1 / (1 + np.exp(-ease))
    return students.astype(float), base.astype(float)


def mean_rates(shifts: np.ndarray) -> np.ndarray:
    """The share of right answers over many items, at each of the shifts."""
    ease = np.log(RATE / (1 - RATE)) + np.random.default_rng(0).normal(0, EASE, 4_000)
    return (1 / (1 + np.exp(-(ease + shifts[:, None])))).mean(axis=1)


def main() -> None:
    """Print how often the interval misses the expected difference."""
    module.RESAMPLES = RESAMPLES
    print(
        "| items | spread of seeds, points | one seed misses | three seeds miss | width, points |"
    )
    print("|---:|---:|---:|---:|---:|")
    for n in (20, 60, 120, 500):
        for spread in (0.0, 0.15, 0.5):
            rates = mean_rates(np.random.default_rng(2).normal(0, spread, 2_000))
            truth = float(rates.mean() - mean_rates(np.zeros(1))[0])
            rng = np.random.default_rng(1)
            missed, width = {1: 0, 3: 0}, 0.0
            for _ in range(TRIALS):
                for seeds in missed:
                    found = hierarchical_bootstrap(*draw(rng, n, seeds, spread)).interval
                    missed[seeds] += not found.low <= truth <= found.high
                    width += (found.high - found.low) * (seeds == 3)
            shares = " | ".join(f"{100 * number / TRIALS:.1f} %" for number in missed.values())
            print(
                f"| {n:,} | {100 * rates.std():.1f} | {shares} | {100 * width / TRIALS:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
