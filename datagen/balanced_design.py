"""Combine the levels of several factors evenly: a design that is made before anything is asked.

For each factor the levels come in the order of Tijdeman (1980, The chairman assignment problem):
after any number of steps a level was used as often as its share says, less than once more or less.
They are taken from that order by handfuls, as many as the factor has levels, and each handful is
dealt to the next steps so that its levels meet those of the other factors evenly (an assignment
problem, solved exactly). So after each handful the counts of levels are even, and the counts of
pairs as even as they allow: ten topics and ten personas meet once each in the first hundred.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import count
from math import inf

LARGEST_HANDFUL = 32
"""Levels that are dealt at once; the time of a deal grows with the cube."""


def balanced_design(factors: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, str]]:
    """Endless combinations of one level of each factor, the same ones each time.

    Args:
        factors: Factor -> level -> weight above 0; their order is part of the design.
    """
    columns: list[_Column] = []
    for levels in factors.values():
        columns.append(_Column(levels, list(columns)))
    for step in count():
        yield {name: column.at(step) for name, column in zip(factors, columns, strict=True)}


class _Column:
    """The levels of one factor, step after step, dealt to meet those of the factors before it."""

    def __init__(self, levels: Mapping[str, float], before: Sequence[_Column]) -> None:
        total = sum(levels.values())
        self._shares = {level: weight / total for level, weight in levels.items()}
        self._order = _in_even_order(self._shares)
        self._before = before
        self._dealt: list[str] = []
        self._met: Counter[tuple[Hashable, str]] = Counter()
        self._times: Counter[Hashable] = Counter()

    def at(self, step: int) -> str:
        """The level of a step."""
        while len(self._dealt) <= step:
            self._deal()
        return self._dealt[step]

    def _deal(self) -> None:
        hand = [next(self._order) for _ in range(min(len(self._shares), LARGEST_HANDFUL))]
        first = len(self._dealt)
        steps = [self._others(first + place) for place in range(len(hand))]
        costs = [[self._excess(others, level) for level in hand] for others in steps]
        for others, choice in zip(steps, _assign(costs), strict=True):
            level = hand[choice]
            self._dealt.append(level)
            self._times.update(others)
            self._met.update((other, level) for other in others)

    def _others(self, step: int) -> list[Hashable]:
        """What a level meets at a step: each other level, and all of them together."""
        levels = [(place, column.at(step)) for place, column in enumerate(self._before)]
        return [*levels, tuple(levels)] if len(levels) > 1 else [*levels]

    def _excess(self, others: Sequence[Hashable], level: str) -> float:
        """How much more often than its share a level met these."""
        share = self._shares[level]
        return sum(self._met[other, level] - share * self._times[other] for other in others)


def _in_even_order(shares: Mapping[str, float]) -> Iterator[str]:
    """Levels without end, each spread as evenly as its share says."""
    if len(set(shares.values())) == 1:
        turns = deque(shares)
        while True:
            yield turns[0]
            turns.rotate(-1)
    slack = 1 / (2 * len(shares) - 2)
    used = dict.fromkeys(shares, 0)
    for step in count(1):
        due = {level: share * step - used[level] for level, share in shares.items()}
        may = [level for level in shares if due[level] >= slack - 1e-9]
        level = min(may, key=lambda name: (1 - slack - due[name]) / shares[name])
        used[level] += 1
        yield level


def _assign(costs: Sequence[Sequence[float]]) -> list[int]:
    """For each row a column of its own, with the least sum of costs (Kuhn 1955, Munkres 1957).

    Written out, since the choice among equal sums shapes prompts and must never change.
    """
    size = len(costs)
    row_of = [0] * (size + 1)  # of each column, both from 1 on; 0: none
    row_price, column_price = [0.0] * (size + 1), [0.0] * (size + 1)
    for row in range(1, size + 1):
        row_of[0] = row
        column, least, came_from = 0, [inf] * (size + 1), [0] * (size + 1)
        visited = [False] * (size + 1)
        while row_of[column]:
            visited[column] = True
            current, step, nearest = row_of[column], inf, 0
            for other in range(1, size + 1):
                if visited[other]:
                    continue
                reduced = costs[current - 1][other - 1] - row_price[current] - column_price[other]
                if reduced < least[other] - 1e-12:
                    least[other], came_from[other] = reduced, column
                if least[other] < step - 1e-12:
                    step, nearest = least[other], other
            for other in range(size + 1):
                if visited[other]:
                    row_price[row_of[other]] += step
                    column_price[other] -= step
                else:
                    least[other] -= step
            column = nearest
        while column:
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
    chosen = [0] * size
    for column in range(1, size + 1):
        chosen[row_of[column] - 1] = column - 1
    return chosen
