"""Tell answers that answer nothing: nearly all the same or empty, or those of other items.

Such answers can lie nearer to the teacher's in length, lists or tone than the base's do, and are
no sign that its style was learned. So they are looked for before any share of style is given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.comparison import ItemText
from distill.evaluation.statistics import MIN_ITEMS, sign_test_p_value
from quality.text import style
from warehouse.records import Answer

NEARLY_ALL = 0.9
"""Share of the answers from which they count as nearly all."""
LEVEL = 0.01
"""Level of the permutation test: below it, answers are taken to fit their own items."""
PERMUTATIONS = 999
NO_FIT = 0.1
"""Share of the teacher's fit below which a fit that the test does not find is called none."""
LEAST_FIT = 0.05
"""Fit of the teacher's own answers below which they are too alike to tell items apart."""
MAX_ITEMS = 2_000
"""Most items of the permutation test, the first ones; its table has their number squared."""


@dataclass(frozen=True)
class Sameness:
    """How many of `n` answers are empty or the commonest one, of the student and of others."""

    student: int
    others: int
    """The most of the teacher's answers and of the references."""
    n: int
    clearly_more: bool

    @property
    def collapsed(self) -> bool:
        """Whether nearly all answers are one, and clearly more of them than of the others."""
        return self.student >= NEARLY_ALL * self.n and self.clearly_more

    def __str__(self) -> str:
        return f"{self.student} of {self.n} are empty or one and the same, of the teacher's {self.others}"


def measure_sameness(
    student: Sequence[Answer], teacher: Sequence[Answer], texts: Sequence[ItemText] = ()
) -> Sameness:
    """Count the answers that are empty or equal to the commonest one; case and signs do not count.

    The answers, and the `texts` where given, are of the same items in the same order. Whether the
    student has clearly more of them is asked of the teacher's answers and of the references
    where all items have one (a sign test at 0.05 on the items that one of the two alone repeats):
    where the right answer is nearly always the same, to repeat it is no collapse.
    """
    others = [_repeated([answer.text for answer in teacher])]
    if texts and all(text.reference for text in texts):
        others.append(_repeated([text.reference[0] for text in texts]))
    own = _repeated([answer.text for answer in student])
    return Sameness(sum(own), max(map(sum, others)), len(own), all(_more(own, o) for o in others))


def _repeated(texts: Sequence[str]) -> list[bool]:
    """Of each text whether it is empty or the commonest of those that are not."""
    words = [tuple(style.words_of(text)) for text in texts]
    common = {(), *(most for most, _ in Counter(filter(None, words)).most_common(1))}
    return [own in common for own in words]


def _more(left: Sequence[bool], right: Sequence[bool]) -> bool:
    pairs = Counter(zip(left, right, strict=True))
    more, less = pairs[True, False], pairs[False, True]
    return len(left) >= MIN_ITEMS and more > less and sign_test_p_value(more, less) < 0.05


@dataclass(frozen=True)
class Fit:
    """How well answers go with their own items and with others; shares of words, 0..1."""

    own: float
    others: float
    p_value: float
    """One-sided: that the answers go no better with their own items (permutation test)."""
    teacher: float
    """Of the teacher's answers, own minus others: as much as can be reached."""
    n: int

    @property
    def is_known(self) -> bool:
        """Whether so many items, and items so different, can show a fit at all."""
        return self.n >= MIN_ITEMS and self.teacher >= LEAST_FIT

    @property
    def is_clear(self) -> bool:
        """Whether the answers go better with their own items than with others."""
        return self.is_known and self.p_value < LEVEL

    @property
    def is_missing(self) -> bool:
        """Whether the answers go as well with other items as with their own."""
        too_little = self.own - self.others < NO_FIT * self.teacher
        return self.is_known and self.p_value >= LEVEL and too_little

    def __str__(self) -> str:
        return (
            f"{100 * self.own:.1f} % of their words belong to their own item, {100 * self.others:.1f} % "
            f"would to another (permutation test p = {self.p_value:.3f}, n = {self.n})"
        )


def measure_fit(
    student: Sequence[Answer],
    teacher: Sequence[Answer],
    texts: Sequence[ItemText] = (),
    seed: int = 0,
) -> Fit:
    """Compare how an answer's words go with its own item, and with the other items.

    The words of an item are those of its question, passage, references and the teacher's answer,
    and what a grader read as said and right there. An answer goes with an item by the share of its
    words that are words of the item, each weighted by log(items / items that have it), so that
    words of all items count nothing. The test permutes the items of the answers (Good,
    *Permutation Tests*, 2000, chapter 3). Takes the answers as `measure_sameness` does.
    """
    import numpy as np

    student, teacher, texts = student[:MAX_ITEMS], teacher[:MAX_ITEMS], texts[:MAX_ITEMS]
    said = [_read(answer, "said") | set(style.words_of(answer.text)) for answer in student]
    taught = [_read(answer, "said") | set(style.words_of(answer.text)) for answer in teacher]
    items = [
        words | _read(one, "right") | _read(other, "right")
        for words, one, other in zip(taught, student, teacher, strict=True)
    ]
    for words, text in zip(items, texts, strict=False):
        for part in (text.question, text.passage or "", *text.reference):
            words.update(style.words_of(part))
    going, ceiling, n = _shares(said, items), _shares(taught, items), len(items)
    observed, rng = np.trace(going) / n, np.random.default_rng(seed)
    drawn = [going[np.arange(n), rng.permutation(n)].mean() for _ in range(PERMUTATIONS)]
    as_good = sum(mean >= observed - 1e-12 for mean in drawn)
    return Fit(
        own=float(observed),
        others=_elsewhere(going),
        p_value=(1 + as_good) / (1 + PERMUTATIONS),
        teacher=float(np.trace(ceiling)) / n - _elsewhere(ceiling),
        n=n,
    )


def _read(answer: Answer, what: str) -> set[str]:
    """What a grader read from an answer (`said`), or holds for `right`, as a word of its own."""
    value = (answer.details or {}).get(what)
    return set() if value is None else {f"={value}"}


def _shares(rows: Sequence[set[str]], items: Sequence[set[str]]) -> Any:
    """Weighted share of each row's words that each item has: (rows, items), 0..1."""
    import numpy as np
    from scipy import sparse

    counts = Counter(word for words in items for word in words)
    known = sorted(set(counts).union(*rows))
    columns = {word: column for column, word in enumerate(known)}
    weights = np.array([math.log(len(items) / max(1, counts[word])) for word in columns])

    def table(texts: Sequence[set[str]]) -> Any:
        cells = [(row, columns[word]) for row, words in enumerate(texts) for word in words]
        shape = (len(texts), len(columns))
        return sparse.csr_array((np.ones(len(cells)), np.array(cells).reshape(-1, 2).T), shape)

    weighted = table(rows) * weights
    whole = np.asarray(weighted.sum(axis=1)).reshape(-1, 1)
    shared = (weighted @ table(items).T).toarray()
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _elsewhere(going: Any) -> float:
    """Mean of a square table without its diagonal."""
    n = len(going)
    return float((going.sum() - going.trace()) / max(1, n * (n - 1)))
