"""Define the verbs that evaluate and compare students, and run studies. Heavy imports inside."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import (
    Json,
    PlanFile,
    Set,
    Verbose,
    app,
    staged,
)


@app.command()
def bakeoff(
    plan: PlanFile,
    tuners: Annotated[
        list[str],
        typer.Option(
            help="Names separated by commas, or a table {use = 'lora', rank = 4}; may be repeated.",
            metavar="NAMES",
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(help="Training seeds of each tuner; left out, the plan's train.seeds.", min=1),
    ] = None,
    set_: Set = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a student with each of several tuners and compare them on the same items."""
    from flows.cli.output import print_bakeoff

    options = {"--tuners": tuners, "--seeds": [] if seeds is None else [str(seeds)]}
    staged(
        "bakeoff",
        "flows.studies.bakeoff:bakeoff",
        plan,
        set_,
        json_,
        verbose,
        options,
        print_bakeoff,
    )


study_app = typer.Typer(help="Studies on a plan: scaling, imitation.", no_args_is_help=True)
app.add_typer(study_app, name="study")


@study_app.command("scaling")
def study_scaling(
    plan: PlanFile,
    shares: Annotated[
        list[str],
        typer.Option(
            help="Shares of the selection in percent, separated by commas.", metavar="SHARES"
        ),
    ] = ["25,50,100"],  # noqa: B006
    set_: Set = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Would more data help? Train students on growing shares of the selection."""
    from distill.report.study_page import read_shares
    from flows.cli.output import print_study

    read_shares(shares)  # a mistake is an error before anything starts
    options = {"--shares": shares}
    flow = "flows.studies.study:study_scaling"
    staged("study scaling", flow, plan, set_, json_, verbose, options, print_study)


@study_app.command("imitation")
def study_imitation(
    plan: PlanFile,
    broad: Annotated[
        str,
        typer.Option(
            help="Prompts of the broad imitation: the name of a data set, or a file.",
            metavar="PROMPTS",
        ),
    ] = "nq-open",
    seeds: Annotated[int, typer.Option(help="Training seeds of each kind of data.")] = 3,
    examples: Annotated[
        int | None,
        typer.Option(
            help="Worked examples before each broad question; left out, as many as the plan shows."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Another teacher: an endpoint of the plan, a GGUF file, a folder or a hub id.",
            metavar="MODEL",
        ),
    ] = None,
    set_: Set = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Does imitation teach facts or style? No imitation, broad imitation, the plan's own."""
    from distill.plan.plan import load_plan
    from flows.cli.output import print_study
    from flows.studies.imitation import Options, plans_of

    wanted = Options(broad, seeds, examples, teacher)
    task, other, _ = plans_of(load_plan(plan, set_ or ()), wanted)  # a mistake is an error now
    flow = "flows.studies.imitation:study_imitation"
    options = wanted.as_typed()
    staged("study imitation", flow, plan, set_, json_, verbose, options, print_study, [task, other])


@app.command()
def evaluate(
    plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False
) -> None:
    """Let the contestants answer the held-out items and compare them."""
    staged("evaluate", "flows.stages.evaluate:evaluate", plan, set_, json_, verbose)
