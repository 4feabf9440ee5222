"""Find what a text that is looked up has of a held-out text, in runs of words and between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from quality.gate.held_out_index import HeldOutText
from quality.gate.rarity import RUN, Rarity
from quality.gate.shared_words import GAP, bag_of, is_typo, keep_long_runs, runs_of

_COMMON = 0.5  # what a word counts below that is the wording of a template


@dataclass(frozen=True)
class Cover:
    """The places of a held-out text that stand in another text in shared runs, and those there."""

    held: list[int]
    other: list[int]


class TextWords:
    """The words of a text that is looked up, and where its runs are."""

    def __init__(self, form: str, rarity: Rarity) -> None:
        self.words = form.split()
        self._rarity = rarity
        self.candidates: list[HeldOutText] = []  # long questions that share runs with it

    @cached_property
    def runs(self) -> dict[tuple[str, ...], list[int]]:
        """The places at which each run begins."""
        runs: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, run in enumerate(runs_of(self.words)):
            runs[run].append(place)
        return runs

    @cached_property
    def lone(self) -> list[float]:
        """How much each word counts by its surroundings."""
        return self._rarity.lone(self.words)

    @cached_property
    def weights(self) -> list[float]:
        """How much each word tells."""
        return self._rarity.weights(self.words)

    @cached_property
    def bag(self) -> dict[str, float]:
        """The weight of each word, of the place where it has most."""
        return bag_of(self.words, self.lone)

    def find_cover(self, text: HeldOutText, least: int) -> Cover:
        """What it has of a held-out text, in runs of at least so many words."""
        beside: dict[int, int] = {}  # place in the held-out text -> place here
        other: set[int] = set()
        taken: set[int] = set()  # what is said once here is found once
        for start, run in enumerate(runs_of(text.words)):
            place = next((n for n in self.runs.get(run, ()) if n not in taken), None)
            if place is not None:
                taken.add(place)
                for n in range(RUN):
                    beside.setdefault(start + n, place + n)
                    other.add(place + n)
        held = keep_long_runs(set(beside), least)
        if 2 * len(held) >= len(text.words):  # words between two edits are in no shared run
            for start, word in enumerate(text.words):
                if start not in held:
                    near = min(beside, key=lambda n: abs(n - start))
                    there = beside[near] + start - near
                    places = [
                        n
                        for n in range(max(0, there - GAP), min(there + GAP + 1, len(self.words)))
                        if n not in other
                        and (self.words[n] == word or is_typo(word, self.words[n]))
                    ]
                    held.update([start] if places else ())
                    other.update(places[:1])
        return Cover(sorted(held), sorted(other))

    def is_template(self, cover: Cover) -> bool:
        """Whether most of what it has of a text is in runs that many texts have."""
        return sum(self.lone[n] for n in cover.other) < _COMMON * len(cover.other)

    def has_usual(self, words: Sequence[str]) -> bool:
        """Whether one of its words stands as many texts have it: in the slot of a template."""
        usual = self._rarity.is_usual(self.words)
        return any(usual[n] for n, word in enumerate(self.words) if word in words)

    def varies(self, text: HeldOutText, cover: Cover) -> bool:
        """Whether what it has in the place of other words is the wording of a template too.

        Then it is another row of the template, and no edited one.
        """
        known = set(cover.other)
        start = max(0, cover.other[0] - cover.held[0])
        stop = cover.other[-1] + len(text.words) - cover.held[-1]
        places = range(start, min(stop, len(self.words)))
        usual = self._rarity.is_usual(self.words)
        return any(n not in known and usual[n] for n in places)
