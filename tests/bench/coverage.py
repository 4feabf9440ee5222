"""How often the intervals of `distill.evaluation.intervals` hold, and how often nothing is called clear.

    python -m tests.bench.coverage          # the tables of docs/evaluation.md, about two minutes

Coverage of 0/1 grades of independent items is summed over all outcomes; the rest is simulated with
a fixed seed. Items "in fives" are five to a passage with an intra-class correlation of 0.5
(beta-binomial, Dirichlet-multinomial). F1-like grades are 1 with chance 0.6 p, uniform in 0..1
with chance 0.8 p, else 0, which makes their mean p.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from distill.evaluation.intervals import difference_interval, mean_interval, ratio_interval
from distill.evaluation.statistics import Interval, permutation_p_value

SIZES = (10, 20, 60, 120, 500)
SHARES = (0.0, 0.02, 0.1, 0.3, 0.5)
PAIRS = (
    (0.0, 0.0),
    (0.02, 0.0),
    (0.02, 0.02),
    (0.1, 0.0),
    (0.1, 0.05),
    (0.3, 0.1),
    (0.25, 0.25),
    (0.5, 0.0),
)
"""Shares of wins and losses of a paired difference."""
F1_PAIRS = ((0.02, 0.02), (0.1, 0.02), (0.3, 0.1), (0.5, 0.5))
"""Mean F1-like grades of the two sides."""
RETAINED = ((0.3, 0.5), (0.5, 0.5), (0.05, 0.5), (0.9, 1.0))
"""Shares of student and teacher."""
GAPS = ((0.3, 0.1, 0.5), (0.5, 0.2, 0.5), (0.2, 0.2, 0.5), (0.6, 0.1, 0.9))
"""Shares of student, base and teacher."""
FIVE = 5
DRAWS = 4_000


def proportion(
    n: int, share: float, interval: Callable[[int, int], Interval] | None = None
) -> float:
    """Coverage of the interval of a share, summed over all outcomes."""
    interval = interval or _of_right
    chances = stats.binom.pmf(range(n + 1), n, share)
    return sum(
        float(chance)
        for right, chance in enumerate(chances)
        if chance > 1e-12 and _holds(interval(right, n), share)
    )


def paired(n: int, wins: float, losses: float) -> float:
    """Coverage of the interval of a paired difference of 0/1 grades, summed over all outcomes."""
    covered = 0.0
    for won, lost, chance in _outcomes(n, wins, losses):
        if _holds(_of_pairs(won, lost, n), wins - losses):
            covered += chance
    return covered


def simulated(
    draw: Callable[[Any], Interval | None], truth: float, draws: int = DRAWS, seed: int = 0
) -> float:
    """Share of the drawn intervals that hold the truth; NaN where none is given."""
    rng = np.random.default_rng(seed)
    given = [interval for _ in range(draws) if (interval := draw(rng))]
    return sum(_holds(i, truth) for i in given) / len(given) if given else float("nan")


def f1_like(rng: Any, mean: float, n: int) -> Any:
    """Grades between 0 and 1, most of them 0 or 1."""
    kind = rng.random(n)
    return np.where(kind < 0.6 * mean, 1.0, np.where(kind < 1.4 * mean, rng.random(n), 0.0))


def in_fives(n: int) -> list[str]:
    """The passage of each of n items, five to one."""
    return [str(number // FIVE) for number in range(n)]


def shares_in_fives(rng: Any, n: int, shares: Sequence[float]) -> Any:
    """Outcome 0, 1, ... of each item, by chances that each passage has of its own."""
    weights = np.where(
        np.array(shares) > 0,
        rng.gamma(np.maximum(shares, 1e-9), 1.0, (n // FIVE, len(shares))),
        0.0,
    )
    weights = np.maximum(weights, 1e-300 * (np.array(shares) > 0))
    chances = weights / weights.sum(axis=1, keepdims=True)
    return (
        (rng.random((n // FIVE, FIVE, 1)) > chances.cumsum(axis=1)[:, None, :-1])
        .sum(axis=2)
        .ravel()
    )


def mean_in_fives(n: int, share: float, draws: int = DRAWS) -> float:
    """Coverage of the interval of a share, five items to a passage."""
    groups = in_fives(n)

    def draw(rng: Any) -> Interval:
        right = shares_in_fives(rng, n, (share, 1 - share)) == 0
        return mean_interval(right.astype(float).tolist(), groups)

    return simulated(draw, share, draws)


def paired_in_fives(n: int, wins: float, losses: float, draws: int = DRAWS) -> float:
    """Coverage of the interval of a paired difference, five items to a passage."""
    groups = in_fives(n)

    def draw(rng: Any) -> Interval:
        outcome = shares_in_fives(rng, n, (wins, losses, 1 - wins - losses))
        return difference_interval(*_sides(outcome), groups)

    return simulated(draw, wins - losses, draws)


def f1_mean(n: int, mean: float, draws: int = DRAWS) -> float:
    """Coverage of the interval of the mean of F1-like grades."""
    return simulated(lambda rng: mean_interval(f1_like(rng, mean, n).tolist()), mean, draws)


def f1_paired(n: int, left: float, right: float, draws: int = DRAWS) -> float:
    """Coverage of the interval of a difference of F1-like grades."""

    def draw(rng: Any) -> Interval:
        return difference_interval(*(f1_like(rng, side, n).tolist() for side in (left, right)))

    return simulated(draw, left - right, draws)


def ratio(n: int, shares: Sequence[float], draws: int = DRAWS) -> float:
    """Coverage of retention (two shares) or of the gap closed (three), where one is given.

    An item is as hard for one as for the others in every second case.
    """

    def draw(rng: Any) -> Interval | None:
        hard, alike = rng.random(n), rng.random((len(shares), n)) < 0.5
        sides = np.where(alike, hard, rng.random((len(shares), n))) < np.array(shares)[:, None]
        student, *base, teacher = sides.astype(float)
        if not base:
            return ratio_interval(student, teacher, [(1, 0), (0, 1)])
        return ratio_interval(student - base[0], teacher - base[0], [(1, 0), (0, 1), (-1, -1)])

    student, *base, teacher = shares
    start = base[0] if base else 0.0
    return simulated(draw, (student - start) / (teacher - start), draws)


def called_clear(kind: str, n: int, share: float, draws: int = DRAWS, seed: int = 0) -> float:
    """How often two equal contestants are called different: interval and test agree.

    `kind` is "0/1" (half of the discordant items are wins; `share` of all are discordant), "fives"
    (the same, five items to a passage) or "F1-like" (two independent sides of this mean).
    """
    rng = np.random.default_rng(seed)
    groups = in_fives(n) if kind == "fives" else None
    clear = 0
    for _ in range(draws):
        if kind == "F1-like":
            left, right = (f1_like(rng, share, n).tolist() for _ in range(2))
        elif kind == "fives":
            outcome = shares_in_fives(rng, n, (share / 2, share / 2, 1 - share))
            left, right = _sides(outcome)
        else:
            left, right = _sides(rng.choice(3, n, p=(share / 2, share / 2, 1 - share)))
        interval = difference_interval(left, right, groups)
        if interval.low > 0 or interval.high < 0:
            gaps = [one - other for one, other in zip(left, right, strict=True)]
            clear += permutation_p_value(gaps, groups) < 0.05
    return clear / draws


def percentile_bootstrap(right: int, n: int) -> Interval:
    """The percentile bootstrap of a share with endless resamples, for comparison."""
    share = right / n
    low, high = (float(stats.binom.ppf(q, n, share)) / n for q in (0.025, 0.975))
    return Interval(share, low, high)


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


def _sides(outcome: Any) -> tuple[list[float], list[float]]:
    """Grades of left and right: outcome 0 is a win, 1 a loss, 2 a tie."""
    return (outcome == 0).astype(float).tolist(), (outcome == 1).astype(float).tolist()


@cache
def _of_right(right: int, n: int) -> Interval:
    return mean_interval([1.0] * right + [0.0] * (n - right))


@cache
def _of_pairs(won: int, lost: int, n: int) -> Interval:
    rest = [0.0] * (n - won - lost)
    return difference_interval([1.0] * won + [0.0] * lost + rest, [0.0] * won + [1.0] * lost + rest)


def _outcomes(n: int, wins: float, losses: float) -> Iterator[tuple[int, int, float]]:
    """Wins and losses that are not too rare to count, with their chance."""
    for won, chance in enumerate(stats.binom.pmf(range(n + 1), n, wins)):
        if chance > 1e-7:
            given = stats.binom.pmf(range(n - won + 1), n - won, losses / (1 - wins))
            for lost, conditional in enumerate(given):
                if chance * conditional > 1e-9:
                    yield won, lost, float(chance * conditional)


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[int, Sequence[float]]]) -> None:
    print(f"\n{title}\n\n| n | {' | '.join(names)} |\n| ---: |{' ---: |' * len(names)}")
    for n, values in rows:
        cells = ("–" if value != value else f"{100 * value:.1f}" for value in values)
        print(f"| {n} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print every table."""
    shares = [f"p = {share:g}" for share in SHARES]
    pairs = [f"{wins:g} / {losses:g}" for wins, losses in PAIRS]
    tables: list[tuple[str, list[str], Callable[[int], list[float]]]] = [
        ("share of right answers", shares, lambda n: [proportion(n, p) for p in SHARES]),
        ("the same by the percentile bootstrap", shares,
         lambda n: [proportion(n, p, percentile_bootstrap) for p in SHARES]),
        ("paired difference, wins / losses", pairs, lambda n: [paired(n, *p) for p in PAIRS]),
        ("mean of F1-like grades", shares[1:], lambda n: [f1_mean(n, p) for p in SHARES[1:]]),
        ("difference of F1-like grades", [f"{a:g} - {b:g}" for a, b in F1_PAIRS],
         lambda n: [f1_paired(n, *p) for p in F1_PAIRS]),
        ("share, items in fives", shares, lambda n: [mean_in_fives(n, p) for p in SHARES]),
        ("paired difference, items in fives", pairs,
         lambda n: [paired_in_fives(n, *p) for p in PAIRS]),
        ("retention, student / teacher", [f"{a:g} / {b:g}" for a, b in RETAINED],
         lambda n: [ratio(n, p) for p in RETAINED]),
        ("gap closed, student, base, teacher", [", ".join(f"{v:g}" for v in p) for p in GAPS],
         lambda n: [ratio(n, p) for p in GAPS]),
        ("equal contestants called different", ["0/1, p = 0.1", "0/1, p = 0.5", "in fives, p = 0.3", "F1-like, p = 0.1", "F1-like, p = 0.5"],
         lambda n: [called_clear("0/1", n, 0.1), called_clear("0/1", n, 0.5), called_clear("fives", n, 0.3),
                    called_clear("F1-like", n, 0.1), called_clear("F1-like", n, 0.5)]),
    ]  # fmt: skip
    for title, names, row in tables:
        _table(title, names, [(n, row(n)) for n in SIZES])


if __name__ == "__main__":
    sys.exit(main())
