"""Compute every finding of the report from recorded answers; makes no model calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from distill.contestants.contestant import is_control
from distill.evaluation.breakdown import break_down_scores
from distill.evaluation.calibration import Calibration, measure_calibration
from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.comparison import Comparison
from distill.evaluation.economics import (
    CostTotal,
    Economy,
    find_break_evens,
    price_answers,
    student_line,
    total_cost,
)
from distill.evaluation.findings import ClassLine, Evaluation, Explored, SameAnswer
from distill.evaluation.inputs import BenchmarkAnswers, Perturbed, Rules, TrainingProvenance
from distill.evaluation.intervals import mean_interval
from distill.evaluation.nearest_rows import StillWrong, find_still_wrong
from distill.evaluation.opening import LastTime, write_opening
from distill.evaluation.over_seeds import change_over_seeds, score_seed
from distill.evaluation.robustness import Robustness, measure_robustness
from distill.evaluation.ship_gate import check_ship
from distill.evaluation.style_facts import StyleFacts, measure_style_and_facts
from quality.tasks.benchmark import Benchmark
from quality.tasks.graders import class_figures, macro_f1
from quality.tasks.perturbations import INJECTED
from warehouse.records import Answer
from warehouse.text.normalize import normalise_answer

Finding = TypeVar("Finding")


def evaluate_answers(
    boards: Sequence[BenchmarkAnswers],
    rules: Rules,
    provenance: TrainingProvenance | None = None,
    perturbed: Sequence[Perturbed] = (),
    last_time: LastTime | None = None,
) -> Evaluation:
    """Compute every finding from recorded answers."""
    provenance = provenance or TrainingProvenance()
    comparisons = adjust_p_values([compare_on(board, rules.contestants) for board in boards])
    pairs = list(zip(boards, comparisons, strict=True))
    task = [(board, comparison) for board, comparison in pairs if board.role == "task"]
    economics = _on_each(task, partial(_economics, rules))
    every_answer = [answer for board in boards for answer in board.answers]
    every_answer += [a for board in boards for fit in board.trained[1:] for a in fit.answers]
    every_answer += [answer for form in perturbed for answer in form.answers]
    cost, style = _cost(every_answer, economics, provenance, rules), _style(task)
    evaluation = Evaluation(
        comparisons=comparisons,
        explored=_on_each(pairs, _explorer_items),
        groups={comparison.benchmark: _groups(board, comparison) for board, comparison in pairs},
        classes=_on_each(pairs, _classes),
        style=style,
        economics=economics,
        break_even=find_break_evens(
            economics, provenance.data_usd, provenance.training_hours, rules.usd_per_hour
        ),
        cost=cost,
        agreement=_on_each(task, _agreement),
        robustness=_robustness(boards, perturbed),
        calibration=_on_each(task, _calibration),
        still_wrong=_on_each(task, partial(_still_wrong, provenance)),
        opening=write_opening(
            comparisons,
            cost.sentence if cost else "",
            last_time,
            {line.benchmark: line.outcome for line in style},
        ),
    )
    if not rules.ship:
        return evaluation
    given = {board.benchmark.label: (board.answers, board.texts) for board in boards}
    verdict = check_ship(rules.ship, evaluation, rules.certain, given)
    return Evaluation(**{**vars(evaluation), "ship": verdict})


def _on_each(
    pairs: Sequence[tuple[BenchmarkAnswers, Comparison]],
    find: Callable[[BenchmarkAnswers, Comparison], list[Finding]],
) -> list[Finding]:
    return [finding for board, comparison in pairs for finding in find(board, comparison)]


def _economics(rules: Rules, board: BenchmarkAnswers, comparison: Comparison) -> list[Economy]:
    """Cost and time of each model; a control costs nothing and is no rival for money."""
    lines = price_answers(
        comparison.benchmark, comparison, board.answers, rules.usd_per_hour, rules.at_once
    )
    return [line for line in lines if not is_control(line.contestant)]


def compare_on(board: BenchmarkAnswers, contestants: Sequence[str]) -> Comparison:
    """Compare the contestants on one benchmark."""
    comparison = compare(
        board.benchmark.label,
        board.answers,
        board.texts,
        headline=board.benchmark.metrics[0],
        contestants=[name for name in contestants if name not in board.left_out],
        role=board.role,
        higher_is_better=board.benchmark.higher_is_better,
        other_seeds=board.other_seeds,
    )
    content = board.benchmark.content if board.benchmark.content in comparison.metrics else None
    first = dict.fromkeys([comparison.headline, *filter(None, [content])])
    metrics = list(dict.fromkeys([*first, *comparison.metrics]))
    return replace(
        comparison,
        content=content,
        metrics=metrics,
        seeds=[score_seed(fit, metrics, board.group_of) for fit in board.trained],
        notes=[*comparison.notes, *_of_rows(board.benchmark)],
    )


def _of_rows(benchmark: Benchmark) -> list[str]:
    """Caveats of a benchmark's rows."""
    notes = [benchmark.note] if benchmark.note else []
    if benchmark.repeated:
        rows = "row repeats" if benchmark.repeated == 1 else "rows repeat"
        notes.append(f"{benchmark.repeated} {rows} an earlier one and count once")
    return notes


def _explorer_items(board: BenchmarkAnswers, comparison: Comparison) -> list[Explored]:
    answers_by_item: dict[str, list[Answer]] = {}
    for answer in board.answers:
        answers_by_item.setdefault(answer.item_id, []).append(answer)
    order = {standing.contestant: n for n, standing in enumerate(comparison.standings)}
    items = []
    for item in board.texts:
        answers = answers_by_item.get(item.item_id, [])
        answers.sort(key=lambda answer: order.get(answer.contestant, 0))
        items.append(
            Explored(
                benchmark=comparison.benchmark,
                item_id=item.item_id,
                question=item.question,
                passage=item.passage,
                reference=item.reference,
                category=item.category,
                said={answer.contestant: answer.text for answer in answers},
                grades={a.contestant: a.grades.get(comparison.headline) for a in answers},
            )
        )
    return items


def _groups(board: BenchmarkAnswers, comparison: Comparison) -> list[Any]:
    confidence = {
        item_id: float(answer.details["confidence"])
        for item_id, answer in board.answers_of("teacher").items()
        if answer.details and "confidence" in answer.details
    }
    return break_down_scores(board.answers, board.texts, comparison.headline, confidence)


def _style(task: Sequence[tuple[BenchmarkAnswers, Comparison]]) -> list[StyleFacts]:
    """Style and facts on each task benchmark.

    Where right answers in any form are graded by a metric of their own, its p-values are
    adjusted for the number of task benchmarks, as the headline's are.
    """
    graded_tasks = [
        (board, comparison, board.benchmark.content)
        for board, comparison in task
        if board.benchmark.content is not None and comparison.higher_is_better
    ]
    content_comparisons = {
        comparison.benchmark: compare(
            comparison.benchmark,
            [a for a in board.answers if a.contestant in ("student", "base")],
            board.texts,
            content,
            pairs=[("student", "base")],
            other_seeds=board.other_seeds,
        )
        for board, comparison, content in graded_tasks
        if content != comparison.headline
    }
    adjusted = adjust_p_values(list(content_comparisons.values()))
    by_content = {comparison.benchmark: comparison for comparison in adjusted}
    lines = []
    for board, comparison, content in graded_tasks:
        pairs = [
            candidate.difference("student", "base") if candidate else None
            for candidate in (comparison, by_content.get(comparison.benchmark))
        ]
        p_headline, p_content = (pair.p_adjusted if pair else None for pair in pairs)
        changes = [change_over_seeds(pair, metric) for pair, metric in
                   zip(pairs, (comparison.headline, content), strict=True)]  # fmt: skip
        lines.append(
            measure_style_and_facts(
                comparison.benchmark,
                board.answers,
                comparison.headline,
                content,
                p_headline=p_headline,
                p_content=p_content,
                group_of=board.group_of,
                items=board.texts,
                passage_shown=any(item.passage for item in board.items),
                over_seeds={change.metric: change for change in changes if change},
            )
        )
    return [line for line in lines if line]


def _classes(board: BenchmarkAnswers, comparison: Comparison) -> list[ClassLine]:
    """Precision, recall and F1 of each class and contestant, then their mean."""
    if not getattr(board.benchmark, "classes", None):
        return []
    lines = []
    for standing in comparison.standings:
        name, benchmark = standing.contestant, comparison.benchmark
        details = [answer.details or {} for answer in board.answers_of(name).values()]
        figures = class_figures([(d["said"], d["right"]) for d in details if "right" in d])
        lines += [
            ClassLine(benchmark, name, label, figure.n, figure.precision, figure.recall, figure.f1)
            for label, figure in figures.items()
        ]
        if figures:
            n, macro = sum(figure.n for figure in figures.values()), macro_f1(figures)
            lines.append(ClassLine(benchmark, name, "macro", n, None, None, macro))
    return lines


def _agreement(board: BenchmarkAnswers, comparison: Comparison) -> list[SameAnswer]:
    """Share of items with the teacher's answer, after normalisation; items where neither answer
    could be parsed are left out."""
    teacher, group_of = board.answers_of("teacher"), board.group_of
    lines = []
    for standing in comparison.standings:
        other = board.answers_of(standing.contestant)
        pairs = {
            item: (_content_of(board, teacher[item]), _content_of(board, other[item]))
            for item in sorted(teacher.keys() & other.keys())
        }
        same = {item: float(a == b) for item, (a, b) in pairs.items() if {a, b} - {None, ""}}
        if standing.contestant == "teacher" or not same:
            continue
        share = mean_interval(list(same.values()), [group_of.get(item, item) for item in same])
        lines.append(SameAnswer(comparison.benchmark, standing.contestant, len(same), share))
    return lines


def _content_of(board: BenchmarkAnswers, answer: Answer) -> Any:
    """The choice that was parsed from an answer, or its normalised text."""
    details = answer.details or {}
    if "said" in details:
        return details["said"]
    return normalise_answer(board.benchmark.read(answer.text))


def _calibration(board: BenchmarkAnswers, comparison: Comparison) -> list[Calibration]:
    if not comparison.higher_is_better:
        return []
    results = (
        measure_calibration(
            comparison.benchmark,
            standing.contestant,
            list(board.answers_of(standing.contestant).values()),
            comparison.headline,
            group_of=board.group_of,
        )
        for standing in comparison.standings
    )
    return [line for line in results if line]


def _still_wrong(
    provenance: TrainingProvenance, board: BenchmarkAnswers, comparison: Comparison
) -> list[StillWrong]:
    answers = list(board.answers_of("student").values())
    if not answers or not provenance.kept or not comparison.higher_is_better:
        return []
    return find_still_wrong(
        comparison.benchmark,
        answers,
        board.texts,
        comparison.headline,
        provenance.kept,
        provenance.scores,
        provenance.costs,
    )


def _cost(
    answers: Sequence[Answer],
    economics: Sequence[Economy],
    provenance: TrainingProvenance,
    rules: Rules,
) -> CostTotal | None:
    is_evaluated = any(name.partition("+")[0] == "student" for name in rules.contestants)
    if not is_evaluated or not provenance.kept:
        return None
    student = student_line(economics)
    return total_cost(
        answers,
        provenance.data_usd,
        provenance.training_hours,
        rules.usd_per_hour,
        rules.at_once,
        student.usd_per_1000 if student else None,
    )


def _robustness(
    boards: Sequence[BenchmarkAnswers], perturbed: Sequence[Perturbed]
) -> list[Robustness]:
    by_label = {board.benchmark.label: board for board in boards}
    results = []
    for form in perturbed:
        board = by_label[form.benchmark]
        result = measure_robustness(
            form.benchmark,
            form.perturbation,
            form.contestant,
            list(board.answers_of(form.contestant).values()),
            form.answers,
            board.benchmark.metrics[0],
            form.origin,
            injected=INJECTED if form.perturbation == "injection" else None,
            group_of=board.group_of,
        )
        if result:
            results.append(result)
    return results
