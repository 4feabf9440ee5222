"""Define the command-line app and the options that its verbs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from warehouse.errors import NotShipped, PlanError, Stopped, UsageError
from warehouse.extras import TRAINING, require_modules

if TYPE_CHECKING:
    from distill.plan.plan import Plan

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

LOG_FORMAT = "STILLHOUSE_LOG_FORMAT"
"""Environment variable: "json" for a JSON object on each line of stderr; see `flows.runtime.progress`."""


def _print_version(requested: bool) -> None:
    if requested:
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
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format",
            envvar=LOG_FORMAT,
            help="text, or json: a JSON object on each line of stderr, and no bars.",
        ),
    ] = "text",
) -> None:
    """Distil a teacher LLM into a small student, and tell the truth about the result."""
    if debug:
        os.environ[DEBUG] = "1"  # for `main`, and for child processes
    if log_format not in ("text", "json"):
        raise UsageError(f"unknown --log-format '{log_format}' (allowed: text, json)")
    os.environ[LOG_FORMAT] = log_format
    if log_format == "json":
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER"] = "json"


PlanFile = Annotated[Path, typer.Argument(help="The plan file (TOML).", metavar="PLAN")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the plan: a.b=value.", metavar="KEY=VALUE"),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the flow logs of your Prefect server.")
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
        help="A student other than the plan's: its folder, or the start of its id.",
        metavar="ID_OR_FOLDER",
    ),
]


def refuse_shipped_plan(plan: Path) -> None:
    """Refuse a plan inside the installed package, where no project may be written.

    Raises:
        PlanError: the plan is one of the package's; says how to copy it.
    """
    import distill

    if Path(distill.__file__).parent in plan.resolve().parents:
        raise PlanError(
            f"{plan} belongs to the installed package, where no warehouse may be written; copy it "
            "with `distill init subjects/plan.toml` and run the copy"
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
    plans: Sequence[Plan] = (),
) -> dict[str, Any]:
    """Check the plan and its data, then run one verb, as a flow where Prefect is configured.

    `options` are the verb's own, by their flags; the flow gets their values after the overrides.
    `plans`: whose prompts the verb asks; left out, those of the plan as the file has it.

    Raises:
        NotShipped: the run has ended, and a condition of the plan's [ship] is not met.
    """
    from distill.plan.plan import load_plan
    from distill.plan.project import open_store

    loaded = load_plan(plan, overrides or ())
    loaded.require(verb)
    if verb.split()[0] in _TRAINING_VERBS and loaded.train is not None:
        require_modules(f"`distill {verb}`", *TRAINING)
    refuse_shipped_plan(plan)
    store = open_store(loaded)
    store.check()
    from flows.cli import output
    from flows.runtime.progress import say, show_teacher_logs

    if store.home != loaded.folder and not Path(loaded.warehouse).expanduser().is_absolute():
        say(
            f"note: using the warehouse {store.path} in the working directory, as earlier versions "
            f"did; move it, runs/ and students/ to the plan's folder {loaded.folder} to run this "
            "plan from any directory"
        )
    from flows.stages.estimate import estimate_of

    show_teacher_logs()
    if any(Path(f"{store.path}.spool").glob("*.jsonl")):
        from flows.runtime.run import recover

        recover(store)  # replies that a killed process left are paid for
    asked, *others = plans or [loaded]
    estimate = estimate_of(asked, store, verb, others)  # reads every row: a bad one is an error now
    if estimate.calls:
        for line in estimate.lines():
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
        failed = [condition for condition in ship["conditions"] if not condition["met"]]
        reasons = "; ".join(f"{row['condition']} ({row['measured']})" for row in failed)
        raise NotShipped(f"the student does not ship: {reasons}")
    return result
