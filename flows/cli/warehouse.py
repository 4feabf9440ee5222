"""Define the verbs that show a warehouse, the parts and the assets. Heavy imports inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import (
    Json,
    Where,
    app,
)
from warehouse.wording import format_count


@app.command()
def report(
    run_id: Annotated[
        str, typer.Argument(help="A run id, or the start of one; the newest report if left out.")
    ] = "",
    other: Annotated[
        str, typer.Argument(help="Another run, to compare with the first.", metavar="[RUN_ID]")
    ] = "",
    warehouse: Where = None,
) -> None:
    """Print the path of a run's report, or compare two runs."""
    from warehouse.errors import NotFoundError

    if other:
        from flows.cli.output import print_two_runs
        from flows.studies.diff import write_comparison

        pair = (_run(run_id, warehouse), _run(other, warehouse))
        print_two_runs(*write_comparison(open_warehouse(warehouse), *pair))
        return
    candidates = [_run(run_id, warehouse)] if run_id else _runs(warehouse)
    for run in candidates:
        path = run.summary.get("report_path")
        if path and Path(path).is_file():
            print(path)
            return
    runs = (
        f"run {run_id} ({candidates[0].state})" if run_id else format_count(len(candidates), "run")
    )
    raise NotFoundError(f"no report of {runs}; `distill run PLAN` writes one")


@app.command()
def runs(
    warehouse: Where = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="The ledger: tokens, cost, latency and retries.")
    ] = False,
    json_: Json = False,
) -> None:
    """List the runs of a warehouse, newest first."""
    from flows.cli import output

    listed = _runs(warehouse)
    _require_warehouse(warehouse)
    if cost:
        ledger = open_warehouse(warehouse).query("SELECT * FROM ledger").to_dicts()
        output.print_json(ledger) if json_ else output.print_ledger(ledger, listed)
    elif json_:
        output.print_json([output.run_row(run) for run in listed])
    else:
        output.print_runs(listed)


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="A run id, or one of: samples, failures, students, passages.")
    ] = "samples",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="The plan whose warehouse is shown; of passages a plan, or files, folders and globs.",
            metavar="PLAN",
        ),
    ] = None,
    warehouse: Where = None,
    only: Annotated[
        str, typer.Option(help="Which samples: all, kept or dropped.", metavar="WHICH")
    ] = "all",
    recipe: Annotated[
        str | None, typer.Option(help="Samples of this recipe.", metavar="NAME")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Samples that are ok, refused, truncated or invalid.", metavar="STATUS"),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Samples with this in their reasons.", metavar="TEXT")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="Samples within a bound; may be repeated.", metavar="'SCORER<NUMBER'"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Samples with this in messages, reply or passage.", metavar="TEXT"),
    ] = None,
    random: Annotated[
        int | None, typer.Option(help="Draw so many samples by chance.", min=1, metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --random: another seed draws others.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Show long texts whole.")] = False,
    limit: Annotated[int, typer.Option(help="How many rows at most.", min=1)] = 10,
    json_: Json = False,
) -> None:
    """Show a run, samples with their scores and the newest choice, failures, students or passages.

    `scores` are those that decided; `unused_scores` are of other versions, models or options.
    """
    from flows.cli import output
    from flows.cli.samples import SampleFilter, count_samples, find_samples, print_samples
    from warehouse.errors import UsageError

    if what == "passages":
        from flows.cli.passages import show_passages

        show_passages(names or ([warehouse] if warehouse else []), limit, json_)
        return
    if names and len(names) > 1:
        raise UsageError(
            f"show {what} takes one plan; write `show passages {names[0]} ...` for files"
        )
    plan = names[0] if names else None
    if plan is not None and Path(plan).is_dir():
        raise UsageError(
            f"show {what} takes a plan or a warehouse file, and {plan} is a folder; `show passages "
            f"{plan}` shows the documents in it"
        )
    if plan is not None and warehouse is not None:
        raise UsageError("PLAN and --warehouse cannot be combined; give one of them")
    warehouse = warehouse if plan is None else plan
    wanted = SampleFilter(only, recipe, status, reason, score or (), text, random, seed, limit)
    if what == "samples":
        rows = find_samples(open_warehouse(warehouse), wanted)
        if json_:
            output.print_json(rows)
        elif rows:
            print_samples(rows, full)
        else:
            number = count_samples(open_warehouse(warehouse))
            print(f"none of {format_count(number, 'sample')} matches" if number else "no samples")
        return
    if wanted != SampleFilter(limit=limit):
        raise UsageError(f"options that choose samples do not go together with '{what}'")
    queries = {
        "failures": "failures ORDER BY created_at DESC",
        "students": "fitted_students",
    }
    if what in queries:
        rows = (
            open_warehouse(warehouse)
            .query(f"SELECT * FROM {queries[what]} LIMIT {limit}")
            .to_dicts()
        )
        if what == "failures":
            from flows.runtime.failures import with_questions

            rows = with_questions(open_warehouse(warehouse), rows)
    else:
        run = _run(what, warehouse, ["samples", *queries])
        rows = [{**output.run_row(run), "summary": run.summary, "plan": run.plan}]
    if json_:
        output.print_json(rows)
        return
    if what == "students":
        output.print_students(rows)
        return
    if not rows:
        print(f"no {what}")
    for row in rows:
        for key, value in row.items():
            shown = (
                json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
            )
            shown = shown if len(shown) < 400 else shown[:400] + " ..."
            print(f"{key:<16} {output.visible(shown)}")
        print()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the warehouse's tables and views.")],
    warehouse: Where = None,
    archive: Annotated[
        list[str] | None,
        typer.Option(
            help="An archive (a folder, or ducklake:...) whose rows are seen beside the warehouse's; "
            "may be repeated.",
            metavar="ARCHIVE",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Query the warehouse with SQL, read-only; also its archives."""
    from flows.cli import output

    table = open_warehouse(warehouse).query(query, archives=archive or ())
    if json_:
        output.print_json(table.to_dicts())
    else:
        import polars as pl

        with pl.Config(tbl_rows=100, fmt_str_lengths=60, tbl_hide_dataframe_shape=True):
            print(output.visible(str(table)))


@app.command()
def schema() -> None:
    """Print the JSON schema of a plan, for editors that complete and check plan files."""
    from distill.plan.schema import plan_schema
    from flows.cli import output

    output.print_json(plan_schema())


@app.command()
def assets(
    fetch: Annotated[
        str | None, typer.Option(help="Download this asset now.", metavar="NAME")
    ] = None,
) -> None:
    """List the known models and data sets, and whether they are cached."""
    from warehouse.inputs import assets as catalog

    if fetch:
        print(catalog.path(fetch))
        return
    for name in catalog.names():
        entry = catalog.entry(name)
        state = "cached" if catalog.is_cached(name) else "not cached"
        print(f"{name:<24} {entry.kind:<6} {entry.licence:<14} {state}")
    print(f"cache: {catalog.cache_dir()}")


def open_warehouse(where: str | None) -> Any:
    """The store of `--warehouse`: of a warehouse file or of a plan; the file need not exist."""
    from warehouse.db.store import Store

    path = Path(where or "stillhouse.duckdb").expanduser()
    if path.suffix == ".toml":
        from distill.plan.plan import load_plan

        path = load_plan(path).warehouse_path
    return Store(path.resolve())


def _runs(where: str | None) -> list[Any]:
    """The runs of a warehouse, newest first."""
    from warehouse.records import Run

    store = open_warehouse(where)
    return sorted(
        (run.located(store.home) for run in store.read(Run)),
        key=lambda run: run.started_at,
        reverse=True,
    )


def _require_warehouse(where: str | None) -> None:
    from warehouse.errors import NotFoundError

    path = open_warehouse(where).path
    if not path.exists():
        raise NotFoundError(f"no warehouse {path}; give one, or a plan, with --warehouse")


def _run(run_id: str, where: str | None, other_names: Sequence[str] = ()) -> Any:
    """The run whose id starts with `run_id`; `other_names` could be meant in its place."""
    from difflib import get_close_matches

    from warehouse.errors import NotFoundError

    _require_warehouse(where)
    runs = [run for run in _runs(where) if run.run_id.startswith(run_id)]
    if len(runs) == 1:
        return runs[0]
    path = open_warehouse(where).path
    if runs:
        raise NotFoundError(
            f"{len(runs)} of the runs in {path} start with '{run_id}'; type more of the id"
        )
    near = get_close_matches(run_id, other_names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`distill runs` lists them"
    raise NotFoundError(f"no run '{run_id}' in {path} ({hint})")
