"""Define the verbs that export data sets and import replies. Heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, PlanFile, Set, Where, app, refuse_shipped_plan
from warehouse.errors import Stopped, UsageError

data_app = typer.Typer(
    help="Data sets and archives out of a warehouse, replies from elsewhere into it.",
    no_args_is_help=True,
)
app.add_typer(data_app, name="data")


Location = Annotated[
    str,
    typer.Argument(
        help="A folder, or a DuckLake: ducklake:FILE or 'ducklake:postgres:dbname=NAME ...'.",
        metavar="ARCHIVE",
    ),
]


@data_app.command("export")
def data_export(
    plan: PlanFile,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A file, or a folder for datasets. Default: exports/, beside the warehouse.",
            metavar="PATH",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="chat, prompt-completion, sharegpt, alpaca (JSON Lines), parquet or datasets.",
            metavar="FORM",
        ),
    ] = "chat",
    all_: Annotated[bool, typer.Option("--all", help="All samples, kept or not.")] = False,
    only: Annotated[
        str | None, typer.Option(help="kept (the default) or dropped.", metavar="WHICH")
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(help="With datasets: share of the test split; 0 for none.", min=0, max=0.9),
    ] = 0.1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Export what the gate keeps as a data set, with the recorded scores; makes no calls."""
    from flows.cli import output
    from flows.data.export import DataOptions, export_data

    if all_ and only:
        raise UsageError("--all and --only cannot be combined; give one of them")
    wanted = DataOptions(form, out, "all" if all_ else only or "kept", holdout, force)
    try:
        result = export_data(str(plan), set_ or (), wanted)
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None
    output.print_json(result) if json_ else output.print_data_export(result)


@data_app.command("import")
def data_import(
    file: Annotated[Path, typer.Argument(help="The file of conversations.", metavar="FILE")],
    plan: PlanFile,
    teacher: Annotated[
        str | None, typer.Option(help="Who gave the replies, such as gpt-4o.", metavar="NAME")
    ] = None,
    as_plan: Annotated[
        bool,
        typer.Option(
            "--as-plan",
            help="The plan's own teacher gave them, with its sampling: they are not asked again.",
        ),
    ] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="chat, prompt-completion, sharegpt, alpaca, openai-batch, distilabel or curator; "
            "auto tells it by the columns.",
            metavar="FORM",
        ),
    ] = "auto",
    requests: Annotated[
        Path | None,
        typer.Option(help="The input file of an OpenAI batch.", metavar="FILE"),
    ] = None,
    all_turns: Annotated[
        bool, typer.Option("--all-turns", help="A sample of each reply, not of the last alone.")
    ] = False,
    cost_usd: Annotated[
        float | None,
        typer.Option(help="What all replies cost; left out, it stays unknown.", min=0),
    ] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Import replies that were paid for elsewhere as calls and samples; makes no calls."""
    from flows.cli import output
    from flows.data.replies import ImportOptions, describe_imports, import_replies

    refuse_shipped_plan(plan)
    wanted = ImportOptions(teacher, as_plan, form, requests, all_turns, cost_usd)
    try:
        result = import_replies(file, str(plan), set_ or (), wanted)
    except KeyboardInterrupt:
        raise Stopped("stopped; import the file again, nothing is recorded twice") from None
    if json_:
        output.print_json(result)
        return
    for line in describe_imports(result, str(plan)):
        print(output.visible(line))


@data_app.command("archive")
def data_archive(
    archive: Location,
    warehouse: Where = None,
    data_path: Annotated[
        Path | None,
        typer.Option(help="Where a new DuckLake keeps its Parquet files.", metavar="FOLDER"),
    ] = None,
    json_: Json = False,
) -> None:
    """Copy what the runs of a warehouse have recorded into Parquet files; nothing is removed."""
    from flows.cli import output
    from flows.cli.warehouse import open_warehouse
    from flows.data.archive import archive_warehouse, describe_rows

    try:
        written = archive_warehouse(open_warehouse(warehouse), archive, data_path)
    except KeyboardInterrupt:
        raise Stopped("stopped; archive again, no row is written twice") from None
    output.print_json(written) if json_ else print(describe_rows("archived", written))


@data_app.command("restore")
def data_restore(archive: Location, warehouse: Where = None, json_: Json = False) -> None:
    """Copy what a warehouse lacks of an archive into it; makes the warehouse if there is none."""
    from flows.cli import output
    from flows.cli.warehouse import open_warehouse
    from flows.data.archive import describe_rows, restore_warehouse

    try:
        restored = restore_warehouse(open_warehouse(warehouse), archive)
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was restored") from None
    output.print_json(restored) if json_ else print(describe_rows("restored", restored))
