"""Serve plans with Prefect on their schedules, deployed by dotted path.

Whoever can reach the Prefect server can ask for a run. So a run request names no plan and sets no
key of it: which plans are served stands in the environment of this process, which the server cannot
write; the deployment says which of them is meant, and the parameters make a run smaller at most. Of a
deployment to a work pool the server does hold the plan's place: whoever can write to it decides what
its workers run.
"""

# No `from __future__ import annotations`: Prefect looks up the types of a flow's parameters itself.
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import prefect
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import FailedRun
from prefect.runtime import deployment
from prefect.schedules import Cron, Interval, Schedule
from prefect.states import Cancelled, Completed, Failed
from prefect.types.entrypoint import EntrypointType
from pydantic import Field

from distill.plan.plan import Plan, load_plan
from distill.plan.schedule_section import Stage, parse_interval
from flows.runtime import prefect_server
from flows.runtime.progress import say
from flows.runtime.run import TICK
from warehouse.errors import (
    PlanError,
    ServerError,
    StillhouseError,
    Stopped,
    UsageError,
    first_line,
)

_SERVED = "STILLHOUSE_SERVED_PLANS"
"""Environment variable: what `serve` was given, as JSON: name -> plan and overrides."""

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0)]

_NAMES = {
    "done": "Completed", "nothing new": "NothingNew", "waiting": "Waiting", "drift": "Drift",
    "budget": "BudgetReached", "skipped": "Skipped",
}  # fmt: skip
"""What a tick's state is called in Prefect."""


class _HideForeseen(logging.Filter):
    """Leave out the traceback of a tick that failed for a reason that it has told already."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record."""
        return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


for _name in ("prefect.flow_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_HideForeseen())


@dataclass(frozen=True)
class Served:
    """A plan that is served: its file, its overrides, and when it runs."""

    plan: str
    overrides: Sequence[str]
    cron: str | None
    interval: str | None
    timezone: str


def _run_name() -> str:
    return f"{deployment.name}, {prefect.runtime.flow_run.scheduled_start_time:%Y-%m-%d %H:%M} UTC"


@flow(name="stillhouse", flow_run_name=_run_name)
def scheduled_run(
    stage: Stage | None = None,
    budget_usd: Usd | None = None,
    budget_tokens: Tokens | None = None,
) -> State[dict[str, Any]]:
    """Run the served plan once, as each tick of a schedule does.

    Args:
        stage: The last stage, if not that of the plan.
        budget_usd: Spend at most so much, if it is less than the plan allows.
        budget_tokens: Use at most so many tokens, if they are less than the plan allows.

    Raises:
        PlanError: this process was not started by `distill serve`.
    """
    # The process that waits for the next tick needs none of this: it is 100 MB smaller without.
    from flows.schedule.artifacts import publish_tick
    from flows.schedule.tick import run_tick

    served = json.loads(os.environ.get(_SERVED, "{}")).get(deployment.name)
    if served is None:
        raise PlanError("no such plan is served here; start `distill serve PLAN --cron ...`")
    plan, overrides = served["plan"], served["overrides"]
    allowed = load_plan(plan, overrides).datagen
    for name, asked in (("budget_usd", budget_usd), ("budget_tokens", budget_tokens)):
        cap = getattr(allowed, name)
        if asked is not None and (cap is None or asked < cap):
            overrides = [*overrides, f"datagen.{name}={asked!r}"]
    try:
        result = run_tick(plan, overrides, stage)
    except StillhouseError as error:
        return Failed(message=first_line(error))
    except Stopped as stopped:
        return Cancelled(message=stopped.message)
    publish_tick(str(deployment.name), result)
    return Completed(name=_NAMES[result["state"]], message=result["reason"], data=result)


def schedule_of(plan: Plan, cron: str | None, interval: str | None) -> Schedule:
    """The schedule of a plan: the given one, or that of its `[schedule]`.

    Raises:
        UsageError: there is none.
        PlanError: it cannot be read.
    """
    if cron is None and interval is None:
        cron, interval = plan.schedule.cron, plan.schedule.interval
    if interval is not None:
        try:
            return Interval(parse_interval(interval), timezone=plan.schedule.timezone)
        except ValueError as error:
            raise PlanError(str(error)) from None
    if cron is None:
        raise UsageError(
            f"when is plan '{plan.name}' to run? give --cron, --interval, or [schedule] cron or interval"
        )
    try:
        return Cron(cron, timezone=plan.schedule.timezone)
    except ValueError:
        raise PlanError(
            f"'{cron}' is no cron schedule; give five fields: minute hour day month weekday, "
            'for example "0 3 * * *"'
        ) from None


def _served(
    loaded: Mapping[str, Plan], overrides: Sequence[str], cron: str | None, interval: str | None
) -> dict[str, Served]:
    """Plans by their names.

    Raises:
        PlanError: two have one name, or one cannot be run.
    """
    names = [plan.name for plan in loaded.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(f"two plans have the name '{twice[0]}'; give each a `name` of its own")
    served: dict[str, Served] = {}
    for file, plan in loaded.items():
        plan.require(TICK)
        schedule = schedule_of(plan, cron, interval)
        served[plan.name] = Served(
            file,
            list(overrides),
            schedule.cron,
            interval or plan.schedule.interval if schedule.cron is None else None,
            plan.schedule.timezone,
        )
    return served


def _deployment(
    plan: Plan,
    schedule: Schedule,
    served: Served,
    pool: str | None = None,
    job_variables: dict[str, Any] | None = None,
) -> RunnerDeployment:
    made = scheduled_run.to_deployment(
        name=plan.name,
        schedule=schedule,
        description=f"The plan {Path(served.plan).name}, warehouse {plan.warehouse_path.name}.",
        tags=["stillhouse", f"teacher {plan.teacher.identity}"[:200]],
        work_pool_name=pool,
        job_variables=job_variables,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)  # a coroutine within a loop alone
    return made


def deploy(
    path: Path,
    overrides: Sequence[str],
    cron: str | None,
    interval: str | None,
    pool: str,
    image: str | None,
    plan_there: str | None,
) -> str:
    """Deploy a plan to a work pool of the configured server, whose workers run its ticks.

    Args:
        path: The plan file.
        overrides: The plan's overrides.
        cron: When it runs; left out, as the plan says.
        interval: The same as time between two ticks.
        pool: A work pool that exists.
        image: The image of a Docker or Kubernetes pool.
        plan_there: The plan's file where a worker runs; left out, the same as here.

    Returns:
        The name of the deployment.

    Raises:
        ServerError: no server is configured, it does not answer, or it has no such pool.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    if not prefect_server.is_configured():
        raise ServerError(
            "a deployment needs a Prefect server that stays: set PREFECT_API_URL; `distill serve` "
            "needs none"
        )
    prefect_server.require_answer()
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            raise ServerError(
                f"the server has no work pool '{pool}'; make one: "
                f"prefect work-pool create --type process {pool}"
            ) from None
    file = plan_there or str(path.resolve())
    plan = load_plan(path, overrides)
    [served] = _served({file: plan}, overrides, cron, interval).values()
    variables: dict[str, Any] = {"env": {_SERVED: json.dumps({plan.name: asdict(served)})}}
    if image is not None:
        variables["image"] = image
    made = _deployment(plan, schedule_of(plan, cron, interval), served, pool, variables)
    made.apply()
    return f"{scheduled_run.name}/{plan.name}"


def serve(
    plans: Sequence[Path], overrides: Sequence[str], cron: str | None, interval: str | None
) -> None:
    """Serve plans on their schedules; blocks until stopped.

    Where no server is configured, one with a scheduler runs as long as this process does.

    Raises:
        PlanError: a schedule cannot be read, or two plans have one name.
    """
    loaded = {str(path.resolve()): load_plan(path, overrides) for path in plans}
    served = _served(loaded, overrides, cron, interval)
    deployments = [
        _deployment(plan, schedule_of(plan, cron, interval), served[plan.name])
        for plan in loaded.values()
    ]
    os.environ[_SERVED] = json.dumps({name: asdict(each) for name, each in served.items()})
    home = next(iter(loaded.values())).warehouse_path.parent
    with prefect_server.server(home) as address:
        where = (
            f"; dashboard at {address.url}; its password is {address.password}" if address else ""
        )
        times = ", ".join(
            f"'{name}' at '{one.cron}' ({one.timezone})"
            if one.cron
            else f"'{name}' every {one.interval}"
            for name, one in served.items()
        )
        say(f"serving {times}{where}; stop with Ctrl-C")
        # A tick that overlaps another one starts, and does what its plan says.
        prefect.serve(*deployments, print_starting_message=False, limit=2 * len(deployments))
