"""Serve a plan with Prefect on a schedule, deployed by dotted path.

Whoever can reach the Prefect server can ask for a run. So a run request names no plan and sets no
key of it: which plan is served stands in the environment of this process, which the server cannot
write, and the parameters are budgets that make a run cheaper at most.
"""

# No `from __future__ import annotations`: Prefect looks up the types of a flow's parameters itself.
import json
import os
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.types.entrypoint import EntrypointType
from pydantic import Field

from distill.plan.plan import load_plan
from flows.runtime import prefect_server
from flows.runtime.progress import say
from flows.stages.end_to_end import end_to_end
from warehouse.errors import PlanError

_SERVED = "STILLHOUSE_SERVED_PLAN"
"""Environment variable: the plan and the overrides that `serve` was given, as JSON."""

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0)]


@flow(name="stillhouse")
def scheduled_run(
    budget_usd: Usd | None = None, budget_tokens: Tokens | None = None
) -> dict[str, Any]:
    """Run the served plan once, as each tick of a schedule does.

    Args:
        budget_usd: Spend at most so much, if it is less than the plan allows.
        budget_tokens: Use at most so many tokens, if they are less than the plan allows.

    Raises:
        PlanError: this process was not started by `distill serve`.
    """
    if _SERVED not in os.environ:
        raise PlanError("no plan is served here; start `distill serve PLAN --cron ...`")
    served = json.loads(os.environ[_SERVED])
    plan, overrides = served["plan"], served["overrides"]
    allowed = load_plan(plan, overrides).datagen
    for name, asked in (("budget_usd", budget_usd), ("budget_tokens", budget_tokens)):
        cap = getattr(allowed, name)
        if asked is not None and (cap is None or asked < cap):
            overrides = [*overrides, f"datagen.{name}={asked!r}"]
    return end_to_end(plan, overrides)


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
    os.environ[_SERVED] = json.dumps({"plan": str(plan), "overrides": overrides})
    with prefect_server.server(home) as address:
        where = (
            f"; dashboard at {address.url}; its password is {address.password}" if address else ""
        )
        say(f"serving '{name}' at '{cron}'{where}; stop with Ctrl-C")
        scheduled_run.serve(
            name=name,
            cron=cron,
            print_starting_message=False,
            limit=1,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
