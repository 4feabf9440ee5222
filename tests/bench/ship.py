"""How often `[ship]` passes a student that is no better than the base: a table of docs/evaluation.md.

    python -m tests.bench.ship          # seeded, about two minutes

Student and base are right on the same share of the items, each alone on half of the discordant
ones. The whole gate runs: the comparison, the conditions, and the chance that it tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distill.evaluation.compare import compare
from distill.evaluation.findings import Evaluation
from distill.evaluation.ship_gate import check_ship
from tests.distill.test_compare import answer, items
from warehouse.records import Answer

SIZES = (20, 60, 120)
CONDITIONS = ("student >= base", "student >= base + 0.05")
DISCORDANT = 0.3
"""Share of the items that one of the two alone gets right."""
BOTH = 0.2
"""Share that both get right."""
RUNS = 2_000
TOLD = 200
"""Of the runs, those whose told chance is averaged."""


def answers_of(rng: Any, n: int) -> list[Answer]:
    """Answers of student and base, which are equally good."""
    kind = rng.choice(4, n, p=[DISCORDANT / 2, DISCORDANT / 2, BOTH, 1 - DISCORDANT - BOTH])
    grades = {"student": np.isin(kind, (0, 2)), "base": np.isin(kind, (1, 2))}
    return [
        answer(name, item, float(right))
        for name, of in grades.items()
        for item, right in enumerate(of)
    ]


def rates(n: int) -> Iterator[tuple[str, bool, float, float]]:
    """(condition, certain, share of the runs that passed, mean of the chance that is told)."""
    rng = np.random.default_rng(n)
    held_out = items(n)
    passed = dict.fromkeys(((c, s) for c in CONDITIONS for s in (False, True)), 0)
    told = dict.fromkeys(passed, 0.0)
    for run in range(RUNS):
        answers = answers_of(rng, n)
        found = compare("b", answers, held_out, pairs=[("student", "base")])
        evaluation = Evaluation([found])
        for condition, certain in passed:
            given = {"b": (answers, held_out)} if run < TOLD else None
            verdict = check_ship([condition], evaluation, certain, given)
            passed[condition, certain] += verdict.ships
            told[condition, certain] += verdict.by_chance or 0.0
    for key, number in passed.items():
        yield (*key, number / RUNS, told[key] / TOLD)


def main() -> None:
    """Print the table."""
    print("| condition | n | value alone | told | interval | told |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for n in SIZES:
        lines = {(c, s): (share, told) for c, s, share, told in rates(n)}
        for condition in CONDITIONS:
            cells = (f"{100 * value:.1f}" for s in (False, True) for value in lines[condition, s])
            print(f"| `{condition}` | {n} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
