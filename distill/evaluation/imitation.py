"""Contrast what broad and task-specific imitation taught, over several training seeds.

After The False Promise of Imitating Proprietary LLMs (Gudibande et al., 2023): section 3 has the two
kinds of data, section 4 what comes of each. Here the students of both kinds learn from as many
supervised tokens of the same teacher, through the same gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from distill.evaluation import over_seeds
from distill.evaluation.change import MetricChange
from distill.evaluation.compare import compare
from distill.evaluation.comparison import ANSWERED, Comparison
from distill.evaluation.inputs import BenchmarkAnswers
from distill.evaluation.over_seeds import Fits, common_grades, score
from distill.evaluation.statistics import LEVEL, MIN_ITEMS, Interval, holm
from distill.evaluation.style_facts import StyleFacts, measure_style_and_facts, outcome_of
from distill.evaluation.verdict import metric_name, points, span
from warehouse.records import Answer
from warehouse.wording import format_count

NONE, BROAD, TASK = "no imitation", "broad imitation", "task imitation"
"""The students of an imitation study: the untuned base, and two kinds that were trained."""
_TEST = "hierarchical bootstrap"
_TAUGHT = {
    "learned facts": "makes more of the answers right",
    "reads passages better": "makes more of the answers right that stand in a passage",
    "learned the task": "teaches the form that is asked for, and it is not shown that more answers are right",
    "learned style only": "teaches the teacher's style, and it is not shown that more answers are right",
    "no clear change": "changes nothing clearly",
    "got worse": "makes the answers worse",
    "collapsed": "breaks the answers: nearly all are empty or the same",
    "answers do not fit their questions": "breaks the answers: they do not fit their questions",
}
"""Outcome -> what a kind of data does, in plain words."""


@dataclass(frozen=True)
class Arm:
    """The students of one kind of data, one for each training seed, against the untuned base."""

    name: str
    fits: list[str]
    """Their names as contestants."""
    score: Interval | None
    """Mean of the headline, over seeds and items."""
    task: MetricChange | None
    """Change in the headline."""
    facts: MetricChange | None
    """Change in the content metric, or of choices and classes on the items where all name one; None
    where the headline is the content, or nothing was graded."""
    style: Interval | None
    """Mean share of the distance to the teacher's style covered, over seeds and items."""
    learned: dict[str, StyleFacts]
    """Student -> its style and facts, of one seed alone."""
    failed: str = ""
    """Why nothing is said: a student failed on too many items."""
    separate: bool = False
    """Whether content is graded apart from the headline, or would be: some answers, of its students
    or the base, name no choice or class."""
    outcome: str = ""
    """As `StyleFacts` has it; of all seeds together."""

    @property
    def outcomes(self) -> str:
        """The outcomes of the seeds, each alone, the commonest first."""
        counts = Counter(line.outcome for line in self.learned.values())
        return ", ".join(
            f"{outcome} ({n} of {counts.total()})" for outcome, n in counts.most_common()
        )


@dataclass(frozen=True)
class Contrast:
    """What each kind of imitation taught, on one benchmark."""

    comparison: Comparison
    """Of all students, each alone, with base and teacher."""
    arms: list[Arm]
    between: MetricChange | None
    """Task-specific minus broad imitation, in the headline."""
    between_facts: MetricChange | None = None
    """The same in content, as `Arm.facts` has it."""
    findings: list[str] = field(default_factory=list)
    """What each kind of data taught in plain words, then with numbers: the two kinds against each
    other, and each against the untuned base."""

    @property
    def sentence(self) -> str:
        """The findings in one."""
        return " ".join(self.findings)


def contrasts_of(
    boards: Sequence[BenchmarkAnswers], fits: Mapping[str, Sequence[str]]
) -> list[Contrast]:
    """Compare the two kinds of imitation with the untuned base and with each other.

    P-values are adjusted for the number of benchmarks (Holm), for each pair and metric apart.

    Args:
        boards: Answers of "teacher", of `NONE` and of all students.
        fits: The students of `BROAD` and `TASK`, by training seed.
    """
    contrasts = [_measure(board, fits) for board in boards]
    adjusted = _adjust([change for contrast in contrasts for change in _changes(contrast)])
    return [
        _conclude(_with(contrast, adjusted), any(item.passage for item in board.items))
        for contrast, board in zip(contrasts, boards, strict=True)
    ]


def _measure(board: BenchmarkAnswers, fits: Mapping[str, Sequence[str]]) -> Contrast:
    benchmark = board.benchmark
    headline = benchmark.metrics[0]
    content = benchmark.content if benchmark.higher_is_better else None
    comparison = compare(
        benchmark.label,
        board.answers,
        board.texts,
        headline,
        contestants=["teacher", NONE, *(name for names in fits.values() for name in names)],
        pairs=[("teacher", NONE)],
        higher_is_better=benchmark.higher_is_better,
    )
    arms = []
    for name, students in fits.items():
        arms.append(
            Arm(
                name=name,
                fits=list(students),
                score=_score(board, headline, students),
                task=_change(board, headline, students, [NONE], comparison),
                facts=_facts(board, students, [NONE], comparison),
                style=None,
                learned={} if content is None else _learned(board, students, headline, content),
                failed=_failed(comparison, students),
                separate=content != headline or _some_unread(_fits(board, [*students, NONE])),
            )
        )
    arms = [replace(arm, style=_style(list(arm.learned.values()), len(arm.fits))) for arm in arms]
    between = _change(board, headline, fits[TASK], fits[BROAD], comparison)
    between_facts = _facts(board, fits[TASK], fits[BROAD], comparison)
    return Contrast(comparison, arms, between, between_facts)


def _learned(
    board: BenchmarkAnswers, students: Sequence[str], headline: str, content: str
) -> dict[str, StyleFacts]:
    """Each student's style and facts, as a run's student is read."""
    shown = any(item.passage for item in board.items)
    lines = {}
    for name in students:
        roles = {"teacher": "teacher", NONE: "base", name: "student"}
        answers = [
            replace(answer, contestant=roles[answer.contestant])
            for answer in board.answers
            if answer.contestant in roles
        ]
        line = measure_style_and_facts(
            board.benchmark.label,
            answers,
            headline,
            content,
            group_of=board.group_of,
            items=board.texts,
            passage_shown=shown,
        )
        if line:
            lines[name] = line
    return lines


def _fits(board: BenchmarkAnswers, names: Sequence[str]) -> Fits:
    return [board.answers_of(name) for name in names]


def _some_unread(fits: Fits) -> bool:
    return any(answer.grades.get(ANSWERED) == 0.0 for fit in fits for answer in fit.values())


def _score(board: BenchmarkAnswers, metric: str, names: Sequence[str]) -> Interval | None:
    groups, (grades,) = common_grades(metric, board.group_of, _fits(board, names))
    return score(grades, groups) if groups else None


def _facts(
    board: BenchmarkAnswers, names: Sequence[str], against: Sequence[str], comparison: Comparison
) -> MetricChange | None:
    """The change in content, where it is another than that in the headline.

    Of choices and classes it is that of the items where all name one: elsewhere form may be what
    differs.
    """
    benchmark = board.benchmark
    headline = benchmark.metrics[0]
    content = benchmark.content if benchmark.higher_is_better else None
    if content is None:
        return None
    if content != headline:
        return _change(board, content, names, against, comparison)
    fits = _fits(board, [*names, *against])
    if not _some_unread(fits):
        return None
    items = {item.item_id for item in board.items}
    named = {item for item in items if all(_names_one(fit.get(item)) for fit in fits)}
    change = _change(board, headline, names, against, comparison, named)
    return replace(change, metric=f"{headline} where all name an option") if change else None


def _names_one(answer: Answer | None) -> bool:
    return answer is not None and answer.grades.get(ANSWERED) == 1.0


def _change(
    board: BenchmarkAnswers,
    metric: str,
    names: Sequence[str],
    against: Sequence[str],
    comparison: Comparison,
    items: Collection[str] | None = None,
) -> MetricChange | None:
    """One kind of students minus another, on the items graded for all of both.

    `items`: only these count; left out, all do.
    """
    if _failed(comparison, [*names, *against]):
        return None
    left, right = (
        [
            {item: answer for item, answer in fit.items() if items is None or item in items}
            for fit in _fits(board, side)
        ]
        for side in (names, against)
    )
    groups, (new, old) = common_grades(metric, board.group_of, left, right)
    if not groups:
        return None
    interval = over_seeds.difference(new, old, groups)
    p_value = over_seeds.p_value(new, old, groups)
    return MetricChange(metric, interval, p_value, len(groups), test=_TEST)


def _failed(comparison: Comparison, names: Sequence[str]) -> str:
    for name in names:
        standing = comparison.standing(name)
        if standing is None:
            return f"{name} gave no answer"
        if not standing.answered_most:
            of = format_count(standing.n, "item")
            return f"{name} failed on {standing.failed} of {of}, too many to say what it learned"
    return ""


def _style(lines: Sequence[StyleFacts], fits: int) -> Interval | None:
    """Mean share of style; None where one of the students has none.

    The interval's arms are those of the seeds on average, with the error of the mean over seeds
    (Student's t) added in squares: the seeds share their items, so what items vary does not average out.
    """
    from scipy import special

    shares = [line.style for line in lines if line.style]
    if not shares or len(shares) < fits:
        return None
    values = [share.value for share in shares]
    value = sum(values) / fits
    error = 0.0
    if fits > 1:
        variance = sum((one - value) ** 2 for one in values) / (fits - 1)
        error = float(special.stdtrit(fits - 1, 0.5 + LEVEL / 2)) * (variance / fits) ** 0.5
    below, above = (
        sum(abs(getattr(share, end) - share.value) for share in shares) / fits
        for end in ("low", "high")
    )
    return Interval(
        value,
        value - (below**2 + error**2) ** 0.5,
        max(value, min(1.0, value + (above**2 + error**2) ** 0.5)),  # a share is at most 1
    )


def _changes(contrast: Contrast) -> list[tuple[str, str, MetricChange]]:
    """Changes by what they are of, to be adjusted together: (benchmark, kind, change)."""
    kinds: list[tuple[str, MetricChange | None]] = [
        ("between", contrast.between),
        ("between facts", contrast.between_facts),
    ]
    for arm in contrast.arms:
        kinds += [(f"{arm.name} task", arm.task), (f"{arm.name} facts", arm.facts)]
    return [(contrast.comparison.benchmark, kind, change) for kind, change in kinds if change]


def _adjust(
    changes: Sequence[tuple[str, str, MetricChange]],
) -> dict[tuple[str, str], MetricChange]:
    adjusted = {}
    for kind in {kind for _, kind, _ in changes}:
        own = [(benchmark, change) for benchmark, other, change in changes if other == kind]
        p_values = holm([change.p_value for _, change in own])
        for (benchmark, change), p_value in zip(own, p_values, strict=True):
            several = len(own) > 1
            adjusted[benchmark, kind] = replace(change, p_value=p_value, adjusted=several)
    return adjusted


def _with(contrast: Contrast, adjusted: Mapping[tuple[str, str], MetricChange]) -> Contrast:
    of = contrast.comparison.benchmark
    arms = [
        replace(
            arm,
            task=adjusted.get((of, f"{arm.name} task")),
            facts=adjusted.get((of, f"{arm.name} facts")),
        )
        for arm in contrast.arms
    ]
    return replace(
        contrast,
        arms=arms,
        between=adjusted.get((of, "between")),
        between_facts=adjusted.get((of, "between facts")),
    )


def _conclude(contrast: Contrast, passage_shown: bool) -> Contrast:
    arms = [replace(arm, outcome=_outcome(arm, passage_shown)) for arm in contrast.arms]
    findings = [_plainly(arms), _against_each_other(contrast), *map(_against_base, arms)]
    return replace(contrast, arms=arms, findings=[line for line in findings if line])


def _plainly(arms: Sequence[Arm]) -> str:
    """What each kind of data taught, in a sentence; empty where nothing is known of any."""
    parts = [f"{arm.name} {_TAUGHT[arm.outcome]}" for arm in arms if arm.outcome]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if parts else ""


def _against_each_other(contrast: Contrast) -> str:
    """What the plan's own data gives beyond as many tokens of broad data; empty where unknown."""
    headline, content = contrast.between, contrast.between_facts
    if headline is None:
        return ""
    text = "; ".join(_gap(change) for change in (headline, content) if change)
    if headline.direction and content is None and any(arm.separate for arm in contrast.arms):
        text += "; how much of that is form and how much content is unknown"
    return f"{text[0].upper()}{text[1:]}."


def _gap(change: MetricChange) -> str:
    metric, size = metric_name(change.metric), points(abs(change.interval.value))
    if change.direction:
        side = "above" if change.direction > 0 else "below"
        return f"task imitation is {size} points {side} broad imitation in {metric} ({change.evidence})"
    size = points(change.interval.value)
    return f"no difference between task and broad imitation is clear in {metric} ({size} points, {change.evidence})"


def _against_base(arm: Arm) -> str:
    name = arm.name.capitalize()
    seeds = format_count(len(arm.fits), "seed")
    if arm.failed:
        return f"{name}: {arm.failed}."
    outcome = f": {arm.outcome}" if arm.outcome else ""
    return f"{name} against the untuned base, {seeds}{outcome}. {_summary(arm)}."


def _outcome(arm: Arm, passage_shown: bool) -> str:
    """The outcome of the seeds together; of answers that answer nothing where most seeds give them."""
    if not arm.learned or arm.failed:
        return ""
    broken = Counter(
        line.outcome
        for line in arm.learned.values()
        if line.outcome in ("collapsed", "answers do not fit their questions")
    )
    for outcome, number in broken.most_common(1):
        if 2 * number > len(arm.learned):
            return outcome
    n = next((change.n for change in (arm.task, arm.facts) if change), 0)  # not only of the named
    style = arm.style if n >= MIN_ITEMS else None
    facts = arm.facts or (None if arm.separate else arm.task)
    return outcome_of(arm.task, facts, style, passage_shown)


def _summary(arm: Arm) -> str:
    changes = [str(change) for change in (arm.task, arm.facts) if change]
    if not changes:
        return "No item was graded for all its students and the base"
    if arm.separate and arm.facts is None and arm.learned:
        changes.append(
            "base and all students name an option on no item, so form and content cannot be separated"
        )
    parts = ["; ".join(changes)]
    if arm.style:
        share = f"{points(arm.style.value)} % of the distance to the teacher's style"
        parts.append(f"{share} is covered ({span(arm.style)})")
    elif arm.learned:
        reasons = Counter(line.no_style for line in arm.learned.values() if line.no_style)
        parts += [f"no share of style is given: {why} ({n} of {len(arm.learned)} seeds)"
                  for why, n in reasons.most_common(1)]  # fmt: skip
    return ". ".join(f"{part[0].upper()}{part[1:]}" for part in parts)
