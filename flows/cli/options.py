"""Define the command-line app and the options that its verbs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from warehouse.errors import NotShipped, PlanError, Stopped
from warehouse.extras import TRAINING, require_modules

app = typer.Typer(
    name="distill",
    help="Distil a teacher LLM into a small student, and tell the truth about the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


_TRAINING_VERBS = ("run", "train", "evaluate", "bakeoff", "study")

DEBUG = "STILLHOUSE_DEBUG"
"""Environment variable: every error is shown with its traceback."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("stillhouse"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG, help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Distil a teacher LLM into a small student, and tell the truth about the result."""
    if debug:
        os.environ[DEBUG] = "1"  # for `main`, and for child processes


PlanFile = Annotated[Path, typer.Argument(help="The plan file (TOML).", metavar="PLAN")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the plan: a.b=value.", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON, alone on stdout.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the logs of your Prefect server's flows.")
]
Where = Annotated[
    str | None,
    typer.Option("--warehouse", help="A warehouse file or a plan.", metavar="PATH"),
]
PlanOrStudent = Annotated[
    Path | None,
    typer.Argument(help="The plan file, or the folder of a student.", metavar="PLAN"),
]
StudentName = Annotated[
    str | None,
    typer.Option(
        "--student",
        help="Another student than the plan's: its folder, or the start of its id.",
        metavar="ID_OR_FOLDER",
    ),
]


def refuse_shipped_plan(plan: Path) -> None:
    """See that a plan does not lie in the installed package, which is no place for a project.

    Raises:
        PlanError: it does; says how to copy it.
    """
    import distill

    if Path(distill.__file__).parent in plan.resolve().parents:
        raise PlanError(
            f"{plan} belongs to the package, and a warehouse would be written beside it; copy it "
            "with `distill init sciq/plan.toml` and run that"
        )


def staged(
    verb: str,
    flow_name: str,
    plan: Path,
    overrides: Sequence[str] | None,
    as_json: bool,
    verbose: bool,
    options: dict[str, list[str]] | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Check all that can be checked at once, then run one verb; a flow where Prefect is configured.

    `options` are the verb's own, by their flags; the flow gets their values after the overrides.

    Raises:
        NotShipped: the run is done, and a condition of the plan's [ship] is not met.
    """
    from distill.plan.plan import load_plan
    from distill.plan.project import open_store

    loaded = load_plan(plan, overrides or ())
    loaded.require(verb)
    if verb.split()[0] in _TRAINING_VERBS:
        require_modules(f"`distill {verb}`", *TRAINING)
    refuse_shipped_plan(plan)
    store = open_store(loaded)
    store.check()
    from flows.cli import output
    from flows.runtime.progress import say, tell_logs

    if store.home != loaded.folder and not Path(loaded.warehouse).expanduser().is_absolute():
        say(
            f"note: {store.path} is used, as earlier versions did; move it, runs/ and students/ "
            f"to {loaded.folder}, the plan's folder, to run this plan from anywhere"
        )
    from flows.stages.estimate import estimate_of

    tell_logs()
    estimated = estimate_of(loaded, store, verb)  # reads every row: a malformed one is told now
    if estimated.calls:
        for line in estimated.lines():
            say(line)
    if verbose:
        os.environ.update(PREFECT_LOGGING_LEVEL="INFO")
    from importlib import import_module

    from flows.runtime.prefect_flow import run_flow

    module, _, name = flow_name.partition(":")
    function: Callable[..., dict[str, Any]] = getattr(import_module(module), name)
    values = (str(plan), list(overrides or ()), *(options or {}).values())
    flow_title = "stillhouse" if verb == "run" else f"stillhouse-{name.replace('_', '-')}"
    try:
        result = run_flow(flow_title, function, *values)
    except KeyboardInterrupt:
        from flows.runtime.run import command

        resume = command(verb, str(plan), overrides or (), options)
        raise Stopped("stopped; received replies are saved", resume) from None
    output.print_json(result) if as_json else (show or output.print_result)(result)
    ship = result.get("ship")
    if ship and not ship["ships"]:
        faults = [f"{one['condition']} ({one['measured']})" for one in ship["conditions"]
                  if not one["met"]]  # fmt: skip
        raise NotShipped(f"the student does not ship: {'; '.join(faults)}")
    return result
