"""Separate what a student learned of the teacher's facts from what it learned of its style.

After The False Promise of Imitating Proprietary LLMs (Gudibande et al., 2023, sections 4 and
5): a student of imitation comes to write like its teacher (lists, length, tone, the same words)
while it knows no more than before. So change in style and change in facts are taken apart, on
the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill.evaluation.comparison import answers_by_contestant, exact_test
from distill.evaluation.intervals import CHANGE, bounded_interval
from distill.evaluation.statistics import (
    MIN_ITEMS,
    Interval,
    bootstrap,
    holm,
    is_grouped,
    mean,
    permutation_p_value,
    signed_rank_p_value,
)
from distill.evaluation.verdict import metric_name, p_text, points, span
from quality.text import style
from quality.text.languages import foreign
from warehouse.records import Answer

AWAY, PAST = -1.0, 2.0
"""Bounds of a share of the way: as far again in the wrong direction, or past the teacher."""
LONGER = 1.5
"""Ratio of lengths from which longer answers may contain a reference by chance."""
CONTESTANTS = ("base", "student", "teacher")


@dataclass(frozen=True)
class Measure:
    """A style measure: its mean for base, student and teacher, and how far the student went."""

    name: str
    base: float
    student: float
    teacher: float
    toward: Interval | None
    """(student - base) / (teacher - base); None where base and teacher do not differ clearly."""


@dataclass(frozen=True)
class StyleFacts:
    """Change in style beside change in facts, on one benchmark."""

    benchmark: str
    measures: list[Measure]
    style: Interval | None
    """Mean share of the way from the base's style to the teacher's; None where the two do not differ clearly."""
    facts: Interval | None
    """Student minus base in the content metric (containment or accuracy), in 0..1 units."""
    task: Interval | None
    """Student minus base in the headline metric."""
    outcome: str
    """learned facts | learned the task | learned style only | got worse | no clear change."""
    sentence: str


@dataclass(frozen=True)
class _Change:
    """Student minus base in one metric, on the items graded for both."""

    metric: str
    interval: Interval
    p_value: float
    n: int
    is_grouped: bool = False
    """Whether several items are of one passage."""
    adjusted: bool = False
    """Whether p is after Holm."""
    binary: bool = True
    """Whether every grade is 0 or 1, so that the test is McNemar's where no items share a passage."""

    @property
    def direction(self) -> int:
        """1 or -1 where the change is clear (as `verdict.is_clear` has it), else 0."""
        if self.n < MIN_ITEMS or self.p_value >= 0.05:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)

    def __str__(self) -> str:
        size = points(abs(self.interval.value) if self.direction else self.interval.value)
        test = exact_test(self.binary, self.is_grouped)
        evidence = f"{span(self.interval)}, n = {self.n}, {test} p {p_text(self.p_value)}"
        evidence += " after Holm" if self.adjusted else ""
        name = metric_name(self.metric)
        if not self.direction:
            return f"{name} did not change clearly (a difference of {size} points; {evidence})"
        return f"{name} {'rose' if self.direction > 0 else 'fell'} by {size} points ({evidence})"


def measure_style_and_facts(
    benchmark: str,
    answers: Sequence[Answer],
    headline: str,
    content: str,
    seed: int = 0,
    p_headline: float | None = None,
    p_content: float | None = None,
    group_of: Mapping[str, str] | None = None,
) -> StyleFacts | None:
    """Compare the student's change in style with its change in facts.

    Style is measured (`quality.text.style`) on the items that base, student and teacher all answered,
    hedges and authority where the teacher answers in English;
    the teacher's overlap with itself, 1.0, is the ceiling of overlap. A share of the way from
    base to teacher is a ratio of paired mean differences, -1 to 2. It is given only where base
    and teacher differ clearly: the 95 % bootstrap interval leaves out zero, and so does the
    signed-rank test (Wilcoxon 1945) at 0.05 after Holm over the measures, since both shares
    and gaps are taken from the same base, and a gap by chance would look like a way gone.
    `style` is their mean, each counted as 1 at most: past the teacher is no nearer to it. Where
    `headline` is `content` an answer is a choice, and to share the teacher's words is to share
    its answer: overlap is shown then, but does not count as style.

    Facts and task are the student minus the base on all items graded for both, as in
    `compare.compare`; they are clear where there are ten items or more, the 95 % interval leaves
    out zero and the test gives p < 0.05 (after Holm, where that is given). Outcomes, the
    first that holds:

    - got worse: one of the two falls clearly and none rises clearly;
    - learned facts: content rises clearly;
    - learned the task: the headline rises clearly;
    - learned style only: style moved toward the teacher, by its interval;
    - no clear change.

    Args:
        benchmark: Its name.
        answers: To this benchmark; the order does not matter, nor an answer given twice.
        headline: The metric that asks for right answers in the right form.
        content: The metric that asks for right answers in any form. In both, more is better.
        seed: Of the bootstrap.
        p_headline: Student against base by the headline, where it was adjusted for several
            benchmarks; so that the outcome says what the verdict says.
        p_content: The same of the content metric, where it is another one than the headline.
        group_of: Item -> its passage, where several items are of one.

    Returns:
        None where base, student and teacher have fewer than two items in common.
    """
    answers_by: dict[str, dict[str, Answer]] = {
        name: {} for name in CONTESTANTS
    } | answers_by_contestant(answers)
    common = sorted(set.intersection(*(set(answers_by[name]) for name in CONTESTANTS)))
    if len(common) < 2:
        return None
    texts = {name: [answers_by[name][item_id].text for item_id in common] for name in CONTESTANTS}
    english = foreign("\n".join(texts["teacher"]), ["en"]) is None
    names = [name for name in style.MEASURES if english or name not in style.ENGLISH_MEASURES]
    counted_measures = [name for name in names if name != "overlap" or headline != content]
    measures, moved = _style(texts, names, counted_measures, seed)
    task = _change(headline, answers_by["student"], answers_by["base"], group_of)
    if task and p_headline is not None:
        task = replace(task, p_value=p_headline, adjusted=True)
    facts = task
    if content != headline:
        facts = _change(content, answers_by["student"], answers_by["base"], group_of)
    if facts and content != headline and p_content is not None:
        facts = replace(facts, p_value=p_content, adjusted=True)
    outcome = _outcome(task, facts, moved)
    return StyleFacts(
        benchmark=benchmark,
        measures=measures,
        style=moved,
        facts=facts.interval if facts else None,
        task=task.interval if task else None,
        outcome=outcome,
        sentence=_sentence(outcome, task, facts, moved, measures, headline == content),
    )


def _style(
    texts: Mapping[str, Sequence[str]],
    names: Sequence[str],
    counted_measures: Sequence[str],
    seed: int,
) -> tuple[list[Measure], Interval | None]:
    """The measures of these names, and the mean share of the way over those that are `counted`."""
    import numpy as np

    rows = {
        name: [style.measures(*pair) for pair in zip(own_texts, texts["teacher"], strict=True)]
        for name, own_texts in texts.items()
    }
    values = {
        (name, measure): np.array([row[measure] for row in rows[name]])
        for name in CONTESTANTS
        for measure in names
    }
    ways = {m: values["student", m] - values["base", m] for m in names}
    gaps = {m: values["teacher", m] - values["base", m] for m in names}
    differing = [measure for measure in names if measure in _clear(gaps, seed)]
    measures = [
        Measure(
            name=measure,
            base=float(values["base", measure].mean()),
            student=float(values["student", measure].mean()),
            teacher=float(values["teacher", measure].mean()),
            toward=bootstrap([ways[measure], gaps[measure]], _share, seed, (AWAY, PAST))
            if measure in differing
            else None,
        )
        for measure in names
    ]
    columns = [part[m] for m in differing if m in counted_measures for part in (ways, gaps)]
    return measures, bootstrap(columns, _mean_share, seed, (AWAY, 1.0)) if columns else None


def _clear(gaps: Mapping[str, Any], seed: int) -> set[str]:
    """The measures in which teacher and base differ clearly."""
    p_values = [signed_rank_p_value(gap) for gap in gaps.values()]
    candidates = zip(gaps.items(), holm(p_values), strict=True)
    intervals = {
        m: bootstrap([gap], mean, seed) for (m, gap), p_value in candidates if p_value < 0.05
    }
    return {measure for measure, gap in intervals.items() if gap.low > 0 or gap.high < 0}


def _change(
    metric: str,
    student: Mapping[str, Answer],
    base: Mapping[str, Answer],
    group_of: Mapping[str, str] | None,
) -> _Change | None:
    pairs = {
        item_id: (new, old)
        for item_id in sorted(set(student) & set(base))
        if (new := student[item_id].grades.get(metric)) is not None
        and (old := base[item_id].grades.get(metric)) is not None
    }
    if not pairs:
        return None
    gaps = [new - old for new, old in pairs.values()]
    groups = [(group_of or {}).get(item_id, item_id) for item_id in pairs]
    return _Change(
        metric=metric,
        interval=bounded_interval(gaps, CHANGE, groups),
        p_value=permutation_p_value(gaps, groups),
        n=len(pairs),
        is_grouped=is_grouped(groups),
        binary=all(grade in (0.0, 1.0) for pair in pairs.values() for grade in pair),
    )


def _outcome(task: _Change | None, facts: _Change | None, moved: Interval | None) -> str:
    if task is None and facts is None:
        return "no clear change"
    form, content = task.direction if task else 0, facts.direction if facts else 0
    if min(form, content) < 0 and max(form, content) <= 0:
        return "got worse"
    if content > 0:
        return "learned facts"
    if form > 0:
        return "learned the task"
    return "learned style only" if moved and moved.low > 0 else "no clear change"


def _sentence(
    outcome: str,
    task: _Change | None,
    facts: _Change | None,
    moved: Interval | None,
    measures: Sequence[Measure],
    a_choice: bool,
) -> str:
    if task is None and facts is None:
        return f"No item was graded for both student and base: only style is known, {_way(moved)}."
    graded = "; ".join(dict.fromkeys(str(change) for change in (task, facts) if change))
    if outcome == "got worse":
        return f"The student got worse: {graded}."
    if outcome == "learned facts":
        note = "; form and content are graded together here, so they cannot be separated"
        claim = f"The student gives the right answer more often than the base: {graded}"
        return f"{claim}{note if a_choice else _length_note(measures)}."
    if outcome == "learned style only":
        claim = f"The student sounds more like its teacher, {_way(moved)}"
        return f"{claim}, but its answers are not clearly better: {graded}."
    if outcome == "no clear change":
        return f"Nothing changed clearly: {graded}; {_way(moved)}."
    claim = f"The student answers in the form that is graded as right: {task}"
    if facts is None:
        return f"{claim}; whether more of its answers are right than the base's was not graded."
    if facts.direction < 0:
        return f"{claim}; but fewer of its answers are right: {facts}."
    return f"{claim}; but there is no sign that more of its answers are right than the base's: {facts}."


def _way(moved: Interval | None) -> str:
    if moved is None:
        return "share of the way in style not given, since base and teacher do not differ clearly in it"
    return f"{points(moved.value)} % of the way in style ({span(moved)})"


def _length_note(measures: Sequence[Measure]) -> str:
    """A caveat where longer answers alone may explain the gain."""
    words = next(measure for measure in measures if measure.name == "words")
    if words.student <= LONGER * words.base:
        return ""
    return (
        f"; its answers are longer too ({words.base:.0f} words before, {words.student:.0f} now), "
        "and a longer answer is more likely to contain the reference"
    )


def _share(way: Any, gap: Any, axis: int = -1) -> Any:
    """The share of the way; 0 where a resample has no gap, which is no evidence of a way gone."""
    import numpy as np

    way, gap = np.asarray(way.mean(axis=axis)), np.asarray(gap.mean(axis=axis))
    share = np.divide(way, gap, out=np.zeros(gap.shape), where=np.abs(gap) > 1e-12)
    return np.clip(share, AWAY, PAST)


def _mean_share(*columns: Any, axis: int = -1) -> Any:
    """Of ways and gaps by turns."""
    import numpy as np

    pairs = zip(columns[::2], columns[1::2], strict=True)
    return np.mean([np.minimum(_share(way, gap, axis), 1.0) for way, gap in pairs], axis=0)
