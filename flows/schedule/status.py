"""Gather how a scheduled plan stands: its ticks, what it spent, its students, and what waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from distill.plan.plan import Plan
from flows.runtime.period_caps import periods_at
from flows.schedule.history import History, drift_of
from flows.students.registry import promotions_of
from warehouse.db.store import Store
from warehouse.errors import NotFoundError
from warehouse.records import Run, Student, now

TICKS = 10


def status_of(plan: Plan, store: Store, ticks: int = TICKS) -> dict[str, Any]:
    """How a plan stands.

    Returns:
        plan, next_tick, spend (of each period: usd, cap, until), current (the promoted student),
        students (those promoted or evaluated, the newest first, with their scores), ticks (the newest
        first) and waits (what is held back, and why).
    """
    history = History(store, plan.name)
    promoted = promotions_of(store, plan.name)
    current = promoted[-1].student_id if promoted else None
    shown = history.ticks[:ticks]
    return {
        "plan": plan.name,
        "next_tick": next_tick(plan),
        "spend": spend_of(plan, store),
        "current": current,
        "students": students_of(store, plan.name, history),
        "ticks": [_tick_row(run) for run in shown],
        "waits": _waits(shown[0]) if shown else None,
    }


def next_tick(plan: Plan, after: datetime | None = None) -> str | None:
    """When the plan's own schedule runs it next; None where the plan has none, or runs by interval
    from the moment that it is served."""
    if plan.schedule.cron is None:
        return None
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule  # the scheduler's own

    schedule = CronSchedule(cron=plan.schedule.cron, timezone=plan.schedule.timezone)
    [moment] = asyncio.run(schedule.get_dates(1, start=after or now()))
    return f"{moment:%Y-%m-%d %H:%M} {plan.schedule.timezone}"


def spend_of(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """What all runs spent today and this month, each with its cap and its end."""
    zone = plan.schedule.zone
    return [
        {
            "period": period.key.removeprefix("budget_usd_per_"),
            "usd": store.spent_since(period.begins),
            "cap": getattr(plan.datagen, period.key),
            "until": f"{period.ends.astimezone(zone):%Y-%m-%d %H:%M} {plan.schedule.timezone}",
        }
        for period in periods_at(now(), zone)
    ]


def students_of(
    store: Store, plan_name: str, history: History | None = None
) -> list[dict[str, Any]]:
    """The students that runs of a plan trained, the newest first: when, of which rows, how they did,
    and whether they were promoted."""
    history = history or History(store, plan_name)
    promoted = promotions_of(store, plan_name)
    current = promoted[-1].student_id if promoted else None
    runs: dict[str, Run] = {}
    for run in history.runs:  # the newest run that evaluated it, otherwise the newest one
        student_id = run.summary.get("student_id")
        if student_id and (student_id not in runs or "report_path" not in runs[student_id].summary):
            runs[student_id] = run
    found = {s.student_id: s for s in store.by_ids(Student, "student_id", list(runs))}
    rows = []
    for student_id, run in runs.items():
        student = found.get(student_id)
        if student is None:
            continue
        ship = run.summary.get("ship")
        rows.append(
            {
                "student_id": student_id,
                "trained_at": f"{student.created_at:%Y-%m-%d %H:%M}",
                "tuner": student.tuner.get("use", ""),
                "kept": run.summary.get("kept"),
                "scores": _scores_of(run),
                "ships": None if ship is None else ship["ships"],
                "current": student_id == current,
                "promoted": [
                    f"{p.created_at:%Y-%m-%d %H:%M} ({p.how})"
                    for p in promoted
                    if p.student_id == student_id
                ],
                "path": str(student.folder_in(store.home)),
                "is_there": student.folder_in(store.home).is_dir(),
            }
        )
    return sorted(rows, key=lambda row: row["trained_at"], reverse=True)


def _scores_of(run: Run) -> dict[str, float]:
    """Benchmark and metric -> the student's score, of the first metric of each benchmark."""
    scores = {}
    for benchmark, contestants in run.summary.get("benchmarks", {}).items():
        metrics = {k: v for k, v in contestants.get("student", {}).items() if k != "n"}
        for metric, value in list(metrics.items())[:1]:
            if value is not None:
                scores[f"{benchmark} {metric}"] = value
    return scores


def _tick_row(run: Run) -> dict[str, Any]:
    tick = run.summary.get("tick", {})
    counts = run.summary.get("counts", {})
    state = tick.get("state") or ("running" if run.state == "running" else run.state)
    ended = run.finished_at
    return {
        "run_id": run.run_id,
        "at": f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "seconds": round((ended - run.started_at) / timedelta(seconds=1), 1) if ended else None,
        "state": state,
        "reason": tick.get("reason", ""),
        "calls": counts.get("calls_made", 0),
        "kept": counts.get("kept"),
        "idle": tick.get("idle", 0),
        "report_path": run.summary.get("report_path"),
    }


def _waits(run: Run) -> str | None:
    """What the newest tick left to a later one, or to a person."""
    tick = run.summary.get("tick", {})
    return tick.get("reason") if tick.get("state") in ("waiting", "drift", "budget") else None


def accept_drift(plan: Plan, store: Store) -> str:
    """Let the data that has drifted be the measure of what comes; returns what was accepted.

    Raises:
        NotFoundError: the last comparison found no drift.
    """
    run = History(store, plan.name).drift_noted
    drift = drift_of(run) if run else {}
    if run is None or not drift.get("beyond"):
        raise NotFoundError(f"the last tick of plan '{plan.name}' found no drift to accept")
    description = str(drift["description"])
    tick = {
        **run.summary["tick"],
        "drift": {"baseline": run.summary["selection_id"], "accepted": description},
        "state": "waiting",
        "reason": f"drift was accepted ({description}); the next tick may train",
    }
    store.put_run(replace(run, summary={**run.summary, "tick": tick}))
    return description
