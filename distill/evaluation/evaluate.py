"""Compute every finding of the report from recorded answers; makes no model calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distill.evaluation.breakdown import breakdown
from distill.evaluation.calibration import Calibration, calibration
from distill.evaluation.compare import adjusted, compare
from distill.evaluation.comparison import Comparison, ItemText, speaker_of
from distill.evaluation.economics import BreakEven, Economy, break_even, economy
from distill.evaluation.findings import ClassLine, Evaluation, Explored, SameAnswer
from distill.evaluation.nearest_rows import StillWrong, still_wrong
from distill.evaluation.robustness import Robustness, robustness
from distill.evaluation.ship_gate import check_ship
from distill.evaluation.statistics import bootstrap, mean
from distill.evaluation.style_facts import StyleFacts, style_facts
from quality.tasks.benchmark import Benchmark, Item
from quality.tasks.graders import class_figures, macro_f1
from quality.tasks.perturbations import INJECTED
from quality.text.normalize import normalise_answer
from warehouse.records import Answer, Sample, Score


@dataclass(frozen=True)
class BenchmarkAnswers:
    """One benchmark, and all that was said to its items."""

    benchmark: Benchmark
    role: str
    """task | off_task."""
    items: Sequence[Item]
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Perturbed:
    """The answers of one contestant to a benchmark's items in one disturbed form."""

    benchmark: str
    perturbation: str
    contestant: str
    answers: Sequence[Answer]
    origin: Mapping[str, str]
    """Disturbed item -> the item that it was."""


@dataclass(frozen=True)
class TrainingProvenance:
    """What the student was made of, and what that took; all empty where none is judged."""

    kept: Sequence[Sample] = ()
    scores: Sequence[Score] = ()
    costs: Mapping[str, float | None] = field(default_factory=dict)
    """Sample -> USD."""
    scoring_usd: float | None = 0.0
    """What the replies cost that scored them: judging, and asking again; None where a price is
    not known."""
    training_hours: float = 0.0
    """Of this machine: training, and the teacher's time where it runs here."""

    @property
    def data_usd(self) -> float | None:
        """What the replies cost that its rows were made and chosen by; None where a price is not
        known."""
        spent = [*self.costs.values(), self.scoring_usd]
        known = [cost for cost in spent if cost is not None]
        return sum(known) if len(known) == len(spent) else None


@dataclass(frozen=True)
class Rules:
    """What of a plan decides how answers are read."""

    contestants: Sequence[str]
    usd_per_hour: float | None = None
    at_once: Mapping[str, int] = field(default_factory=dict)
    """Contestants behind a server on this machine -> requests that it answers at the same time."""
    ship: Sequence[str] = ()
    certain: bool = False


def evaluation_of(
    judged: Sequence[BenchmarkAnswers],
    rules: Rules,
    made: TrainingProvenance | None = None,
    disturbed: Sequence[Perturbed] = (),
) -> Evaluation:
    """Everything that these answers tell."""
    made = made or TrainingProvenance()
    comparisons = adjusted([compared(one, rules.contestants) for one in judged])
    pairs = list(zip(judged, comparisons, strict=True))
    task = [(one, found) for one, found in pairs if one.role == "task"]
    economics = [
        line
        for one, found in task
        for line in economy(found.benchmark, found, one.answers, rules.usd_per_hour, rules.at_once)
    ]
    evaluation = Evaluation(
        comparisons=comparisons,
        explored=[line for one, found in pairs for line in _explored(one, found)],
        groups={found.benchmark: _groups(one, found) for one, found in pairs},
        classes=[line for one, found in pairs for line in _classes(one, found)],
        style=_style(task),
        economics=economics,
        break_even=_break_even(economics, made, rules),
        agreement=[line for one, found in task for line in _agreement(one, found)],
        robustness=_robustness(judged, disturbed),
        calibration=[line for one, found in task for line in _calibration(one, found)],
        still_wrong=[line for one, found in task for line in _still_wrong(one, found, made)],
    )
    if not rules.ship:
        return evaluation
    verdict = check_ship(rules.ship, evaluation, rules.certain)
    return Evaluation(**{**vars(evaluation), "ship": verdict})


def compared(one: BenchmarkAnswers, contestants: Sequence[str]) -> Comparison:
    """The contestants on one benchmark."""
    found = compare(
        one.benchmark.label,
        one.answers,
        texts_of(one.items),
        headline=one.benchmark.metrics[0],
        contestants=contestants,
        role=one.role,
        higher_is_better=one.benchmark.higher_is_better,
    )
    return replace(found, notes=[*found.notes, *_of_rows(one.benchmark)])


def _of_rows(benchmark: Benchmark) -> list[str]:
    """What a reader must know of a benchmark's rows, whoever answers."""
    notes = [benchmark.note] if benchmark.note else []
    if benchmark.repeated:
        rows = "row repeats" if benchmark.repeated == 1 else "rows repeat"
        notes.append(f"{benchmark.repeated} {rows} an earlier one and count once")
    return notes


def texts_of(items: Sequence[Item]) -> list[ItemText]:
    """What a reader needs to judge the answers."""
    return [
        ItemText(item.item_id, item.row.prompt, item.row.passage, item.row.reference, item.category)
        for item in items
    ]


def _said(answers: Sequence[Answer], name: str) -> dict[str, Answer]:
    return {answer.item_id: answer for answer in answers if answer.contestant == name}


def _explored(one: BenchmarkAnswers, found: Comparison) -> list[Explored]:
    said: dict[str, list[Answer]] = {}
    for answer in one.answers:
        said.setdefault(answer.item_id, []).append(answer)
    order = {standing.contestant: n for n, standing in enumerate(found.standings)}
    made = []
    for item in texts_of(one.items):
        given = sorted(said.get(item.item_id, []), key=lambda a: order.get(a.contestant, 0))
        made.append(
            Explored(
                benchmark=found.benchmark,
                item_id=item.item_id,
                question=item.question,
                passage=item.passage,
                reference=item.reference,
                category=item.category,
                said={answer.contestant: answer.text for answer in given},
                grades={answer.contestant: answer.grades.get(found.headline) for answer in given},
            )
        )
    return made


def _groups(one: BenchmarkAnswers, found: Comparison) -> list[Any]:
    sure = {
        item_id: float(answer.details["confidence"])
        for item_id, answer in _said(one.answers, "teacher").items()
        if answer.details and "confidence" in answer.details
    }
    return breakdown(one.answers, texts_of(one.items), found.headline, sure)


def _style(task: Sequence[tuple[BenchmarkAnswers, Comparison]]) -> list[StyleFacts]:
    """Style beside facts on each benchmark of the task.

    Where right answers in any form are graded by a metric of their own, its p-values are
    adjusted for the number of benchmarks, as the headline's are.
    """
    fit = [
        (one, found, one.benchmark.content)
        for one, found in task
        if one.benchmark.content is not None and found.higher_is_better
    ]
    apart = {
        found.benchmark: compare(
            found.benchmark,
            [a for a in one.answers if a.contestant in ("student", "base")],
            texts_of(one.items),
            content,
            pairs=[("student", "base")],
        )
        for one, found, content in fit
        if content != found.headline
    }
    by_content = {one.benchmark: one for one in adjusted(list(apart.values()))}
    lines = []
    for one, found, content in fit:
        pairs = [
            each.difference("student", "base") if each else None
            for each in (found, by_content.get(found.benchmark))
        ]
        p_headline, p_content = (pair.p_adjusted if pair else None for pair in pairs)
        lines.append(
            style_facts(
                found.benchmark,
                one.answers,
                found.headline,
                content,
                p_headline=p_headline,
                p_content=p_content,
            )
        )
    return [line for line in lines if line]


def _classes(one: BenchmarkAnswers, found: Comparison) -> list[ClassLine]:
    """Precision, recall and F1 of each class and contestant, then their mean."""
    if not getattr(one.benchmark, "classes", None):
        return []
    made = []
    for standing in found.standings:
        details = [a.details or {} for a in _said(one.answers, standing.contestant).values()]
        figures = class_figures([(one["said"], one["right"]) for one in details if "right" in one])
        name, n = standing.contestant, sum(each.n for each in figures.values())
        made += [
            ClassLine(found.benchmark, name, label, each.n, each.precision, each.recall, each.f1)
            for label, each in figures.items()
        ]
        if figures:
            macro = macro_f1(figures)
            made.append(ClassLine(found.benchmark, name, "macro", n, None, None, macro))
    return made


def _agreement(one: BenchmarkAnswers, found: Comparison) -> list[SameAnswer]:
    """Share of items to which a contestant says what the teacher says, after normalisation; where
    nothing could be read from either answer there is nothing to agree on."""
    teacher = _said(one.answers, "teacher")
    made = []
    for standing in found.standings:
        other = _said(one.answers, standing.contestant)
        pairs = [
            (_told(one, teacher[item]), _told(one, other[item]))
            for item in sorted(teacher.keys() & other.keys())
        ]
        same = [float(ours == theirs) for ours, theirs in pairs if {ours, theirs} - {None, ""}]
        if standing.contestant == "teacher" or not same:
            continue
        made.append(
            SameAnswer(found.benchmark, standing.contestant, len(same), bootstrap([same], mean))
        )
    return made


def _told(one: BenchmarkAnswers, answer: Answer) -> Any:
    """What an answer comes to: the choice that was read from it, or its words."""
    details = answer.details or {}
    return (
        details["said"] if "said" in details else normalise_answer(one.benchmark.read(answer.text))
    )


def _calibration(one: BenchmarkAnswers, found: Comparison) -> list[Calibration]:
    if not found.higher_is_better:
        return []
    made = (
        calibration(
            found.benchmark,
            standing.contestant,
            list(_said(one.answers, standing.contestant).values()),
            found.headline,
        )
        for standing in found.standings
    )
    return [line for line in made if line]


def _still_wrong(
    one: BenchmarkAnswers, found: Comparison, made: TrainingProvenance
) -> list[StillWrong]:
    answers = list(_said(one.answers, "student").values())
    if not answers or not made.kept or not found.higher_is_better:
        return []
    return still_wrong(
        found.benchmark,
        answers,
        texts_of(one.items),
        found.headline,
        made.kept,
        made.scores,
        made.costs,
    )


def _break_even(
    economics: Sequence[Economy], made: TrainingProvenance, rules: Rules
) -> list[BreakEven]:
    """The student against everyone who is not made of it, on the first benchmark of the task."""
    first = [line for line in economics if line.benchmark == economics[0].benchmark]
    student = next((line for line in first if line.contestant == "student"), None)
    if student is None:
        return []
    return [
        break_even(student, other, made.data_usd, made.training_hours, rules.usd_per_hour)
        for other in first
        if speaker_of(other.contestant) != "student"
    ]


def _robustness(
    judged: Sequence[BenchmarkAnswers], disturbed: Sequence[Perturbed]
) -> list[Robustness]:
    by_label = {one.benchmark.label: one for one in judged}
    made = []
    for form in disturbed:
        one = by_label[form.benchmark]
        found = robustness(
            form.benchmark,
            form.perturbation,
            form.contestant,
            list(_said(one.answers, form.contestant).values()),
            form.answers,
            one.benchmark.metrics[0],
            form.origin,
            injected=INJECTED if form.perturbation == "injection" else None,
        )
        if found:
            made.append(found)
    return made
