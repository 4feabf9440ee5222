"""How often intervals over training seeds hold, and how often two fits of one recipe are called different.

    python -m tests.bench.seeds          # the tables of docs/evaluation.md, about ten minutes

A recipe has a mean score of 50 %; each training moves the chance of a right answer by a normal draw
with a standard deviation of 3 points, the same for all items. Items are of unequal difficulty
(beta), and the base is 10 points worse than the recipe. A difference is called as the verdict calls
it: the interval leaves out zero and the test gives p < 0.05.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.evaluation import over_seeds

SIZES = (120, 2_000)
SEEDS = (1, 3, 5)
SEED_SD = 0.03
GAIN = 0.1
DRAWS = 2_000


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated evaluations."""

    different: float
    """Two trainings (or sets of trainings) of one recipe are called different."""
    covered: float
    """The interval of recipe minus base holds the true difference."""
    score_covered: float
    """The interval of the recipe's score holds the true one."""
    width: float
    """Mean width of the interval of recipe minus base."""


def trained(rng: Any, chances: Any, seeds: int) -> list[list[float]]:
    """Grades of so many trainings of one recipe, (seeds, items)."""
    moved = [np.clip(chances + rng.normal(0, SEED_SD), 0, 1) for _ in range(seeds)]
    return [(rng.random(len(chances)) < shifted).astype(float).tolist() for shifted in moved]


def simulate(items: int, seeds: int, draws: int = DRAWS, seed: int = 0) -> Rates:
    """Rates over `draws` evaluations of two fits of one recipe and of the base."""
    rng = np.random.default_rng(seed)
    groups = [str(item) for item in range(items)]
    different = covered = score_covered = 0
    width = 0.0
    for _ in range(draws):
        chances = 0.1 + 0.8 * rng.beta(1.5, 1.5, items)
        ours, theirs = trained(rng, chances, seeds), trained(rng, chances, seeds)
        base = [(rng.random(items) < chances - GAIN).astype(float).tolist()]
        gap = over_seeds.difference(ours, theirs, groups)
        p_value = over_seeds.p_value(ours, theirs, groups)
        different += (gap.low > 0 or gap.high < 0) and p_value < 0.05
        gain = over_seeds.difference(ours, base, groups)
        covered += gain.low <= GAIN <= gain.high
        width += gain.high - gain.low
        score = over_seeds.score(ours, groups)
        score_covered += score.low <= 0.5 <= score.high
    return Rates(different / draws, covered / draws, score_covered / draws, width / draws)


def main(draws: int = DRAWS) -> None:
    """Print the table."""
    print("items | seeds | called different | covers the gain | covers the score | width, points")
    for items in SIZES:
        for seeds in SEEDS:
            rates = simulate(items, seeds, draws)
            shares = (rates.different, rates.covered, rates.score_covered, rates.width)
            print(
                " | ".join([f"{items:,}", str(seeds), *(f"{100 * s:.1f}" for s in shares)]),
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
