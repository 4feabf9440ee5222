"""Serve a plan with Prefect on a schedule, deployed by dotted path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.types.entrypoint import EntrypointType

from flows.runtime import prefect_server
from flows.runtime.progress import say
from flows.stages.end_to_end import end_to_end
from warehouse.errors import PlanError


@flow(name="stillhouse", validate_parameters=False)
def scheduled_run(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run the whole plan once, as each tick of a schedule does."""
    return end_to_end(plan_path, overrides)


def serve(plan: Path, overrides: list[str], name: str, home: Path, cron: str) -> None:
    """Serve the whole flow on a cron schedule; blocks until stopped.

    Where no server is configured, one with a scheduler runs as long as this process does.

    Raises:
        PlanError: `cron` is no cron schedule.
    """
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise PlanError(
            f"'{cron}' is no cron schedule; give five fields: minute hour day month weekday, "
            'for example "0 3 * * *"'
        ) from None
    with prefect_server.server(home) as address:
        where = f"; dashboard at {address}" if address else ""
        say(f"serving '{name}' at '{cron}'{where}; stop with Ctrl-C")
        scheduled_run.serve(
            name=name,
            cron=cron,
            parameters={"plan_path": str(plan), "overrides": overrides},
            print_starting_message=False,
            limit=1,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
