"""Run the imitation study: `distill study imitation`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from distill.contestants.contestant import EndpointModel
from distill.evaluation.imitation import BROAD, NONE, TASK, contrasts_of
from distill.evaluation.inputs import BenchmarkAnswers
from distill.learning.objective import rows_of
from distill.plan.imitation_study import (
    broad_plan,
    check_seeds,
    is_same_model,
    named_teacher,
    share_gate,
    with_teacher,
)
from distill.plan.plan import Plan
from distill.report.study_page import Setup
from flows.runtime.progress import say
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import (
    answer_as_student,
    collect_answers,
    make_contestant,
    request_answers,
)
from flows.stages.curate import curate_stage, describe_reasons
from flows.stages.curated import Curated
from flows.stages.evaluate import items_of
from flows.stages.generate import generate_stage, load_samples
from flows.stages.known_prompts import count_prompts
from flows.stages.train import check_training_inputs, train_stage
from flows.studies.local_teacher import LocalTeacher
from flows.studies.study import LEAST_ROWS, study_of, write_study
from quality.tasks.benchmark import Benchmark, Item
from warehouse.catalog import name_of
from warehouse.errors import NothingToDoError
from warehouse.records import Answer, Sample, Student, make_id
from warehouse.wording import format_count


@dataclass(frozen=True)
class Options:
    """What the study is asked for beside the plan."""

    broad: str
    """The broad questions: a data set's name or a file."""
    seeds: int = 3
    """Training seeds of each kind of data."""
    examples: int | None = None
    """Worked examples before each broad question; None for as many as the plan shows."""
    teacher: str | None = None
    """Another teacher than the plan's; see `named_teacher`, or a folder or hub id."""

    def as_typed(self) -> dict[str, list[str]]:
        """The options of the command line; one that is not given has no value."""
        given = {
            "--broad": self.broad,
            "--seeds": self.seeds,
            "--examples": self.examples,
            "--teacher": self.teacher,
        }
        return {name: [] if value is None else [str(value)] for name, value in given.items()}


def plans_of(plan: Plan, options: Options) -> tuple[Plan, Plan, list[str]]:
    """The plans of the task's data and of the broad data, with one teacher and one gate.

    Returns:
        Both, and the scorers that neither kind is gated by.

    Raises:
        AssetError, DataError, PlanError: an option is wrong, or data or model are not there.
    """
    check_seeds(options.seeds)
    if options.teacher is not None:
        teacher = named_teacher(plan, options.teacher) or LocalTeacher(options.teacher)
        teacher.check()
        plan = with_teacher(plan, teacher)
    asked = count_prompts(plan)
    broad = broad_plan(plan, options.broad, asked, options.examples)
    return share_gate(plan, broad)


def study_imitation(
    plan_path: str,
    overrides: Sequence[str],
    broad: Sequence[str],
    seeds: Sequence[str] = ("3",),
    examples: Sequence[str] = (),
    teacher: Sequence[str] = (),
) -> dict[str, Any]:
    """No imitation, broad imitation, the plan's own: equal supervised tokens, the same gate and items.

    The options come as they are typed, each in a list of its own.
    """
    options = Options(
        broad[0],
        int(seeds[0]),
        int(examples[0]) if examples else None,
        teacher[0] if teacher else None,
    )
    with open_run(plan_path, overrides, "study imitation", options.as_typed()) as opened:
        task_plan, other_plan, left_out = plans_of(opened.plan, options)
        context, other = replace(opened, plan=task_plan), replace(opened, plan=other_plan)
        check_training_inputs(context)
        with _closing(context):
            data = {BROAD: _data(other, BROAD), TASK: _data(context, TASK)}
            parts = _equal_tokens(context, data)
            students = _train(context, {name: part for name, (part, _) in parts.items()}, options)
            with context.stage("evaluate"):
                boards = [
                    _board(context, benchmark, students)
                    for benchmark in context.plan.evaluate.benchmarks
                ]
        fits: dict[str, list[str]] = {BROAD: [], TASK: []}
        for name in students:
            fits[name.partition(",")[0]].append(name)
        setup = _setup(context, other, data, parts, left_out, options)
        rows = {NONE: 0, **{name: len(part.kept) for name, (part, _) in parts.items()}}
        contrasts = contrasts_of(boards, fits)
        study = study_of(context, "imitation", rows, contrasts=contrasts, setup=setup)
        opened.run = context.run
        return write_study(opened, study)


@contextmanager
def _closing(context: RunContext) -> Iterator[None]:
    """End the teacher of an option with the work; the plan's own ends with the run."""
    try:
        yield
    finally:
        context.plan.teacher.close()


def _data(context: RunContext, name: str) -> Curated:
    """The replies of a kind of data, through the gate.

    Raises:
        NothingToDoError: the gate keeps fewer than four rows; before the next kind is paid for.
    """
    say(f"{name}: replies to {_source(context.plan)}")
    generate_stage(context)
    try:
        curated = curate_stage(context, load_samples(context, counted=False))
    except NothingToDoError as error:
        raise NothingToDoError(f"{name}: {error}") from error
    if curated.kept_count < LEAST_ROWS:
        raise NothingToDoError(
            f"{name}: the gate keeps {curated.kept_count} of "
            f"{format_count(len(curated.sample_set), 'sample')} ({_dropped(curated)}); a student "
            f"takes at least {LEAST_ROWS}: name other questions with --broad, or loosen the gate that "
            "both kinds share with --set quality.gate"
        )
    return curated


def _dropped(curated: Curated) -> str:
    """The commonest reasons why samples are dropped; empty where none is."""
    dropped = {reason: count for reason, count in curated.reasons.items() if reason != "kept"}
    return describe_reasons(dropped) if dropped else ""


def _source(plan: Plan) -> str:
    """The questions of a plan's recipes, by the names of their data sets or files."""
    sources = (str(getattr(recipe, "prompts", name_of(recipe))) for recipe in plan.datagen.recipe)
    return ", ".join(dict.fromkeys(sources))


def _equal_tokens(
    context: RunContext, data: Mapping[str, Curated]
) -> dict[str, tuple[Curated, int]]:
    """Of each kind as many rows, by hash, as come nearest to the supervised tokens of the smaller.

    Returns:
        The kind's rows with their supervised tokens.

    Raises:
        NothingToDoError: a kind has fewer than four rows.
    """
    sizes = _supervised_tokens(context, [sample for part in data.values() for sample in part.kept])
    budget = min(sum(sizes[s.sample_id] for s in part.kept) for part in data.values())
    parts = {}
    for name, part in data.items():
        chosen, tokens = _up_to(part.kept, sizes, budget)
        if len(chosen) < LEAST_ROWS:
            raise NothingToDoError(
                f"{name}: {budget} supervised tokens, as many as both kinds have, are "
                f"{format_count(len(chosen), 'row')}; a student takes at least {LEAST_ROWS}: "
                "generate more or loosen the gate"
            )
        parts[name] = part.keeping(chosen), tokens
    return parts


def _up_to(kept: Sequence[Sample], sizes: Mapping[str, int], budget: int) -> tuple[set[str], int]:
    """Rows in the order of a hash whose tokens come nearest to a budget, and their tokens."""
    chosen: set[str] = set()
    tokens = 0
    for sample in sorted(kept, key=lambda sample: make_id("share", sample.sample_id)):
        size = sizes[sample.sample_id]
        if tokens + size - budget > budget - tokens:
            break
        chosen.add(sample.sample_id)
        tokens += size
    return chosen, tokens


def _supervised_tokens(context: RunContext, samples: Sequence[Sample]) -> dict[str, int]:
    """The tokens of each sample that the loss is taken of, as the base's tokenizer cuts them."""
    from train.dataset import encode
    from train.model.student import load_tokenizer

    training = context.plan.training
    tokenizer = load_tokenizer(training.base)
    encoded = (encode(row, tokenizer) for row in rows_of(samples))
    return {
        sample.sample_id: max(0, min(len(row.input_ids), training.max_length) - row.start)
        for sample, row in zip(samples, encoded, strict=True)
    }


def _train(
    context: RunContext, parts: Mapping[str, Curated], options: Options
) -> dict[str, Student]:
    """The students by their names: each kind of data and seed."""
    first = context.plan.training.seed
    students = {}
    for name, part in parts.items():
        for seed in range(first, first + options.seeds):
            say(f"{name}, seed {seed}")
            section = context.plan.training.model_copy(update={"seed": seed})
            students[f"{name}, seed {seed}"] = train_stage(context, part, section)
    return students


def _board(
    context: RunContext, benchmark: Benchmark, students: Mapping[str, Student]
) -> BenchmarkAnswers:
    items = items_of(context, benchmark)
    return BenchmarkAnswers(benchmark, "task", items, _answers(context, benchmark, items, students))


def _answers(
    context: RunContext,
    benchmark: Benchmark,
    items: Sequence[Item],
    students: Mapping[str, Student],
) -> list[Answer]:
    plan = context.plan
    teacher = EndpointModel(plan.teacher, partial(request_answers, context, plan.teacher))
    recipe = plan.evaluate.context("recipe")
    contestant = make_contestant(plan, context.run.run_id, "teacher", teacher, recipe, benchmark)
    answers = collect_answers(context, contestant, items)
    for name, student in {NONE: None, **students}.items():
        answers += answer_as_student(context, benchmark, items, name, student)
    return answers


def _setup(
    context: RunContext,
    other: RunContext,
    data: Mapping[str, Curated],
    parts: Mapping[str, tuple[Curated, int]],
    left_out: list[str],
    options: Options,
) -> Setup:
    from train.model.base_model import base_fingerprint

    plan = context.plan
    base, first = plan.training.base, plan.training.seed
    return Setup(
        teacher=str(getattr(plan.teacher, "model", plan.teacher.identity)),
        base=base,
        same_model=is_same_model(plan.teacher, base, base_fingerprint(base)),
        examples={
            BROAD: getattr(other.plan.datagen.recipe[0], "examples", 0),
            TASK: getattr(plan.datagen.recipe[0], "examples", 0),
        },
        seeds=list(range(first, first + options.seeds)),
        sources={BROAD: _source(other.plan), TASK: _source(plan)},
        replies={name: len(part.sample_set) for name, part in data.items()},
        kept={name: len(part.kept) for name, part in data.items()},
        dropped={name: _dropped(part) for name, part in data.items()},
        tokens={name: tokens for name, (_, tokens) in parts.items()},
        left_out=left_out,
    )
