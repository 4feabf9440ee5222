"""Compute the smallest difference that items can show, and how many items a difference needs.

What matters beside their number is how often two contestants differ at all. So that the answer
does not rest on the difference that was observed, it goes by a planned loss rate: the share of the
items that the worse contestant alone gets right. A difference is what the better one alone gets
right beyond that.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

DISCORDANT = 0.5
"""Assumed share of items that only one of two contestants gets right."""
LOSSES = 0.2
"""Assumed share of items that the worse of two contestants alone gets right."""
SURE = 0.95
"""Certainty of the upper bound of a loss rate."""
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


def loss_rates(wins: int, losses: int, n: int) -> tuple[float, float]:
    """The share of items that the worse contestant alone got right, and its upper 95 % bound.

    The bound is the one-sided one of Clopper and Pearson (1934), half of the items at most.
    """
    from scipy import special

    fewer = min(wins, losses)
    bound = float(special.betaincinv(fewer + 1, n - fewer, SURE)) if fewer < n else 1.0
    return fewer / n, min(0.5, bound)


def detectable(
    n: int, losses: float = LOSSES, power: float = POWER, level: float = LEVEL
) -> float | None:
    """The least true difference that n items show with probability `power`; see `power_of`.

    The answer is never below the true one, and above it by at most 0.00001.

    Args:
        n: Items answered by both.
        losses: Share of the items that the worse contestant alone gets right, 0..0.5. The better
            one alone gets right as many and the difference; where that is more than there are
            items, fewer are lost.
        power: How often the difference is to be found; at least `level`, below 1.
        level: The difference is found where p is below it.

    Returns:
        0..1, or None where the n items are too few: the test would miss it too often even if one
        contestant were right on every item and the other on none.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(n, losses, level)
    if losses > 0.5:
        raise ValueError(f"losses is {losses:g}; it is 0 to 0.5, the share of the worse one")
    _check_power(power, level)
    if n == 0 or power_of(n, 1.0, 1.0, level) < power:
        return None
    low, high = 0.0, 1.0
    while high - low > _FINE:
        middle = (low + high) / 2
        if power_of(n, middle, _discordant(losses, middle), level) < power:
            low = middle
        else:
            high = middle
    return high


def items_needed(
    difference: float, discordance: float, power: float = POWER, level: float = LEVEL
) -> int:
    """The smallest number of items that shows a true difference with probability `power`.

    By the exact test, see `power_of`; one item more may show it a little less often.

    Args:
        difference: True difference of two contestants, above 0, at most `discordance`.
        discordance: Share of the items that one of the two alone gets right, 0..1.
        power: How often the difference is to be found; at least `level`, below 1.
        level: The difference is found where p is below it.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(0, discordance, level)
    _check_power(power, level)
    if not 0 < difference <= discordance:
        raise ValueError(
            f"difference is {difference:g}; it is above 0 and at most {discordance:g}, since only "
            "discordant items make one"
        )

    def found(n: int) -> float:
        return power_of(n, difference, discordance, level)

    def first(wanted: float, most: int) -> int:
        least = 0  # below `wanted`; `most` is not
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if found(middle) < wanted else (least, middle)
        return most

    most = 1
    while found(most) < power:
        most *= 2
    # The exact test's power falls a little where one more discordant item allows no more losses;
    # unless the number of discordant items varies enough to smooth that.
    varies = most * discordance * (1 - discordance) >= 100
    tooth = 0.0 if varies else 1 / math.sqrt(most * discordance)
    n = first(max(level / 2, power - tooth), most)
    while found(n) < power:
        n += 1
    return n


def detectable_mean(
    error: float, groups: float | None = None, level: float = LEVEL
) -> tuple[float, float]:
    """The least true mean difference that a paired test of means shows four times in five.

    For grades between 0 and 1: t(1 - level / 2) + t(0.8) standard errors of the mean difference
    (Cohen 1988, section 2.3); the second value is at the upper 95 % bound of that error.

    Args:
        error: Standard error of the mean difference, in units of the grades.
        groups: Independent items or groups of items, at least two: one more than the error's degrees
            of freedom; left out, very many.
        level: The difference is found where p is below it.

    Returns:
        Both in units of the grades.
    """
    from scipy import special

    if groups is None:
        normal = statistics.NormalDist()
        z = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)
        return z * error, z * error
    freedom = groups - 1
    t = float(special.stdtrit(freedom, 1 - level / 2) + special.stdtrit(freedom, POWER))
    wider = float(math.sqrt(freedom / special.chdtri(freedom, SURE)))
    return t * error, t * error * wider


def difference_sentence(
    n: int,
    losses: float = LOSSES,
    most_losses: float | None = None,
    power: float = POWER,
    level: float = LEVEL,
    score: float = 0.3,
) -> str:
    """State in plain words which difference n items can show, at a loss rate and at its bound.

    What is found comes first, then two scores whose difference is missed more often than not: the
    lower one is the whole percent next to `score` that two contestants of this loss rate can have.
    """
    most_losses = losses if most_losses is None else most_losses
    least, cautious = (detectable(n, rate, power, level) for rate in (losses, most_losses))
    items = f"{n:,} item{'' if n == 1 else 's'}"
    if least is None or cautious is None:
        often = "one time in five" if power == POWER else f"in {100 * (1 - power):.3g} % of cases"
        return (
            f"{items} cannot show a difference: even if one contestant were right wherever two "
            f"differ, on all of them, the exact test would miss it more often than {often}."
        )
    cautious = max(
        least, cautious
    )  # the exact test's power has teeth where nearly all items differ
    often = "four times in five" if power == POWER else f"in {100 * power:.3g} % of cases"
    pair = _missed_pair(n, losses, level, score)
    missed = ""
    if pair:
        missed = (
            f" A smaller one, such as between {pair[0]} % and {pair[1]} %, is missed more often than "
            "not."
        )
    rate, most_rate = (round(100 * share, 1) for share in (losses, most_losses))
    cautiously = "" if rate == most_rate else f", by the cautious estimate on {most_rate:g} %"
    return (
        f"With {items}, {found_sentence(least, cautious, often)}.{missed} This assumes that the worse "
        f"contestant alone is right on {rate:g} % of the items{cautiously}."
    )


def found_sentence(least: float, cautious: float, often: str = "four times in five") -> str:
    """Say which true difference is found how often; the part of a sentence, without a full stop.

    Args:
        least: Difference that is found, 0..1.
        cautious: The same at the upper bound of what it rests on.
        often: How often it is found, in words.
    """
    # rounded up, so as not to promise too much
    low, high = (math.ceil(1000 * value - 1e-9) / 10 for value in (least, cautious))
    unit = "point" if low == 1 else "points"
    bound = "" if low == high else f" ({high:g} by a cautious estimate)"
    return f"a true difference of {low:g} {unit} or more{bound} is found {often}"


def _discordant(losses: float, difference: float) -> float:
    """Share of items that one of the two alone gets right, at a loss rate and a difference."""
    return min(1.0, 2 * losses + difference)


def _check_power(power: float, level: float) -> None:
    if not level <= power < 1:
        raise ValueError(f"power is {power:g}; it is at least the level, {level:g}, and below 1")


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
    from scipy import special

    tail = 1e-12  # probability left out at either end
    least, most = (int(_binomial_quantile(p, n, discordant)) for p in (tail, 1 - tail))
    number = np.arange(least, most + 1)
    losses = _binomial_quantile(level / 2, number, 0.5) - 1  # -1: no outcome is unlikely enough
    ways = special.gammaln([n + 1]) - special.gammaln(number + 1) - special.gammaln(n - number + 1)
    each = special.xlogy(number, discordant) + special.xlog1py(n - number, -discordant)
    return number, np.exp(ways + each), losses


def _binomial_quantile(p: float, n: Any, share: float) -> Any:
    """The least number with a cumulative probability of p or more."""
    import numpy as np
    from scipy import special

    if share in (0.0, 1.0):
        return n * int(share)
    found = np.maximum(np.ceil(np.nan_to_num(special.bdtrik(p, n, share))), 0)
    below = np.maximum(found - 1, 0)
    return np.where(special.bdtr(below, n, share) >= p, below, found)


def _power(table: _Table, better: float) -> float:
    from scipy import special

    number, probability, losses = table
    able = losses >= 0
    probabilities = special.bdtr(losses[able], number[able], better)
    probabilities += special.bdtr(losses[able], number[able], 1 - better)
    return float((probability[able] * probabilities).sum())


def _missed_pair(n: int, losses: float, level: float, score: float) -> tuple[int, int] | None:
    """Two whole percents near `score` that are missed more often than not, far apart.

    Two contestants can have them: the lower one holds what it alone gets right, and the higher
    one leaves out as much.
    """
    half = max(level, 0.5)
    least = detectable(n, losses, half, level)
    if least is None:
        return None
    for gap in range(math.ceil(100 * least) - 1, 0, -1):
        discordant = _discordant(losses, gap / 100)
        exclusive = max(0, math.ceil((100 * discordant - gap) / 2 - 1e-9))
        if 2 * exclusive + gap <= 100 and power_of(n, gap / 100, discordant, level) < half:
            low = min(max(round(100 * score), exclusive), 100 - gap - exclusive)
            return low, low + gap
    return None
