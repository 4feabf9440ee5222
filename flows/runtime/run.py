"""Open a run: load its plan, hold the warehouse's lock, and keep the run's record."""

from __future__ import annotations

import json
import platform
import secrets
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from datagen.spending.limits import Budget
from datagen.teacher import Teacher
from distill.plan.plan import Plan, load_plan
from distill.plan.project import open_store
from flows.runtime import signals
from flows.runtime.period_caps import period_caps
from flows.runtime.progress import name_run, say
from warehouse.db.lock import exclusive
from warehouse.db.spool import Spool
from warehouse.db.store import Store
from warehouse.errors import BudgetReached, StillhouseError, Stopped
from warehouse.records import Call, Failure, Run, inside, make_id, now
from warehouse.wording import format_count

_PACKAGES = (
    "stillhouse", "torch", "transformers", "trl", "peft", "prefect", "openai", "duckdb",
    "polars", "detoxify", "xllamacpp", "alt-profanity-check", "scipy",
)  # fmt: skip


TICK = "tick"
"""The verb of a run that a schedule started."""


@dataclass
class RunContext:
    """A run in progress: its plan, store, record and counts."""

    plan: Plan
    plan_path: str
    overrides: tuple[str, ...]
    store: Store
    run: Run
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    protocol: list[str] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    oddities: Counter[str] = field(default_factory=Counter)
    """What of replies could not be read, such as their usage, with the number of replies."""

    @property
    def home(self) -> Path:
        """The folder of the warehouse; runs and students lie beside it."""
        return self.store.home

    @property
    def teacher(self) -> Teacher:
        """The plan's teacher."""
        teacher: Teacher = self.plan.teacher
        return teacher

    def summarize(self, **facts: Any) -> None:
        """Add to the summary of the run's record, which is stored when the run ends."""
        paths = {key: inside(facts[key], self.home) for key in Run.PATHS if key in facts}
        self.run = replace(self.run, summary={**self.run.summary, **facts, **paths})

    def tell(self, notes: Iterable[str]) -> None:
        """Say what a reader should know, once, and keep it for the report."""
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                say(f"note: {note}")

    def result(self, *counters: str) -> dict[str, Any]:
        """What `--json` prints of every run: its ids, and counters by name."""
        counts = {name: self.counts.get(name, 0) for name in counters}
        return {"run_id": self.run.run_id, "plan_hash": self.plan.plan_hash, **counts}

    def count(self, what: str, number: int) -> None:
        """Add to a counter of this run."""
        self.counts[what] = self.counts.get(what, 0) + number

    def oddity_notes(self) -> list[str]:
        """A line for each of the most common oddities."""
        return [
            f"{what} in {format_count(number, 'reply')}"
            for what, number in self.oddities.most_common(5)
        ]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        signals.raise_if_swallowed()
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def refused_for_good(self) -> dict[str, str]:
        """Subjects of requests that failed permanently before, each with the error; asking again
        is pointless."""
        failures = self.store.read(Failure, "permanent")
        return {failure.subject: failure.error for failure in failures}


@contextmanager
def open_run(
    plan_path: str, overrides: Sequence[str], verb: str, options: Options | None = None
) -> Iterator[RunContext]:
    """Load the plan, hold the warehouse's run lock, and keep the run's record to the end.

    An unfinished run of the same plan goes on under its old id; a tick of a schedule does not, so
    that each has its own record and budget. Ctrl-C, SIGTERM and a closed terminal stop the run with
    nothing lost.

    Raises:
        Stopped: interrupted; says how to resume.
        Skipped: another run uses the warehouse, and the plan's schedule leaves this tick out.
    """
    plan = load_plan(plan_path, overrides)
    plan.require(verb)
    is_tick = verb == TICK
    store = open_store(plan)
    resume = command(verb, plan_path, overrides, options)
    overlap = plan.schedule.overlap if is_tick else "wait"
    with exclusive(store.path, say, overlap, is_tick), signals.interrupted():
        recover(store, take_back=True)
        run = _run_record(plan, store, verb, overrides)
        mark_killed_runs(store, but=run.run_id)
        old = {name: run.summary.get(name, {}) for name in ("lost", "unmetered")}
        spent = dict(run.summary.get("seconds", {}))  # by the same run, before it was cut off
        context = RunContext(plan, plan_path, tuple(overrides), store, run, seconds=spent)
        context.budget = _budget(plan, store, run)
        store.put_run(context.run)
        name_run(run.run_id)
        state = "failed"
        try:
            yield context
            state = "completed"
        except KeyboardInterrupt:
            state = "stopped"
            raise Stopped("stopped; received replies are saved", resume) from None
        except BudgetReached as stop:
            state = "stopped"
            message = context.budget.reached or stop.message
            larger = list(overrides)
            if context.budget.reached_period is None:
                larger = _with_larger_budget(plan, overrides, message, context.budget)
            again = command(verb, plan_path, larger, options)
            raise BudgetReached(message, again) from None
        except Stopped as stop:
            state = "stopped"
            raise Stopped(stop.message, resume) from None
        finally:
            for teacher in {id(model): model for model in (context.teacher, plan.judge)}.values():
                teacher.close()
            recover(store)
            budget = context.budget
            besides = {
                "lost": {"usd": budget.lost_usd, "tokens": budget.lost_tokens},
                "unmetered": {"usd": budget.unmetered_usd, "tokens": budget.unmetered_tokens},
            }
            summary = {
                **context.run.summary,
                "counts": {**context.counts, **_totals(store, run)},
                "seconds": context.seconds,
                **{
                    name: {key: value + old[name].get(key, 0) for key, value in amounts.items()}
                    for name, amounts in besides.items()
                },
                **(
                    {"oddities": dict(context.oddities.most_common(20))} if context.oddities else {}
                ),
            }
            store.put_run(replace(context.run, state=state, summary=summary, finished_at=now()))
            for note in context.oddity_notes():
                say(f"note: {note}")


def _budget(plan: Plan, store: Store, run: Run) -> Budget:
    """The plan's caps, with what this run has spent so far, also before it was stopped, and what all
    runs spent in this day and month."""
    lost = run.summary.get("lost", {})
    usd, tokens = store.spent(run.run_id)
    return Budget(
        plan.datagen.budget_usd,
        plan.datagen.budget_tokens,
        usd + lost.get("usd", 0.0),
        tokens + lost.get("tokens", 0),
        period_caps(plan, store),
    )


def _totals(store: Store, run: Run) -> dict[str, int]:
    """Calls and failures of a run in all its tries, where it was repeated after it had failed."""
    totals = {
        "calls_made": store.count(Call, run.run_id),
        "failures": store.count(Failure, run.run_id),
    }
    return {name: number for name, number in totals.items() if number}


Options = Mapping[str, Sequence[str]]
"""A verb's own options, as they are typed: `{"--tuners": ["lora", "ia3"]}`."""


def command(
    verb: str, plan_path: str, overrides: Sequence[str], options: Options | None = None
) -> str:
    """The command line of a verb, to be pasted into a shell."""
    words = [word for text in overrides for word in ("--set", text)]
    for option, values in (options or {}).items():
        words += [word for text in values for word in (option, text)]
    return shlex.join(["distill", *verb.split(), plan_path, *words])


def _with_larger_budget(
    plan: Plan, overrides: Sequence[str], message: str, budget: Budget
) -> list[str]:
    """The overrides with twice the cap that was reached, or more where the next request needs it."""
    name = "budget_usd" if "budget_usd" in message else "budget_tokens"
    least: float = 0.01 if name == "budget_usd" else 1000
    twice = max(2 * getattr(plan.datagen, name), least)
    required = budget.required[name == "budget_tokens"]
    if twice < required:
        twice = 2 * required
    others = [text for text in overrides if text.partition("=")[0].strip() != f"datagen.{name}"]
    return [*others, f"datagen.{name}={round(twice, 6)}"]


def recover(store: Store, take_back: bool = False) -> None:
    """Bring replies that a killed process left in the spool into the warehouse.

    Args:
        store: The warehouse.
        take_back: Whether replies that were set aside are tried again.
    """
    with Spool(store.path) as spool:
        spool.drain(store)
        if take_back:
            spool.take_back(store)


def mark_killed_runs(store: Store, but: str = "") -> None:
    """Mark the runs that are still called running: they would hold the lock if they lived.

    Args:
        store: The warehouse; the caller holds its run lock.
        but: The id of the run that goes on.
    """
    for dead in store.read(Run, "state = 'running' AND run_id <> ?", [but]):
        store.put_run(replace(dead, state="killed"))


def _run_record(plan: Plan, store: Store, verb: str, overrides: Sequence[str]) -> Run:
    plan_json = plan.as_json()
    key = make_id(plan.plan_hash, verb)
    for old in store.read(Run, "plan_hash = ? AND state <> 'completed'", [plan.plan_hash]):
        if old.summary.get("verb") == verb != TICK:
            identity = plan.teacher.identity
            summary = {**old.summary, "overrides": list(overrides), "teacher": identity}
            return replace(
                old, state="running", versions=versions(), summary=summary, finished_at=None
            )
    started = now()
    return Run(
        run_id=f"{started:%Y%m%d-%H%M%S}-{plan.name}-{key[:4]}{secrets.token_hex(2)}",
        plan_name=plan.name,
        plan_hash=plan.plan_hash,
        plan=plan_json,
        state="running",
        git_sha=git_sha(),
        versions=versions(),
        summary={"verb": verb, "overrides": list(overrides), "teacher": plan.teacher.identity},
        started_at=started,
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed shapes nothing
    return installed


def git_sha() -> str | None:
    """The commit of the working directory, where that is in a git checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def as_json(value: Any) -> str:
    """Indented JSON; dates as text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


__all__ = [
    "RunContext",
    "StillhouseError",
    "as_json",
    "mark_killed_runs",
    "open_run",
    "recover",
    "versions",
]
