"""Run a plan once as its schedule does: only what is new is asked, scored, trained and evaluated.

What was asked or scored before is found by its content id. A student is trained where enough of the
selection changed, and where the new samples are like those before; it is promoted where it meets
`[ship]`. torch is imported only where a student is trained or evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from distill.plan.preflight import check_evaluation
from distill.plan.schedule_section import Stage
from flows.runtime.progress import say
from flows.runtime.run import TICK, RunContext, open_run
from flows.schedule.changes import Changes, changes_since, describe_changes
from flows.schedule.drift_check import check_drift, describe_drift
from flows.schedule.history import History, Tick, drift_of
from flows.stages.curate import curate_stage
from flows.stages.curated import Curated, load_selection
from flows.stages.generate import generate_stage, load_samples
from flows.stages.known_prompts import refuse_prompts_as_benchmark
from flows.stages.report import report_data
from flows.students.registry import promote, promotions_of, run_hook
from warehouse.errors import (
    BudgetReached,
    NotFoundError,
    NothingToDoError,
    Outcome,
    Skipped,
    StillhouseError,
    Stopped,
    first_line,
)
from warehouse.records import Run, Student
from warehouse.wording import format_count


def run_tick(
    plan_path: str, overrides: Sequence[str] = (), stage: Stage | None = None
) -> dict[str, Any]:
    """Run one tick.

    Args:
        plan_path: The plan file.
        overrides: The plan's overrides.
        stage: The last stage; left out, that of the plan's `[schedule]`.

    Returns:
        What `--json` prints: state, reason, run_id, changes, trained, promoted, report_path.

    Raises:
        StillhouseError: it failed; the run's record says why, and the next tick goes on.
    """
    if stage is not None:
        overrides = [*overrides, f"schedule.stage={stage}"]
    try:
        with open_run(plan_path, overrides, TICK) as context:
            try:
                tick = _tick(context, context.plan.schedule.stage)
            except (StillhouseError, Outcome, KeyboardInterrupt) as error:
                note_tick(context, _ended(error, context))
                raise
            note_tick(context, tick)
            _forget_equal_ticks(context, tick)
            report = context.run.summary.get("report_path")
            found = {"report_path": str(context.home / report)} if report else {}
            result = context.result("calls_made", "calls_reused", "samples", "kept", "failures")
    except Skipped as skipped:
        return {"state": "skipped", "reason": str(skipped)}
    except BudgetReached as reached:
        return {"state": "budget", "reason": reached.message}
    return {**result, **tick.as_json(), **found}


def _ended(error: BaseException, context: RunContext) -> Tick:
    if isinstance(error, BudgetReached):
        return Tick("budget", context.budget.reached or error.message)
    if isinstance(error, (KeyboardInterrupt, Stopped)):
        return Tick("stopped", "it was told to stop; received replies are saved")
    assert isinstance(error, Exception)
    return Tick("failed", first_line(error))


def note_tick(context: RunContext, tick: Tick) -> None:
    """Keep what a tick did in the summary of its run."""
    context.summarize(tick=tick.as_json())
    say(f"tick: {tick.state}: {tick.reason}")


def _tick(context: RunContext, stage: Stage) -> Tick:
    plan, history = context.plan, History(context.store, context.plan.name, context.run.run_id)
    if plan.train is not None and stage in ("evaluate", "all"):
        check_evaluation(plan, context.store)
        refuse_prompts_as_benchmark(plan)
    try:
        generate_stage(context)
        if stage == "generate":
            made = context.counts.get("calls_made", 0)
            if not made:
                return Tick("nothing new", "every prompt has its reply")
            return Tick("done", f"{format_count(made, 'call')} made")
        curated = curate_stage(context, load_samples(context, counted=False))
    except NothingToDoError as nothing:  # no prompt yet, or none is kept: others may come
        return Tick("waiting", first_line(nothing))
    before = history.selection
    changes = changes_since(curated, before.summary["selection_id"] if before else None)
    description = describe_changes(changes, context.store)
    figures = changes.as_json() if changes else {}
    if plan.train is None or stage == "curate":
        if not changes:
            return Tick("nothing new", description)
        if plan.train is None and stage == "all":
            report_data(context, curated)
        return Tick("done", description, figures)
    drift = _drift(context, curated, history)
    if drift.get("beyond"):
        why = f"new data has drifted, so nothing is trained ({drift['description']}); look at it with "
        why += "`distill show samples`, mend or remove it, or accept it: `distill status PLAN --accept-drift`"
        context.tell([why])
        return Tick("drift", why, figures, drift)
    return _train_if_due(context, curated, changes, description, stage, history, drift)


def _drift(context: RunContext, curated: Curated, history: History) -> dict[str, Any]:
    """What the tick notes on drift: the baseline of the next tick, and what is beyond its bound."""
    last = drift_of(history.drift_noted) if history.drift_noted else {}
    baseline = last.get("baseline")
    if baseline is None or baseline == curated.selection_id:
        return {"baseline": curated.selection_id}
    before = _samples_of(context, baseline)
    if last.get("beyond"):  # others beside them must not hide them
        flagged = _samples_of(context, last["held"]).join(before, on="sample_id", how="anti")
        left = flagged.join(curated.choice_rows, on="sample_id", how="semi")
        if len(left) == len(flagged):
            return last
        drifts, new = check_drift(curated, before, context.plan.schedule.drift, left)
        if description := describe_drift(drifts, new):
            return {**last, "description": description}
    drifts, new = check_drift(curated, before, context.plan.schedule.drift)
    if not drifts:  # too few to tell: they wait for others
        return {"baseline": baseline if new else curated.selection_id}
    compared = {each.feature: round(each.size, 4) for each in drifts}
    if description := describe_drift(drifts, new):
        return {
            "baseline": baseline, "beyond": True, "held": curated.selection_id,
            "description": description, "compared": compared,
        }  # fmt: skip
    return {"baseline": curated.selection_id, "compared": compared}


def _samples_of(context: RunContext, selection_id: str) -> pl.DataFrame:
    """sample_id of a selection's samples."""
    query = "SELECT sample_id FROM choices WHERE selection_id = ?"
    found = context.store.select(query, [selection_id])
    return pl.DataFrame(schema={"sample_id": pl.String}) if found is None else found


def _train_if_due(
    context: RunContext,
    curated: Curated,
    changes: Changes,
    description: str,
    stage: Stage,
    history: History,
    drift: dict[str, Any],
) -> Tick:
    plan, when = context.plan, context.plan.schedule.retrain_when
    figures = changes.as_json() if changes else {}
    student = _student_of(context, history.trained(plan.as_json()["train"]))
    # The run that names a student may have evaluated it beside a later selection.
    since = changes_since(curated, student.selection_id if student else None)
    if student is not None and not since.are_enough(when):
        if stage == "train" or _is_evaluated(context, history, student):
            if not changes:
                return Tick("nothing new", description, drift=drift)
            waits = (
                f"{description}; training waits for {when.new_rows} new rows or {when.share:.0%} "
                f"changed (now {since.kept_new} and {since.share:.0%})"
            )
            return Tick("waiting", waits, figures, drift)
        students, is_new = _of_each_seed(context, student), False
        curated = _trained_on(curated, student)
        context.summarize(student_id=student.student_id)
    else:
        from flows.stages.train import check_training_inputs, train_seeds

        check_training_inputs(context)
        students = train_seeds(context, curated)
        student, is_new = students[0], bool(context.counts.get("trained"))
    tick = Tick("done", description, figures, drift, student.student_id if is_new else None)
    if is_new:
        tick.reason += f"; student {student.student_id[:8]} is trained"
    if stage != "train":
        _evaluate(context, students, curated, tick)
    return tick


def _student_of(context: RunContext, run: Run | None) -> Student | None:
    """The student that a run trained, where its files are there."""
    wanted = [str(run.summary["student_id"])] if run else []
    for student in context.store.by_ids(Student, "student_id", wanted):
        if student.folder_in(context.home).is_dir():
            return student
    return None


def _of_each_seed(context: RunContext, first: Student) -> list[Student]:
    """A student, and those that were trained beside it with the further seeds of the plan.

    Raises:
        NotFoundError: one is gone.
    """
    same = ("base", "tuner", "objective", "selection_id")
    by_seed = {first.seed: first}
    for other in context.store.read(Student, "selection_id = ?", [first.selection_id]):
        alike = all(getattr(other, name) == getattr(first, name) for name in same)
        config = {**first.config, "seed": other.seed}
        if alike and other.config == config and other.folder_in(context.home).is_dir():
            by_seed.setdefault(other.seed, other)
    seeds = [section.seed for section in context.plan.training.of_each_seed]
    missing = [seed for seed in seeds if seed not in by_seed]
    if missing:
        raise NotFoundError(
            f"the students of seed {', '.join(map(str, missing))} beside {first.student_id[:8]} are "
            "gone; `distill run PLAN` trains them again"
        )
    return [by_seed[seed] for seed in seeds]


def _trained_on(curated: Curated, student: Student) -> Curated:
    """The selection that a student was trained on: its report is of these rows, not of later ones.

    Raises:
        NotFoundError: it is no longer on record.
    """
    if student.selection_id == curated.selection_id:
        return curated
    found = load_selection(
        curated.sample_set.store, student.selection_id, curated.scorers, curated.human
    )
    if found is None:
        raise NotFoundError(
            f"the rows that student {student.student_id[:8]} was trained on are not all on record, "
            "so it is not evaluated; `distill run PLAN` trains and evaluates one on today's rows"
        )
    return found


def _is_evaluated(context: RunContext, history: History, student: Student) -> bool:
    plain = context.plan.as_json()
    sections = {name: plain[name] for name in ("evaluate", "ship")}
    return history.evaluated(student.student_id, sections) is not None


def _evaluate(
    context: RunContext, students: Sequence[Student], curated: Curated, tick: Tick
) -> None:
    """Evaluate a student, write the report, and promote the student where it meets `[ship]`."""
    from flows.stages.evaluate import evaluate_and_report

    plan, student = context.plan, students[0]
    result = evaluate_and_report(
        context,
        students,
        curated,
        samples=len(curated.sample_set),
        kept=curated.kept_count,
        student_id=student.student_id,
        student_path=str(student.folder_in(context.home)),
    )
    ship = result.get("ship")
    if ship is None:
        tick.reason += "; not promoted, since the plan has no [ship]"
        return
    if not ship["ships"]:
        unmet = [row["condition"] for row in ship["conditions"] if not row["met"]]
        tick.reason += f"; not promoted: {'; '.join(unmet)} is not met"
        return
    promoted = [each.student_id for each in promotions_of(context.store, plan.name)]
    if promoted and promoted[-1] == student.student_id:
        tick.reason += "; it is the promoted one"
        return
    if student.student_id in promoted:
        tick.reason += "; not promoted again: a person went back from it"
        return
    link = promote(context.store, plan.name, student, "ship", context.run.run_id)
    tick.promoted = student.student_id
    tick.reason += f"; promoted: {link} points to it"
    if plan.schedule.on_promote:
        fault = run_hook(plan.schedule.on_promote, student, context.home)
        if fault:
            context.tell([fault])
            tick.reason += f"; {fault}"


def _forget_equal_ticks(context: RunContext, tick: Tick) -> None:
    """Let one record stand for all ticks in a row that made nothing and ended alike."""
    made = (context.counts.get(name) for name in ("calls_made", "failures", "trained"))
    if any(made) or tick.changes or tick.promoted:
        return
    before = next(iter(History(context.store, context.plan.name, context.run.run_id).runs), None)
    last = before.summary.get("tick", {}) if before else {}
    counts = before.summary.get("counts", {}) if before else {}
    same = (last.get("state"), last.get("reason")) == (tick.state, tick.reason)
    if before is not None and same and not (counts.get("calls_made") or counts.get("failures")):
        tick.idle = last.get("idle", 0) + 1
        context.summarize(tick=tick.as_json())
        context.store.forget_run(before.run_id)
