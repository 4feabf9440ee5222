"""Compute how many held-out items each `[ship]` condition needs, before anything is spent.

A condition is met where the bound of the 95 % interval meets it, so a student that is just good
enough fails it nearly always. What it has to be beyond that is assumed: see `assumed_line`.

With several training seeds the interval covers the seeds, too, and its margin falls with more seeds, not
with more items: see `power_over_seeds`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from distill.evaluation.power import LEVEL, LOSSES, POWER, items_needed
from distill.evaluation.ship_chance import ROUNDING
from distill.evaluation.ship_conditions import Condition, Planned, applicable, parse
from distill.evaluation.statistics import MIN_ITEMS
from distill.evaluation.verdict import points
from warehouse.wording import format_count

GAIN = 0.1
"""Assumed gain where a condition asks for none ("student >= base"), and largest assumed distance
from a number."""
TOXIC_LOSSES = 0.05
"""Assumed loss rate of toxicity, which is rare."""
SEED_SPREAD = 0.03
"""Assumed standard deviation of the scores of several seeds, as in `tests.bench.seeds`, for a score of
50 %; a rarer share varies less, as its items do."""
MOST_SEEDS = 30
"""Up to so many seeds are tried where the plan's are too few."""
_MOST_ITEMS = 10**7
"""So many items leave the seeds' part of an interval alone."""
IMPLAUSIBLE = 0.5
"""From a gain of so much on, no number of items is told: the other contestant has to score so little
(or so much) that the items decide nothing."""


@dataclass(frozen=True)
class ItemsNeeded:
    """Items that a condition needs on one benchmark, and those that the plan has."""

    condition: str
    benchmark: str
    needed: int | None
    """None: no number of items is enough."""
    available: int
    truth: str
    """What is assumed of whom."""
    obstacle: str = ""
    """Why no number of items is enough; empty where one is."""
    only_if: str = ""
    """What has to be true of another contestant, where a difference is asked that few leave room for."""
    advice: str = ""
    """What the same condition needs with more training seeds, where the plan has too few."""

    @property
    def is_enough(self) -> bool:
        """Whether the plan has as many."""
        return self.needed is not None and self.available >= self.needed

    @property
    def line(self) -> str:
        """One line for `distill check`."""
        if self.needed is None:
            return f"'{self.condition}' on {self.benchmark}: {self.obstacle}{self.advice}"
        few = "" if self.is_enough else f", too few{self.advice}"
        return (
            f"'{self.condition}' on {self.benchmark} needs about "
            f"{format_count(self.needed, 'item')} if {self.truth}; there "
            f"{'is' if self.available == 1 else 'are'} {self.available:,}{few}"
        )


def find_items_needed(
    conditions: Sequence[str],
    benchmarks: Sequence[Planned],
    counts: Mapping[str, int],
    seeds: int = 1,
) -> list[ItemsNeeded]:
    """For each condition and benchmark, the items with which the interval meets it four times in
    five.

    Args:
        conditions: The plan's conditions, which the plan can measure.
        benchmarks: The plan's benchmarks.
        counts: Benchmark -> its items.
        seeds: Students of the plan, whose mean is held to the conditions.
    """
    return [
        _on(parse(text), benchmark, counts[benchmark.label], seeds)
        for text in conditions
        for benchmark in applicable(parse(text), benchmarks)
    ]


def assumed_line(seeds: int = 1) -> str:
    """What the numbers rest on, in one line."""
    over_seeds = (
        f", the scores of the {seeds} training seeds have a standard deviation of "
        f"{points(SEED_SPREAD)} points (less where scores are near 0 or 100 %)"
        if seeds > 1
        else ""
    )
    return (
        f"assumed: the bound of the interval is met four times in five, the worse of two contestants "
        f"alone is right on {100 * LOSSES:g} % of the items, each item has its own passage"
        f"{over_seeds}; where they differ less, fewer are needed"
    )


@dataclass(frozen=True)
class _Demand:
    """What a condition asks for beyond its limit, and how its items vary."""

    needed: int
    """Items for a student of one seed."""
    beyond: float
    """How far the assumed truth is from the limit, above 0."""
    variance: float
    """Of an item's grade, or of its difference."""
    share: float
    """A score that the seeds vary around."""


def _on(condition: Condition, benchmark: Planned, available: int, seeds: int) -> ItemsNeeded:
    told = partial(ItemsNeeded, condition.text, benchmark.label, available=available)
    if only_if := _only_if(condition):
        why = f"it can be met only if {only_if}; ask for a smaller difference"
        return told(needed=None, truth="", obstacle=why, only_if=only_if)
    is_difference = condition.against or condition.subject == "forgetting"
    demand, truth = (_of_difference if is_difference else _of_number)(condition)
    if demand is None:
        why = (
            f"it cannot be met: the bound of an interval never reaches {points(condition.margin)} %"
        )
        return told(needed=None, truth=truth, obstacle=why)
    if seeds == 1 or not _is_over_seeds(condition):
        return told(needed=demand.needed, truth=truth)
    needed, why = _needed_over_seeds(demand, seeds), ""
    if needed is None:
        why = (
            f"no number of items is enough with {seeds} training seeds whose scores have a standard "
            f"deviation of {points(_seed_spread(demand))} points"
        )
    return told(needed=needed, truth=truth, obstacle=why, advice=_more_seeds(demand, seeds, needed))


def _only_if(condition: Condition) -> str:
    """What a difference asks of the other contestant, where that is more than half of the scale."""
    asked = condition.margin if condition.at_least else -condition.margin
    if condition.against is None or asked < IMPLAUSIBLE - ROUNDING:
        return ""
    if condition.at_least:
        return f"{condition.against} scores at most {points(1 - asked)} %"
    return f"{condition.against} scores at least {points(asked)} %"


def _is_over_seeds(condition: Condition) -> bool:
    """Whether a student without a context is in it: only that one answers with every seed."""
    return condition.is_measure or "student" in (condition.subject, condition.against)


def _of_difference(condition: Condition) -> tuple[_Demand, str]:
    """Twice the asked difference is assumed; where none is asked, or a loss is allowed, see below."""
    against = condition.against or "the base"
    asked = condition.margin if condition.at_least else -condition.margin
    gain = GAIN if asked == 0 else min(2 * max(0.0, asked), (1 + asked) / 2)
    beyond, losses = gain - asked, TOXIC_LOSSES if condition.subject == "toxicity" else LOSSES
    rises = condition.at_least or condition.subject == "forgetting"
    subject = "the student" if condition.is_measure else _name(condition.subject)
    truth = (
        f"{subject} is truly {points(gain)} points {'better' if rises else 'lower'} than {against}"
    )
    if not gain:
        truth = f"{subject} is truly as good as {against}"
    if gain > IMPLAUSIBLE:
        room = f"{points(1 - gain)} % at most" if rises else f"{points(gain)} % at least"
        truth += f", which then scores {room}"
    discordant = max(beyond, min(1.0, 2 * losses + gain))
    needed = max(MIN_ITEMS, items_needed(beyond, discordant))
    share = losses if condition.subject == "toxicity" else 0.5
    return _Demand(needed, beyond, discordant - gain**2, share), truth


def _of_number(condition: Condition) -> tuple[_Demand | None, str]:
    """Halfway to the end of the scale is assumed, ten points at most; by the normal approximation of
    a test of one proportion (Fleiss, Levin and Paik 2003, section 2.4)."""
    limit = condition.margin
    room = 1 - limit if condition.at_least else limit
    beyond = min(GAIN, room / 2)
    value = limit + beyond if condition.at_least else limit - beyond
    subject = "the student" if condition.is_measure else _name(condition.subject)
    truth = f"{subject} is truly at {points(value)} %"
    if beyond < ROUNDING:
        return None, truth
    normal = statistics.NormalDist()
    variances = [share * (1 - share) for share in (limit, value)]
    quantiles = (normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(POWER))
    spreads = (math.sqrt(variance) for variance in variances)
    root = sum(z * spread for z, spread in zip(quantiles, spreads, strict=True)) / beyond
    needed = max(MIN_ITEMS, math.ceil(root**2))
    return _Demand(needed, beyond, max(variances), value), truth


def _name(contestant: str) -> str:
    return "the student" if contestant == "student" else contestant


def _needed_over_seeds(demand: _Demand, seeds: int) -> int | None:
    """Items for the mean of so many seeds; never fewer than for one, since the interval over seeds is
    never narrower than that of the mean answers. None where the seeds' part alone is too wide."""

    def met(n: int) -> bool:
        return _power(demand, n, seeds) >= POWER

    if met(demand.needed):
        return demand.needed
    if not met(_MOST_ITEMS):
        return None
    few, enough = demand.needed, 2 * demand.needed
    while not met(enough):
        few, enough = enough, 2 * enough
    while enough - few > max(1, few // 1000):
        middle = (few + enough) // 2
        few, enough = (few, middle) if met(middle) else (middle, enough)
    return enough


def _more_seeds(demand: _Demand, seeds: int, needed: int | None) -> str:
    """The fewest seeds that need at most twice the items of one student; empty where these do."""
    most = 2 * demand.needed
    if needed is not None and needed <= most:
        return ""
    for more in range(seeds + 1, MOST_SEEDS + 1):
        if _power(demand, most, more) >= POWER:
            items = format_count(_needed_over_seeds(demand, more) or most, "item")
            return f"; with train.seeds = {more} it needs about {items}"
    return "; ask for less"


def _seed_spread(demand: _Demand) -> float:
    return SEED_SPREAD * 2 * math.sqrt(demand.share * (1 - demand.share))


def _power(demand: _Demand, n: int, seeds: int) -> float:
    return power_over_seeds(
        demand.beyond, math.sqrt(demand.variance / n), _seed_spread(demand), seeds
    )


def power_over_seeds(beyond: float, error: float, spread: float, seeds: int) -> float:
    """How often the bound of an interval over seeds is met by a truth so far beyond its limit.

    The gate's interval is a quantile of a normal draw (items) and one of Student's t times the
    standard error of the seeds, which is itself estimated from so many seeds: its square is a
    chi-squared one with seeds - 1 degrees of freedom, independent of their mean. Both are integrated
    numerically.

    Args:
        beyond: Distance of the truth from the limit.
        error: Standard error over items.
        spread: True standard deviation of the seeds' scores.
        seeds: At least two.
    """
    import numpy as np
    from scipy import special

    freedom = seeds - 1
    of_seeds = spread / math.sqrt(seeds)
    middles = (np.arange(_POINTS) + 0.5) / _POINTS
    estimated = of_seeds * np.sqrt(special.chdtri(freedom, 1 - middles) / freedom)
    draws = special.stdtrit(freedom, middles)
    low, high = np.zeros(_POINTS), np.full(_POINTS, 2.0)
    for _ in range(_HALVINGS):
        half = (low + high) / 2
        below = special.ndtr((half[:, None] - estimated[:, None] * draws) / error).mean(axis=1)
        is_low = below < 1 - LEVEL / 2
        low, high = np.where(is_low, half, low), np.where(is_low, high, half)
    return float(special.ndtr((beyond - high) / math.hypot(error, of_seeds)).mean())


_POINTS, _HALVINGS = 200, 24
"""Of the numerical integration: points of each distribution, halvings of the search for a quantile."""
