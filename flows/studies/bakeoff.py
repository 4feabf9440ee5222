"""Train several tuners on the same samples and seed, and compare them: `distill bakeoff`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distill.contestants.contestant import CONTROLS
from distill.evaluation.controls import FEWSHOT
from distill.evaluation.inputs import texts_of
from distill.plan.plan import load_plan
from distill.plan.sections import TrainSection
from distill.report.bakeoff_page import (
    BASE,
    Bakeoff,
    Board,
    Method,
    board_of,
    render_html,
    render_markdown,
    verdict,
)
from distill.report.report import to_plain
from flows.engines.engine import ShardEngine, engine_of
from flows.runtime.run import RunContext, open_run
from flows.stages.contestants import (
    ContestantFactory,
    answer_as_student,
    collect_answers,
    request_answers,
)
from flows.stages.curate import curate_stage
from flows.stages.evaluate import items_of
from flows.stages.generate import generate_stage, load_samples
from flows.stages.report import write_pages
from flows.stages.train import check_training_inputs, train_arms
from quality.tasks.benchmark import Benchmark
from warehouse.catalog import build, name_of
from warehouse.errors import PlanError
from warehouse.records import Answer, Sample, Student


def bakeoff(
    plan_path: str, overrides: Sequence[str], tuners: Sequence[str], seeds: Sequence[str] = ()
) -> dict[str, Any]:
    """Train each tuner on the samples that the gate keeps, and compare them.

    `seeds` is the number of training seeds of each tuner as it is typed; empty for the plan's.

    Raises:
        PlanError: a tuner is unknown, or cannot be trained with the plan's options.
    """
    sections = {
        label: section.model_copy(update={"seeds": int(seeds[0])}) if seeds else section
        for label, section in contenders(plan_path, overrides, tuners).items()
    }
    options = {"--tuners": tuners, "--seeds": seeds}
    with open_run(plan_path, overrides, "bakeoff", options) as context:
        for section in sections.values():
            check_training_inputs(context, section)
        generate_stage(context)
        curated = curate_stage(context, load_samples(context, counted=False))
        students = train_arms(context, curated, sections, alone=True)
        methods = [
            _method(label, sections[label], context.home, of_label[0])
            for label, of_label in students.items()
        ]
        with context.stage("evaluate"), engine_of(context.plan.run) as engine:
            controls = _answer_as_controls(context, curated.kept)
            boards = [
                _board(context, engine, benchmark, students, methods, controls[benchmark.label])
                for benchmark in context.plan.evaluate.benchmarks
            ]
        comparison = Bakeoff(
            run_id=context.run.run_id,
            plan_name=context.plan.name,
            plan_hash=context.plan.plan_hash,
            rows=curated.kept_count,
            seed=context.plan.training.seed,
            methods=methods,
            boards=boards,
            versions=context.run.versions,
            seeds=len(next(iter(students.values()))),
            notes=list(dict.fromkeys(context.notes)),
        )
        pages = write_pages(
            context,
            "bakeoff",
            render_html(comparison),
            render_markdown(comparison),
            to_plain(comparison),
        )
        result = _result(comparison, pages["html"])
        context.run.summary.update(result)
        return result


def contenders(
    plan_path: str, overrides: Sequence[str], tuners: Sequence[str]
) -> dict[str, TrainSection]:
    """[train] with each of the tuners, by label: a name, or a table `{use = "lora", rank = 4}`.

    A tuner named as the plan's own keeps the plan's options and learning rate; every other
    one has its own defaults.

    Raises:
        PlanError: fewer than two tuners, one twice, an unknown one, or one that does not fit.
    """
    plan = load_plan(plan_path, overrides)
    plan.require("bakeoff")
    own = plan.training
    sections: dict[str, TrainSection] = {}
    for text in _split_tuners(tuners):
        table = _table(text)
        label = _label(table)
        if label in sections:
            raise PlanError(f"--tuners names {label} twice; for several seeds of each: --seeds 3")
        if table == {"use": name_of(own.tuner)}:
            sections[label] = own
            continue
        changes = {"tuner": build("tuner", table, plan.folder)}
        if name_of(changes["tuner"]) != name_of(own.tuner):
            changes["learning_rate"] = None
        section = own.model_copy(update=changes)
        faults = section.faults()
        if faults:
            raise PlanError(f"{label} cannot be trained with this plan", tuple(faults))
        sections[label] = section
    if len(sections) < 2:
        raise PlanError("--tuners takes at least two, for example --tuners lora,ia3,prefix")
    return sections


def _split_tuners(tuners: Sequence[str]) -> list[str]:
    """Split names at commas; a table in braces is one entry."""
    parts = []
    for text in tuners:
        entry = text.strip()
        parts += [entry] if entry.startswith("{") else [part.strip() for part in entry.split(",")]
    return [part for part in parts if part]


def _table(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return {"use": text}
    try:
        table: dict[str, Any] = tomllib.loads(f"tuner = {text}")["tuner"]
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"--tuners {text} is not a TOML table: {error}") from None
    if not isinstance(table.get("use"), str):
        raise PlanError(f"--tuners {text} names no tuner; write {{use = 'lora', rank = 4}}")
    return table


def _label(table: dict[str, Any]) -> str:
    options = [f"{key}={value}" for key, value in table.items() if key != "use"]
    return " ".join([table["use"], *options])


def _method(label: str, section: TrainSection, home: Path, student: Student) -> Method:
    losses = [entry["loss"] for entry in student.losses if "loss" in entry]
    tuner = section.tuner
    return Method(
        label=label,
        source=tuner.source,
        mergeable=tuner.mergeable,
        student_id=student.student_id,
        trainable_parameters=student.audit["trainable_parameters"],
        learning_rate=section.learning_rate or tuner.learning_rate,
        seconds=student.seconds,
        memory=student.audit.get("memory"),
        size=sum(
            file.stat().st_size for file in student.folder_in(home).rglob("*") if file.is_file()
        ),
        first_loss=losses[0],
        last_loss=losses[-1],
    )


def _answer_as_controls(context: RunContext, kept: Sequence[Sample]) -> dict[str, list[Answer]]:
    """Benchmark -> answers of the controls that the report would have, too."""
    plan, request = context.plan, partial(request_answers, context)
    factory = ContestantFactory(plan, context.store, context.run.run_id, None, kept, request)
    answers: dict[str, list[Answer]] = {b.label: [] for b in plan.evaluate.benchmarks}
    for spec in plan.evaluate.parts():
        if spec.name not in (FEWSHOT, *CONTROLS):
            continue
        for benchmark in plan.evaluate.benchmarks:
            items = items_of(context, benchmark)
            if why := factory.why_left_out(spec.name, benchmark, items):
                context.notes.append(f"{spec.name} did not answer {benchmark.label}: {why}")
                continue
            contestant = factory.contestant(spec.name, benchmark)
            answers[benchmark.label] += collect_answers(context, contestant, items)
        factory.model(spec).close()
    return answers


def _board(
    context: RunContext,
    engine: ShardEngine,
    benchmark: Benchmark,
    students: dict[str, list[Student]],
    methods: list[Method],
    controls: Sequence[Answer],
) -> Board:
    items = items_of(context, benchmark)
    answer = partial(answer_as_student, context, benchmark, items, engine=engine)
    answers = [*answer(BASE, None), *controls]
    other_seeds = {}
    for label, (first, *others) in students.items():
        answers += answer(label, first)
        other_seeds[label] = [answer(f"{label}, seed {other.seed}", other) for other in others]
    return board_of(
        benchmark.label,
        answers,
        texts_of(items),
        methods,
        benchmark.metrics[0],
        higher_is_better=benchmark.higher_is_better,
        other_seeds=other_seeds,
    )


def _result(bakeoff: Bakeoff, path: Path) -> dict[str, Any]:
    """What `--json` prints: one row per benchmark and tuner, the best first."""
    rows = []
    for board in bakeoff.boards:
        metric = board.comparison.headline
        for line in board.lines:
            standing = board.comparison.standing(line.label)
            row: dict[str, Any] = {"benchmark": board.comparison.benchmark, "tuner": line.label}
            row["n"] = standing.graded if standing else 0
            row[metric] = _interval(standing.metrics.get(metric) if standing else None)
            for name in ("against_base", "against_best"):
                difference = getattr(line, name)
                row[name] = _interval(difference.metrics.get(metric) if difference else None)
            row["p_best"] = line.p_best
            row["latency_s"] = standing.mean_latency_s if standing else None
            if line.method:
                for name in ("trainable_parameters", "memory", "seconds", "size", "student_id"):
                    row[name] = getattr(line.method, name)
            rows.append(row)
    return {
        "run_id": bakeoff.run_id,
        "seeds": bakeoff.seeds,
        "plan_hash": bakeoff.plan_hash,
        "verdicts": {board.comparison.benchmark: verdict(board) for board in bakeoff.boards},
        "rows": rows,
        "report_path": str(path),
    }


def _interval(interval: Any) -> list[float] | None:
    return [interval.value, interval.low, interval.high] if interval else None
