"""Separate what a student learned of the teacher's facts from what it learned of its style.

After The False Promise of Imitating Proprietary LLMs (Gudibande et al., 2023, section 4): a
student of imitation comes to write like its teacher (lists, length, tone, the same words)
while it knows no more than before. So change in style and change in facts are taken apart, on
the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from distill.evaluation.answer_fit import NEARLY_ALL, measure_fit, measure_sameness
from distill.evaluation.change import MetricChange, measure_change
from distill.evaluation.comparison import ANSWERED, ItemText, answers_by_contestant
from distill.evaluation.statistics import MIN_ITEMS, Interval
from distill.evaluation.style_share import CONTESTANTS, Measure, style_shares
from distill.evaluation.verdict import metric_name, points, span
from quality.text import style
from quality.text.languages import foreign
from warehouse.records import Answer

LONGER = 1.5
"""Ratio of lengths from which longer answers may contain a reference by chance."""
BOTH_NAME = "where both name an option"
"""How the change on items is called whose answers name a choice or class on both sides."""
ALIKE = "base and teacher do not differ clearly in it"


@dataclass(frozen=True)
class StyleFacts:
    """Change in style beside change in facts, on one benchmark."""

    benchmark: str
    measures: list[Measure]
    style: Interval | None
    """Mean share of the distance from the base's style to the teacher's that the student covered, at
    most 1; below 0 it moved away."""
    facts: Interval | None
    """Student minus base in the content metric (containment or accuracy), in 0..1 units."""
    task: Interval | None
    """Student minus base in the headline metric."""
    outcome: str
    """collapsed | answers do not fit their questions | got worse | learned facts |
    reads passages better | learned the task | learned style only | no clear change."""
    sentence: str
    no_style: str = ""
    """Why `style` is None."""

    @property
    def badge(self) -> str:
        """How the outcome is coloured: good | mixed | bad, or empty for no clear change.

        Never good where the content metric fell.
        """
        if self.outcome in ("learned facts", "reads passages better", "learned the task"):
            return "mixed" if self.facts and self.facts.value < 0 else "good"
        return {"learned style only": "mixed", "no clear change": ""}.get(self.outcome, "bad")

    @property
    def combined(self) -> str:
        """How the measures' shares became one, in plain words; empty where there is none."""
        shared = [measure for measure in self.measures if measure.share]
        names = [metric_name(measure.name) for measure in shared if measure.counted]
        if self.style is None or not names:
            return ""
        how = f"the plain average of those of {', '.join(names[:-1])} and {names[-1]}: each counts the same"
        if len(names) == 1:
            how = f"that of {names[0]} alone"
        sentences = [f"The share of style as a whole, {points(self.style.value)} %, is {how}."]
        if len(shared) < len(self.measures):
            sentences.append(
                "Measures in which base and teacher do not differ clearly have no share and do not count."
            )
        if len(names) < len(shared):
            sentences.append(
                "Overlap does not count for a choice: to share the teacher's words is to share its answer."
            )
        return " ".join(sentences)


def measure_style_and_facts(
    benchmark: str,
    answers: Sequence[Answer],
    headline: str,
    content: str,
    seed: int = 0,
    p_headline: float | None = None,
    p_content: float | None = None,
    group_of: Mapping[str, str] | None = None,
    items: Sequence[ItemText] = (),
    passage_shown: bool = False,
    over_seeds: Mapping[str, MetricChange] | None = None,
) -> StyleFacts | None:
    """Compare the student's change in style with its change in facts.

    Style is measured (`style_share.style_shares`) on the items that base, student and teacher all
    answered, hedges and authority where the teacher answers in English. Where `headline` is
    `content` an answer is a choice, and to share the teacher's words is to share its answer:
    overlap is shown then, but does not count as style. No share of style is given for answers
    that answer nothing (the first two outcomes), nor where it cannot be shown that they do.

    Facts and task are the student minus the base on all items graded for both, as in
    `compare.compare`; they are clear where there are ten items or more, the 95 % interval leaves
    out zero and the test gives p < 0.05 (after Holm, where that is given). Of choices and classes,
    facts are those of the items where both sides name one, if some answers name none. Outcomes,
    the first that holds:

    - collapsed: nearly all answers are empty or the same, where the teacher's are not
      (`answer_fit.measure_sameness`);
    - answers do not fit their questions: they fit other items as well
      (`answer_fit.measure_fit`);
    - got worse: one of the two falls clearly and none rises clearly;
    - learned facts: content rises clearly; where a passage is shown, in which the answer can be
      read, the outcome is "reads passages better";
    - learned the task: the headline rises clearly;
    - learned style only: style came nearer to the teacher's, by its interval, on ten items or more;
    - no clear change.

    The first two are not said of a student that answers nearly all items in the base's words.

    Args:
        benchmark: Its name.
        answers: To this benchmark; the order does not matter, nor an answer given twice.
        headline: The metric that asks for right answers in the right form.
        content: The metric that asks for right answers in any form. In both, more is better.
        seed: Of the bootstrap and the permutations.
        p_headline: Student against base by the headline, where it was adjusted for several
            benchmarks; so that the outcome says what the verdict says.
        p_content: The same of the content metric, where it is another one than the headline.
        group_of: Item -> its passage, where several items are of one.
        items: Questions, passages and references; without them, answers are only compared with
            the teacher's.
        over_seeds: Metric -> its change over several training seeds, which stands for that of the
            student's answers here; style is of these alone.
        passage_shown: Whether the contestants see a passage beside the question of some item.

    Returns:
        None where base, student and teacher have fewer than two items in common.
    """
    answers_by: dict[str, dict[str, Answer]] = {
        name: {} for name in CONTESTANTS
    } | answers_by_contestant(answers)
    common = sorted(set.intersection(*(set(answers_by[name]) for name in CONTESTANTS)))
    if len(common) < 2:
        return None
    shared = {name: [answers_by[name][item_id] for item_id in common] for name in CONTESTANTS}
    texts = {name: [answer.text for answer in shared[name]] for name in CONTESTANTS}
    english = foreign("\n".join(texts["teacher"]), ["en"]) is None
    names = [name for name in style.MEASURES if english or name not in style.ENGLISH_MEASURES]
    counted_measures = [name for name in names if name != "overlap" or headline != content]
    measures, moved = style_shares(texts, names, counted_measures, seed)
    nothing = _answers_nothing(shared, items, seed)
    no_style = nothing.why if nothing else "" if moved else ALIKE
    if nothing:
        measures, moved = [replace(measure, share=None) for measure in measures], None
    over_seeds = over_seeds or {}
    task = over_seeds.get(headline) or measure_change(
        headline, answers_by["student"], answers_by["base"], group_of
    )
    if task and p_headline is not None:
        task = replace(task, p_value=p_headline, adjusted=True)
    facts = task
    unread = content == headline and _some_unread(answers_by)
    if content != headline:
        facts = over_seeds.get(content) or measure_change(
            content, answers_by["student"], answers_by["base"], group_of
        )
    elif unread:
        facts = _change_where_both_name_an_option(headline, answers_by, group_of)
    if facts and content != headline and p_content is not None:
        facts = replace(facts, p_value=p_content, adjusted=True)
    outcome = outcome_of(task, facts, moved if len(common) >= MIN_ITEMS else None, passage_shown)
    if nothing and nothing.outcome:
        outcome = nothing.outcome
    way = _way(moved, no_style)
    faulty = no_style if nothing and nothing.outcome else ""
    return StyleFacts(
        benchmark=benchmark,
        measures=measures,
        style=moved,
        facts=facts.interval if facts else None,
        task=task.interval if task else None,
        outcome=outcome,
        sentence=_sentence(
            outcome, task, facts, way, faulty, measures, headline == content and not unread
        ),
        no_style=no_style,
    )


def _some_unread(answers_by: Mapping[str, Mapping[str, Answer]]) -> bool:
    """Whether base or student gave an answer that names no choice or class."""
    return any(
        answer.grades.get(ANSWERED) == 0.0
        for name in ("base", "student")
        for answer in answers_by[name].values()
    )


def _change_where_both_name_an_option(
    metric: str,
    answers_by: Mapping[str, Mapping[str, Answer]],
    group_of: Mapping[str, str] | None,
) -> MetricChange | None:
    """The change on items where form cannot be what differs: both sides name a choice or class."""
    student, base = (
        {item_id: a for item_id, a in answers_by[name].items() if a.grades.get(ANSWERED) == 1.0}
        for name in ("student", "base")
    )
    change = measure_change(metric, student, base, group_of)
    return replace(change, metric=f"{metric} {BOTH_NAME}") if change else None


@dataclass(frozen=True)
class _AnswersNothing:
    """Why no share of style is given, and the outcome where it is shown rather than feared."""

    why: str
    outcome: str | None = None


def _answers_nothing(
    shared: Mapping[str, Sequence[Answer]], items: Sequence[ItemText], seed: int
) -> _AnswersNothing | None:
    student, base, teacher = shared["student"], shared["base"], shared["teacher"]
    same = sum(
        style.words_of(new.text) == style.words_of(old.text)
        for new, old in zip(student, base, strict=True)
    )
    if same >= NEARLY_ALL * len(student):
        return None
    by_id = {item.item_id: item for item in items}
    texts = [by_id[answer.item_id] for answer in student if answer.item_id in by_id]
    texts = texts if len(texts) == len(student) else []
    sameness = measure_sameness(student, teacher, texts)
    if sameness.collapsed:
        return _AnswersNothing(f"the student's answers collapsed: {sameness}", "collapsed")
    fit = measure_fit(student, teacher, texts, seed)
    if fit.is_missing:
        why = f"the student's answers fit other items as well as their own: {fit}"
        return _AnswersNothing(why, "answers do not fit their questions")
    if fit.is_known and not fit.is_clear:
        return _AnswersNothing(
            f"it is not clear that the student's answers fit their questions: {fit}"
        )
    return None


def outcome_of(
    task: MetricChange | None,
    facts: MetricChange | None,
    moved: Interval | None,
    passage_shown: bool,
) -> str:
    """The outcome of a student whose answers are answers, as `measure_style_and_facts` has it."""
    form, content = task.direction if task else 0, facts.direction if facts else 0
    if min(form, content) < 0 and max(form, content) <= 0:
        return "got worse"
    if content > 0:
        return "reads passages better" if passage_shown else "learned facts"
    if form > 0:
        return "learned the task"
    graded = task is not None or facts is not None
    return "learned style only" if graded and moved and moved.low > 0 else "no clear change"


def _sentence(
    outcome: str,
    task: MetricChange | None,
    facts: MetricChange | None,
    way: str,
    faulty: str,
    measures: Sequence[Measure],
    a_choice: bool,
) -> str:
    changes = dict.fromkeys(str(change) for change in (task, facts) if change)
    graded = "; ".join(changes) or "no item was graded for both student and base"
    if faulty:
        return f"{faulty[0].upper()}{faulty[1:]}; {graded}."
    if task is None and facts is None:
        return f"No item was graded for both student and base: only style is known, {way}."
    if outcome == "got worse":
        return f"The student got worse: {graded}."
    if outcome in ("learned facts", "reads passages better"):
        claim = "The student gives the right answer more often than the base"
        note = "; form and content are graded together here, so they cannot be separated"
        note = note if a_choice else _length_note(measures)
        if outcome == "reads passages better":
            claim = f"Shown a passage, t{claim[1:]}"
            note += "; that it reads, and not that it learned facts, is what this shows"
        return f"{claim}: {graded}{note}."
    if outcome == "learned style only":
        claim = f"The student sounds more like its teacher, {way}"
        return f"{claim}, but its answers are not clearly better: {graded}."
    if outcome == "no clear change":
        return f"Nothing changed clearly: {graded}; {way}."
    claim = f"The student answers in the form that is graded as right: {task}"
    if facts is None:
        return f"{claim}; whether more of its answers are right than the base's was not graded."
    if facts.direction < 0:
        return f"{claim}; but fewer of its answers are right: {facts}."
    return f"{claim}; but these items do not show that more of its answers are right than the base's: {facts}."


def _way(moved: Interval | None, no_style: str) -> str:
    if moved is None:
        return f"no share of style is given, since {no_style}"
    share = f"{points(moved.value)} % of the distance to the teacher's style is covered"
    away = "" if moved.high >= 0 else ", so it moved away"
    return f"{share} ({span(moved)}){away}"


def _length_note(measures: Sequence[Measure]) -> str:
    """A caveat where longer answers alone may explain the gain."""
    words = next(measure for measure in measures if measure.name == "words")
    if words.student <= LONGER * words.base:
        return ""
    return (
        f"; its answers are longer too ({words.base:.0f} words before, {words.student:.0f} now), "
        "and a longer answer is more likely to contain the reference"
    )
