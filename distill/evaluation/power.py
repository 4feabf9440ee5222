"""Compute the smallest difference that the available items can show."""

from __future__ import annotations

import math
import statistics
from typing import Any

DISCORDANT = 0.5
"""Assumed share of items that only one of two contestants gets right."""
POWER = 0.8
LEVEL = 0.05
_FINE = 1e-5
"""Resolution of the search for the least difference."""


def power_of(
    n: int, difference: float, discordant: float = DISCORDANT, level: float = LEVEL
) -> float:
    """How often McNemar's exact two-sided test finds a true difference.

    Not an approximation: the binomials are summed. Of n items D ~ Bin(n, `discordant`) are
    answered right by one contestant alone, of these W ~ Bin(D, (1 + `difference` /
    `discordant`) / 2) by the better one, and the test on W finds a p below `level` (McNemar
    1947; the model is that of Connor 1987, who approximates).

    Args:
        n: Items answered by both.
        difference: True difference of the two, 0..`discordant`.
        discordant: Share of the items that one of the two alone gets right, 0..1.
        level: The difference is found where p is below it.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(n, discordant, level)
    if not 0 <= difference <= discordant:
        raise ValueError(
            f"difference is {difference:g}; it is 0 to {discordant:g}, since only discordant items "
            "make one"
        )
    if n == 0 or discordant == 0:
        return 0.0
    return _power(_table(n, discordant, level), (1 + difference / discordant) / 2)


def detectable(
    n: int, discordant: float = DISCORDANT, power: float = POWER, level: float = LEVEL
) -> float | None:
    """The least true difference that n items show with probability `power`; see `power_of`.

    The answer is never below the true one, and above it by at most 0.00001.

    Args:
        n: Items answered by both.
        discordant: Share of the items that one of the two alone gets right, 0..1.
        power: How often the difference is to be found; at least `level`, below 1.
        level: The difference is found where p is below it.

    Returns:
        0..`discordant`, or None where the n items are too few: the test would miss it too often
        even if one contestant were right on every discordant item.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(n, discordant, level)
    if not level <= power < 1:
        raise ValueError(f"power is {power:g}; it is at least the level, {level:g}, and below 1")
    if n == 0 or discordant == 0:
        return None
    table = _table(n, discordant, level)
    if _power(table, 1.0) < power:
        return None
    low, high = 0.0, discordant
    while high - low > _FINE:
        middle = (low + high) / 2
        if _power(table, (1 + middle / discordant) / 2) < power:
            low = middle
        else:
            high = middle
    return high


def detectable_mean(error: float, level: float = LEVEL) -> float | None:
    """The least true mean difference that a paired test of means shows four times in five.

    For grades between 0 and 1: (z(1 - level / 2) + z(0.8)) standard errors of the mean
    difference, by the normal approximation (Cohen 1988, section 2.3).

    Args:
        error: Standard error of the mean difference, in units of the grades.
        level: The difference is found where p is below it.

    Returns:
        In units of the grades, or None where there is no spread to go by.
    """
    normal = statistics.NormalDist()
    z = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)
    return z * error or None


def difference_sentence(
    n: int,
    discordant: float = DISCORDANT,
    power: float = POWER,
    level: float = LEVEL,
    score: float = 0.3,
) -> str:
    """State in plain words which difference n items can show.

    The two scores it names are missed more often than not; the first is the whole percent
    next to `score` that two contestants of this `discordant` share can have.
    """
    least = detectable(n, discordant, power, level)
    items = f"{n:,} item{'' if n == 1 else 's'}"
    share = f"{round(100 * discordant, 1):g} % of the items"
    if least is None:
        often = "one time in five" if power == POWER else f"in {100 * (1 - power):.3g} % of cases"
        return (
            f"{items} cannot show a difference: even if one contestant were right wherever two "
            f"differ, on {share}, the exact test would miss it more often than {often}."
        )
    often = "four times in five" if power == POWER else f"in {100 * power:.3g} % of cases"
    pair = _missed_pair(n, discordant, level, score)
    opening = f"{items} cannot tell {pair[0]} % from {pair[1]} %:" if pair else f"On {items}"
    points = math.ceil(1000 * least - 1e-9) / 10  # rounded up, so as not to promise too much
    return (
        f"{opening} a difference of {points:g} points or more shows {often} "
        f"(where one contestant alone is right on {share})."
    )


def _check(n: int, discordant: float, level: float) -> None:
    if n < 0:
        raise ValueError(f"n is {n}; it is a number of items")
    if not 0 <= discordant <= 1:
        raise ValueError(f"discordant is {discordant:g}; it is a share, 0 to 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}; it is above 0 and below 1")


_Table = tuple[Any, Any, Any]
"""Numbers of discordant items, their probability, and the most losses that p allows with each."""


def _table(n: int, discordant: float, level: float) -> _Table:
    import numpy as np
    from scipy import stats

    tail = 1e-12  # probability left out at either end
    least, most = stats.binom.ppf([tail, 1 - tail], n, discordant)
    number = np.arange(int(least), int(most) + 1)
    losses = stats.binom.ppf(level / 2, number, 0.5) - 1  # -1: no outcome is unlikely enough
    return number, stats.binom.pmf(number, n, discordant), losses


def _power(table: _Table, better: float) -> float:
    from scipy import special

    number, probability, losses = table
    able = losses >= 0
    probabilities = special.bdtr(losses[able], number[able], better)
    probabilities += special.bdtr(losses[able], number[able], 1 - better)
    return float((probability[able] * probabilities).sum())


def _missed_pair(n: int, discordant: float, level: float, score: float) -> tuple[int, int] | None:
    """Two whole percents near `score` that are missed more often than not, far apart.

    Two contestants can have them: the lower one holds what it alone gets right,
    (discordant - difference) / 2, and the higher one leaves out as much.
    """
    half = max(level, 0.5)
    least = detectable(n, discordant, half, level)
    if least is None:
        return None
    for gap in range(math.ceil(100 * least) - 1, 0, -1):
        exclusive = max(0, math.ceil((100 * discordant - gap) / 2 - 1e-9))
        if 2 * exclusive + gap <= 100 and power_of(n, gap / 100, discordant, level) < half:
            low = min(max(round(100 * score), exclusive), 100 - gap - exclusive)
            return low, low + gap
    return None
