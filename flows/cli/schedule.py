"""Define the verbs of plans on a schedule. Heavy imports inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import Json, PlanFile, Set, Verbose, app, refuse_shipped_plan

_STAGES = "generate, curate, train, evaluate or all"

Cron = Annotated[
    str | None, typer.Option(help='When to run, e.g. "0 3 * * *"; else that of [schedule].')
]
Every = Annotated[
    str | None,
    typer.Option("--interval", help="Time between two runs: 90s, 15m, 6h or 1d."),
]
StageOption = Annotated[
    str | None, typer.Option("--stage", help=f"The last stage: {_STAGES}.", metavar="STAGE")
]


def _stage(name: str | None) -> Any:
    from typing import get_args

    from distill.plan.schedule_section import Stage
    from warehouse.catalog import did_you_mean
    from warehouse.errors import UsageError

    if name is not None and name not in get_args(Stage):
        raise UsageError(f"unknown --stage '{name}' ({did_you_mean(name, list(get_args(Stage)))})")
    return name


def _refuse_both(cron: str | None, interval: str | None) -> None:
    from warehouse.errors import UsageError

    if cron is not None and interval is not None:
        raise UsageError("--cron and --interval cannot be combined; give one of them")


@app.command()
def tick(
    plan: PlanFile,
    set_: Set = None,
    stage: StageOption = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run a plan once as its schedule does: only what is new; train and promote where it is due.

    For schedulers other than Prefect, such as cron. Exit code 3: a budget is reached; 4: new data
    has drifted.
    """
    from distill.plan.plan import load_plan
    from flows.cli import output
    from flows.runtime.prefect_flow import run_flow
    from flows.schedule.tick import run_tick

    refuse_shipped_plan(plan)
    wanted = _stage(stage)
    load_plan(plan, [*(set_ or ()), *([f"schedule.stage={wanted}"] if wanted else [])]).require(
        "tick"
    )
    if verbose:
        os.environ.update(PREFECT_LOGGING_LEVEL="INFO")
    result = run_flow("stillhouse-tick", run_tick, str(plan), list(set_ or ()), wanted)
    if json_:
        output.print_json(result)
    code = {"budget": 3, "drift": 4}.get(result["state"], 0)
    if code:
        raise typer.Exit(code)


@app.command()
def serve(
    plans: Annotated[list[Path], typer.Argument(help="The plan files (TOML).", metavar="PLAN ...")],
    cron: Cron = None,
    interval: Every = None,
    stage: StageOption = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Run plans on a schedule with Prefect, until stopped."""
    _refuse_both(cron, interval)
    for plan in plans:
        refuse_shipped_plan(plan)
    overrides = list(set_ or ())
    if _stage(stage) is not None:
        overrides.append(f"schedule.stage={stage}")
    os.environ["PREFECT_LOGGING_LEVEL"] = "INFO" if verbose else "WARNING"
    from flows.schedule import serve as serving

    serving.serve(plans, overrides, cron, interval)


@app.command()
def deploy(
    plan: PlanFile,
    pool: Annotated[
        str, typer.Option("--pool", help="A work pool of your Prefect server.", metavar="NAME")
    ],
    cron: Cron = None,
    interval: Every = None,
    image: Annotated[
        str | None, typer.Option(help="The image of a Docker or Kubernetes pool.", metavar="IMAGE")
    ] = None,
    plan_there: Annotated[
        str | None,
        typer.Option("--plan-there", help="The plan's file where the worker runs.", metavar="PATH"),
    ] = None,
    set_: Set = None,
) -> None:
    """Deploy a plan to a work pool of your Prefect server, whose workers run it."""
    _refuse_both(cron, interval)
    refuse_shipped_plan(plan)
    from flows.schedule import serve as serving

    name = serving.deploy(plan, set_ or (), cron, interval, pool, image, plan_there)
    print(
        f"deployed {name} to the work pool '{pool}'; a worker runs it: prefect worker start --pool {pool}"
    )


@app.command()
def status(
    plan: PlanFile,
    set_: Set = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-drift", help="Let the new data that has drifted be trained on from now on."
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Show the ticks of a plan, what it spent, its promoted student, and what waits."""
    from distill.plan.plan import load_plan
    from distill.plan.project import open_store
    from flows.cli import output
    from flows.schedule import status as standing

    loaded = load_plan(plan, set_ or ())
    store = open_store(loaded)
    if accept:
        print(f"accepted: {standing.accept_drift(loaded, store)}")
        return
    found = standing.status_of(loaded, store)
    if json_:
        output.print_json(found)
    else:
        from flows.cli.status_output import print_status

        print_status(found)


@app.command()
def students(plan: PlanFile, set_: Set = None, json_: Json = False) -> None:
    """List the students of a plan with their scores, and when each was promoted."""
    from distill.plan.plan import load_plan
    from distill.plan.project import open_store
    from flows.cli import output
    from flows.schedule.status import students_of

    loaded = load_plan(plan, set_ or ())
    found = students_of(open_store(loaded), loaded.name)
    if json_:
        output.print_json(found)
    else:
        from flows.cli.status_output import print_students

        print_students(found)


@app.command()
def rollback(
    plan: PlanFile,
    student: Annotated[
        str | None,
        typer.Argument(help="The start of a student's id; left out, the one before.", metavar="ID"),
    ] = None,
    set_: Set = None,
) -> None:
    """Let an earlier promoted student be the current one again."""
    from distill.plan.plan import load_plan
    from distill.plan.project import open_store
    from flows.students.registry import roll_back

    refuse_shipped_plan(plan)
    loaded = load_plan(plan, set_ or ())
    store = open_store(loaded)
    found = roll_back(store, loaded.name, student)
    print(f"students/current is {found.student_id[:8]} ({found.folder_in(store.home)})")
