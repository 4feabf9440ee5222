"""Measure how far bounds on scores agree with human decisions, sample by sample."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from warehouse.records import Sample, Score

Bounds = Mapping[str, float] | Callable[[str], Mapping[str, float]]
"""Bounds by key (`grounded_min`, `toxicity.insult_max`), or a recipe's name -> those of its samples."""


@dataclass(frozen=True)
class Reading:
    """A sample's score beside the bound it is held against."""

    key: str
    """`grounded_min`, `toxicity.insult_max`, or the scorer alone where there is no bound."""
    bound: float | None
    value: float | None
    why: str | None
    scored: bool = True

    @property
    def name(self) -> str:
        """The scorer, with the label."""
        return self.key if self.bound is None else self.key.rpartition("_")[0]

    @property
    def is_least(self) -> bool:
        """Whether the bound is the least good value."""
        return self.key.endswith("_min")

    @property
    def passed(self) -> bool | None:
        """Whether it is within the bound, as the gate sees it; None without value or bound."""
        if self.value is None or self.bound is None:
            return None
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.value is None:
            return "abstained" if self.scored else "not scored"
        return {None: "no bound", True: "pass", False: "fail"}[self.passed]


def readings(
    samples: Sequence[Sample], scores: Iterable[Score], bounds: Bounds
) -> dict[str, list[Reading]]:
    """For each sample what every bound makes of it, then the scores without a bound."""
    table: dict[str, dict[str, Score]] = defaultdict(dict)
    for score in scores:
        if score.scorer != "human":
            table[score.sample_id][score.scorer] = score
    of = (lambda recipe: bounds) if isinstance(bounds, Mapping) else bounds
    return {s.sample_id: _readings(table[s.sample_id], of(s.recipe)) for s in samples}


def _readings(own: Mapping[str, Score], bounds: Mapping[str, float]) -> list[Reading]:
    rows = []
    for key, bound in bounds.items():
        scorer, _, label = key.rpartition("_")[0].partition(".")
        score = own.get(scorer)
        value = score.value if score else None
        if score and label:
            value = ((score.details or {}).get("labels") or {}).get(label)
        if value is not None and not math.isfinite(value):
            value = None
        rows.append(Reading(key, bound, value, score.why if score else None, score is not None))
    held = {reading.name.partition(".")[0] for reading in rows if "." not in reading.name}
    free = [Reading(name, None, own[name].value, own[name].why) for name in sorted(set(own) - held)]
    return rows + free


@dataclass(frozen=True)
class Agreement:
    """How far one bound says the same as the humans; an edited sample counts as rejected."""

    key: str
    n: int
    """Decided samples that have a score."""
    agreement: float
    """The share on which both say the same."""
    low: float
    high: float
    """Its 95 % interval (Wilson 1927)."""
    kappa: float | None
    """Cohen's kappa (1960): agreement beyond chance; None where chance alone agrees fully."""
    roc_auc: float | None
    """Area under the ROC curve of the score, good end up; None without both verdicts."""
    abstained: int
    """Decided samples without a score."""


def agreements(
    by_sample: Mapping[str, Sequence[Reading]], decided: Mapping[str, Score]
) -> list[Agreement]:
    """The agreement of every bound with the decisions in force.

    Args:
        by_sample: Readings by sample id.
        decided: Decisions by sample id.
    """
    pairs: dict[str, list[tuple[Reading, bool]]] = defaultdict(list)
    for sample_id, own in by_sample.items():
        if sample_id in decided:
            for reading in own:
                if reading.bound is not None:
                    pairs[reading.key].append((reading, decided[sample_id].value == 1.0))
    rows = (_agreement(key, several) for key, several in pairs.items())
    return [row for row in rows if row is not None]


def _agreement(key: str, pairs: Sequence[tuple[Reading, bool]]) -> Agreement | None:
    from scipy.stats import binomtest, mannwhitneyu

    rated = [(reading, human) for reading, human in pairs if reading.value is not None]
    n = len(rated)
    if not n:
        return None
    same = sum(reading.passed == human for reading, human in rated)
    passed = sum(bool(reading.passed) for reading, _ in rated) / n
    wanted = sum(human for _, human in rated) / n
    chance = passed * wanted + (1 - passed) * (1 - wanted)
    interval = binomtest(same, n).proportion_ci(method="wilson")
    sign = 1.0 if rated[0][0].is_least else -1.0
    good = [sign * (reading.value or 0.0) for reading, human in rated if human]
    bad = [sign * (reading.value or 0.0) for reading, human in rated if not human]
    auc = None
    if good and bad:
        auc = float(mannwhitneyu(good, bad).statistic) / (len(good) * len(bad))
    return Agreement(
        key=key,
        n=n,
        agreement=same / n,
        low=float(interval.low),
        high=float(interval.high),
        kappa=(same / n - chance) / (1 - chance) if chance < 1 else None,
        roc_auc=auc,
        abstained=len(pairs) - n,
    )
