"""Measure how much of the distance from the base's style to the teacher's a student has covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.statistics import Interval, bootstrap, holm, mean, permutation_p_value
from quality.text import style

CONTESTANTS = ("base", "student", "teacher")
_AT_MOST = (-1.0, 1.0)


@dataclass(frozen=True)
class Measure:
    """A style measure: its means, and how much nearer to the teacher's the student's is."""

    name: str
    base: float
    student: float
    teacher: float
    share: Interval | None
    """1 - |student - teacher| / |base - teacher|, of the means: 1 at the teacher, 0 where the student
    is as far from it as the base, on either side, and below 0 farther away; None where base and
    teacher do not differ clearly."""
    counted: bool = True
    """Whether its share, if it has one, is part of the mean."""


def style_shares(
    texts: Mapping[str, Sequence[str]],
    names: Sequence[str],
    counted: Sequence[str],
    seed: int = 0,
) -> tuple[list[Measure], Interval | None]:
    """Measure the style of base, student and teacher, and how much nearer the student has come.

    A share is a distance, so that to pass the teacher is no nearer to it: twice too far is as far
    as the base. It has no lower bound. It is given only where base and teacher differ clearly: the
    95 % bootstrap interval of their difference leaves out zero, and so does the permutation test of
    the mean at 0.05 after Holm over the measures, since both shares and gaps are taken
    from the same base, and a gap by chance would look like a distance covered. An answer of the
    student without words, where the teacher's has some, has no style: it stands for the base's.

    Args:
        texts: By contestant, of the same items in the same order.
        names: Of the measures (`quality.text.style.MEASURES`).
        counted: Those of them that the mean is taken of.
        seed: Of the bootstrap.

    Returns:
        The measures, and the mean of their shares; None where none has a share.
    """
    import numpy as np

    texts = {**texts, "student": _with_words(texts)}
    rows = {
        name: [style.measures(*pair) for pair in zip(own, texts["teacher"], strict=True)]
        for name, own in texts.items()
    }
    values = {
        (name, measure): np.array([row[measure] for row in rows[name]])
        for name in CONTESTANTS
        for measure in names
    }
    ahead = {m: values["student", m] - values["teacher", m] for m in names}
    gaps = {m: values["base", m] - values["teacher", m] for m in names}
    differing = _differing(gaps, seed)
    measures = [
        Measure(
            name=measure,
            base=float(values["base", measure].mean()),
            student=float(values["student", measure].mean()),
            teacher=float(values["teacher", measure].mean()),
            share=bootstrap([ahead[measure], gaps[measure]], _share, seed, _AT_MOST)
            if measure in differing
            else None,
            counted=measure in counted,
        )
        for measure in names
    ]
    columns = [part[m] for m in names if m in differing and m in counted for part in (ahead, gaps)]
    return measures, bootstrap(columns, _mean_share, seed, _AT_MOST) if columns else None


def _with_words(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """The student's texts, the base's in place of one that is empty where the teacher's is not."""
    return [
        base if style.words_of(teacher) and not style.words_of(student) else student
        for base, student, teacher in zip(*(texts[name] for name in CONTESTANTS), strict=True)
    ]


def _differing(gaps: Mapping[str, Any], seed: int) -> set[str]:
    """The measures in which base and teacher differ clearly."""
    p_values = [permutation_p_value(gap, seed=seed) for gap in gaps.values()]
    candidates = zip(gaps.items(), holm(p_values), strict=True)
    intervals = {
        m: bootstrap([gap], mean, seed) for (m, gap), p_value in candidates if p_value < 0.05
    }
    return {measure for measure, gap in intervals.items() if gap.low > 0 or gap.high < 0}


def _share(ahead: Any, gap: Any, axis: int = -1) -> Any:
    """The share of the distance covered; NaN in a resample where base and teacher are equal."""
    import numpy as np

    left, whole = np.abs(ahead.mean(axis=axis)), np.abs(np.asarray(gap.mean(axis=axis)))
    return 1 - np.divide(left, whole, out=np.full(whole.shape, np.nan), where=whole > 1e-12)


def _mean_share(*columns: Any, axis: int = -1) -> Any:
    """Of what the student lacks and of gaps by turns."""
    import numpy as np

    pairs = zip(columns[::2], columns[1::2], strict=True)
    return np.mean([_share(ahead, gap, axis) for ahead, gap in pairs], axis=0)
