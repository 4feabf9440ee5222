"""Read from the warehouse what earlier runs of a plan did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flows.runtime.run import TICK
from warehouse.db.store import Store
from warehouse.records import Run

State = Literal[
    "done", "nothing new", "waiting", "drift", "budget", "stopped", "failed", "skipped"
]  # fmt: skip


@dataclass
class Tick:
    """What a tick did, as its run's summary keeps it."""

    state: State
    reason: str
    """One line."""
    changes: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    trained: str | None = None
    """The student that it trained."""
    promoted: str | None = None
    """The student that it promoted."""
    idle: int = 0
    """Ticks in a row before it that made nothing and ended alike; they have no records of their own."""

    def as_json(self) -> dict[str, Any]:
        """The fields that say something."""
        return {name: value for name, value in asdict(self).items() if value or name == "reason"}


class History:
    """The runs of a plan, by its name, newest first."""

    def __init__(self, store: Store, plan_name: str, but: str = "") -> None:
        """Read them, without the run `but`."""
        found = store.read(
            Run,
            "plan_name = ? AND run_id <> ? ORDER BY started_at DESC, run_id DESC",
            [plan_name, but],
        )
        self.runs: list[Run] = found

    @property
    def ticks(self) -> list[Run]:
        """Those that a schedule started."""
        return [run for run in self.runs if run.summary.get("verb") == TICK]

    def newest(self, wanted: Callable[[Run], object]) -> Run | None:
        """The newest run that is wanted."""
        return next((run for run in self.runs if wanted(run)), None)

    @property
    def selection(self) -> Run | None:
        """The newest run that made a selection."""
        return self.newest(lambda run: run.summary.get("selection_id"))

    @property
    def drift_noted(self) -> Run | None:
        """The newest tick that noted to what later samples are to be compared."""
        return self.newest(lambda run: drift_of(run).get("baseline"))

    def trained(self, section: Any) -> Run | None:
        """The newest run with a student of the same `[train]`: others are experiments."""
        return self.newest(
            lambda run: run.summary.get("student_id") and run.plan.get("train") == section
        )

    def evaluated(self, student_id: str, sections: dict[str, Any]) -> Run | None:
        """The newest tick that evaluated a student to its end under the same sections of the plan.

        Only a tick promotes, so a student that another run evaluated is evaluated once more; its
        answers are on record.
        """
        return self.newest(
            lambda run: (
                run.summary.get("verb") == TICK
                and run.state == "completed"
                and run.summary.get("report_path")
                and run.summary.get("student_id") == student_id
                and all(run.plan.get(name) == value for name, value in sections.items())
            )
        )


def drift_of(run: Run) -> dict[str, Any]:
    """What a run noted on drift; see `flows.schedule.tick`."""
    noted: dict[str, Any] = run.summary.get("tick", {}).get("drift", {})
    return noted
