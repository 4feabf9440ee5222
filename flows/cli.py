"""The command `distill`: one short function per verb; heavy imports inside."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from warehouse.errors import StillhouseError, Stopped

app = typer.Typer(
    name="distill",
    help="Distil a teacher LLM into a small student, and tell the truth about the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

PlanFile = Annotated[Path, typer.Argument(help="The plan file (TOML).", metavar="PLAN")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the plan: a.b=value.", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON, alone on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's logs.")]
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
_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main() -> None:
    """Entry point: a foreseen error is one line and its exit code; a bug keeps its traceback."""
    try:
        app()
    except StillhouseError as error:
        print(f"distill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _FULL_OR_CLOSED:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"distill: {error.strerror}{where}; make room or mend the rights, then run again: "
              "what was received is kept", file=sys.stderr)  # fmt: skip
        sys.exit(2)


def _staged(
    verb: str,
    flow_name: str,
    plan: Path,
    overrides: Sequence[str] | None,
    as_json: bool,
    verbose: bool,
    tuners: Sequence[str] | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Check all that can be checked at once, prepare Prefect, run one flow; `tuners` are a
    bake-off's."""
    from distill.plan import load_plan
    from warehouse.store import Store

    loaded = load_plan(plan, overrides or ())
    loaded.require(verb)
    store = Store(Path(loaded.warehouse).resolve())
    store.check()
    from flows import present
    from flows.estimate import estimate_of
    from flows.progress import say, tell_logs

    tell_logs()
    estimated = estimate_of(loaded, store, verb)  # reads every row: a malformed one is told now
    if estimated.calls:
        for line in estimated.lines():
            say(line)
    if verbose:
        os.environ.update(PREFECT_LOGGING_LEVEL="INFO")
    from importlib import import_module

    from flows import engines

    module, _, name = flow_name.partition(":")
    try:
        with engines.server(Path(loaded.warehouse).resolve().parent):
            flow: Callable[..., dict[str, Any]] = getattr(import_module(module), name)
            more = () if tuners is None else (list(tuners),)
            result = flow(str(plan), list(overrides or ()), *more)
    except KeyboardInterrupt:
        from flows.tasks import command

        resume = command(verb, str(plan), overrides or (), tuners or ())
        raise Stopped("stopped; every reply received is kept", resume) from None
    shown = show or (present.print_result if tuners is None else present.print_bakeoff)
    present.print_json(result) if as_json else shown(result)
    return result


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the plan.")] = Path("plan.toml"),
) -> None:
    """Write a plan to start from (the default SciQ plan)."""
    from warehouse.errors import PlanError

    if path.exists():
        raise PlanError(f"{path} is there already; name another file or move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_default_plan(), path)
    print(f"wrote {path}; next: distill check {path}")


def _default_plan() -> Path:
    import distill

    return Path(distill.__file__).parent / "plans" / "sciq.toml"


@app.command()
def check(plan: PlanFile, set_: Set = None) -> None:
    """Resolve every name, asset and key of a plan before anything is spent."""
    from distill.plan import load_plan
    from flows.estimate import estimate_of
    from flows.likelihood import BaseLikelihood
    from quality.scorer import Tools
    from warehouse import assets
    from warehouse.catalog import name_of
    from warehouse.errors import TeacherUnusable
    from warehouse.store import Store

    loaded = load_plan(plan, set_ or ())
    print(f"plan      {loaded.name} ({loaded.plan_hash[:12]})")
    fault: TeacherUnusable | None = None
    try:
        for line in loaded.teacher.check():
            print(f"teacher   {line}")
    except TeacherUnusable as error:  # told in the end: what it would cost can be said without it
        fault = error
    loaded.require("generate")
    prompts = 0
    for recipe in loaded.datagen.recipe:
        number = sum(1 for _ in recipe.ask_all(loaded.folder))
        print(f"recipe    {name_of(recipe)}: {number} prompts")
        prompts += number
    base = BaseLikelihood(loaded.train.base) if loaded.train else None
    tools = Tools(likelihood=base, folder=loaded.folder)
    for scorer in loaded.quality.scorers:
        scorer.with_tools(tools).check()
        asks = ""
        if scorer.asks:
            model = (loaded.judge if scorer.asks == "judge" else loaded.teacher).identity
            least = prompts * scorer.calls_per_sample()
            asks = f": {least} calls of {model} or more in all, not in the estimate, in the budget"
        print(f"scorer    {name_of(scorer)}{asks}")
    for benchmark in loaded.evaluate.benchmarks:
        number = sum(1 for _ in benchmark.items(loaded.folder))
        print(f"benchmark {name_of(benchmark)}: {number} held-out items")
    if loaded.train is None:
        print("train     no [train] section: only `distill generate` and `curate` can run")
    elif loaded.train.base in assets.names("model"):
        state = "on hand" if assets.is_cached(loaded.train.base) else "will be fetched"
        print(f"train     base {loaded.train.base} ({state})")
    else:
        folder = Path(loaded.train.base).is_dir()
        print(f"train     base {loaded.train.base} ({'local folder' if folder else 'hub id'})")
    if loaded.train is not None:
        loaded.train.tuner.ready()
    for line in estimate_of(loaded, Store(Path(loaded.warehouse).resolve())).lines():
        print(f"estimate  {line}")
    if fault is not None:
        raise fault
    print("ok        nothing was asked and nothing was spent")


@app.command()
def run(plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False) -> None:
    """Run the whole plan: generate, curate, fit, judge, report."""
    _staged("run", "flows.end_to_end:end_to_end", plan, set_, json_, verbose)


@app.command()
def generate(
    plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False
) -> None:
    """Ask the teacher what is not answered yet."""
    _staged("generate", "flows.generate:generate", plan, set_, json_, verbose)


@app.command()
def curate(
    plan: PlanFile,
    set_: Set = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            help="Show what another gate would keep, and do nothing.",
            metavar="GATE.KEY=VALUE",
        ),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Measure each scorer on labelled data instead.")
    ] = False,
    paid: Annotated[
        bool, typer.Option("--paid", help="With --audit: also scorers that ask a model.")
    ] = False,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score the samples on hand and choose which to keep."""
    from flows import present
    from warehouse.errors import PlanError

    if paid and not audit:
        raise PlanError("--paid goes with --audit: it lets scorers that ask a model be measured")
    if what_if and audit:
        raise PlanError("--what-if and --audit are two questions; ask one at a time")
    if what_if:
        from flows.whatif import what_if as compared

        found = compared(str(plan), set_ or (), what_if)
        present.print_json(found) if json_ else present.print_what_if(found)
    elif audit:
        from flows.audit import audit_scorers, print_audit

        rows = audit_scorers(str(plan), set_ or (), paid=paid)
        present.print_json(rows) if json_ else print_audit(rows)
    else:
        _staged("curate", "flows.curate:curate", plan, set_, json_, verbose)


@app.command()
def review(
    plan: PlanFile,
    set_: Set = None,
    only: Annotated[
        str, typer.Option(help="Which samples: undecided, all, dropped or kept.", metavar="WHICH")
    ] = "undecided",
    limit: Annotated[int | None, typer.Option(help="At most so many samples.", min=1)] = None,
    port: Annotated[int, typer.Option(help="0: any free port.", min=0, max=65535)] = 0,
    open_: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the browser; by default in a terminal."),
    ] = None,
) -> None:
    """Accept, reject or edit samples on a local page, the uncertain ones first."""
    from flows.review import review as reviewed

    reviewed(str(plan), set_ or (), only=only, limit=limit, port=port, open_page=open_)


@app.command()
def fit(
    plan: PlanFile,
    set_: Set = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes that train together: train.processes.", min=1)
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Show what the trainer would see; train nothing.")
    ] = False,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Fit the student to the kept samples on hand."""
    overrides = [*(set_ or ()), *([f"train.processes={processes}"] if processes else [])]
    if audit:
        _fit_audit(plan, overrides, json_, verbose)
    else:
        _staged("fit", "flows.fit:fit", plan, overrides, json_, verbose)


def _fit_audit(plan: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    from warehouse.errors import StageError

    def show(figures: dict[str, Any]) -> None:
        from rich.console import Console

        from flows.monitor import print_audit

        print_audit(figures, Console())

    try:
        found = _staged("fit", "flows.fit:audit", plan, overrides, as_json, verbose, show=show)
    except Stopped as stop:
        resume = stop.resume.replace("'fit --audit'", "fit")
        raise type(stop)(stop.message, f"{resume} --audit") from None
    if found["refused"]:
        raise StageError(found["refused"])


@app.command()
def bakeoff(
    plan: PlanFile,
    tuners: Annotated[
        list[str],
        typer.Option(
            help="Names parted by commas, or a table {use = 'lora', rank = 4}; may be repeated.",
            metavar="NAMES",
        ),
    ],
    set_: Set = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Fit several tuners to the same samples and compare them on the same items."""
    _staged("bakeoff", "flows.bakeoff:bakeoff", plan, set_, json_, verbose, tuners)


@app.command()
def judge(plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False) -> None:
    """Let the contestants answer the held-out items and compare them."""
    _staged("judge", "flows.judge:judge", plan, set_, json_, verbose)


@app.command()
def export(
    plan: PlanOrStudent = None,
    student: StudentName = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="adapter, merged or gguf; may be repeated. Left out: all that can be had.",
            metavar="FORM",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: exports/<student>, beside the warehouse.", metavar="FOLDER"),
    ] = None,
    outtype: Annotated[
        str, typer.Option(help="Of the GGUF: f32, f16, bf16 or q8_0.", metavar="TYPE")
    ] = "f16",
    dtype: Annotated[
        str,
        typer.Option(help="Of the merged weights: float32, bfloat16, float16.", metavar="TYPE"),
    ] = "float32",
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask every form the same held-out items.")
    ] = True,
    items: Annotated[int, typer.Option(help="Items of the check.", min=1)] = 50,
    merged_least: Annotated[
        float, typer.Option(help="Least share of the adapter's answers.", min=0, max=1)
    ] = 0.99,
    gguf_least: Annotated[float, typer.Option(help="The same of the GGUF.", min=0, max=1)] = 0.95,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an export that is there.")
    ] = False,
    set_: Set = None,
    warehouse: Where = None,
    json_: Json = False,
) -> None:
    """Write a student as adapter, merged model and GGUF, and check that they say the same."""
    from warehouse.errors import StageError

    plan_path, student = _who(plan, student)
    from flows import present
    from flows.export import Wanted, exported
    from flows.students import find_student

    least = {"merged": merged_least, "gguf": gguf_least}
    wanted = Wanted(to or (), out, outtype, dtype, check, items, least, force)
    try:
        result = exported(find_student(plan_path, set_ or (), student, warehouse), wanted)
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None
    present.print_json(result) if json_ else present.print_export(result)
    if result["faults"]:
        raise StageError(
            f"the serving check failed: {'; '.join(result['faults'])}; what was said is in "
            f"{result['folder']}/serving_check.json"
        )


@app.command()
def chat(
    plan: PlanOrStudent = None,
    student: StudentName = None,
    base: Annotated[bool, typer.Option("--base", help="The untuned base instead.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="The student and its base, both.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="A system message.", metavar="TEXT")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.", min=1)] = 256,
    set_: Set = None,
    warehouse: Where = None,
) -> None:
    """Talk with the student; through a pipe, one line is one turn."""
    plan_path, student = _who(plan, student)
    from flows.chat import chat as talk

    try:
        talk(plan_path, set_ or (), student, warehouse, base, compare, system, max_new_tokens)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def report(
    run_id: Annotated[
        str, typer.Argument(help="A run id, or the start of one; the newest report if left out.")
    ] = "",
    warehouse: Where = None,
) -> None:
    """Print the path of a run's report."""
    from warehouse.errors import StageError

    candidates = [_run(run_id, warehouse)] if run_id else _runs(warehouse)
    for found in candidates:
        path = found.summary.get("report_path")
        if path and Path(path).is_file():
            print(path)
            return
    state = (
        f"run {run_id} is {candidates[0].state}" if run_id else f"{len(candidates)} runs are here"
    )
    raise StageError(f"{state}, and there is no report; `distill run PLAN` writes one")


@app.command()
def runs(
    warehouse: Where = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="The ledger: tokens, cost, latency and retries.")
    ] = False,
    json_: Json = False,
) -> None:
    """List the runs of a warehouse, newest first."""
    from flows import present

    found = _runs(warehouse)
    if cost:
        ledger = _store(warehouse).query("SELECT * FROM ledger").to_dicts()
        present.print_json(ledger) if json_ else present.print_ledger(ledger, found)
    elif json_:
        present.print_json([present.run_row(run) for run in found])
    else:
        present.print_runs(found)


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="A run id, or one of: samples, failures.")
    ] = "samples",
    warehouse: Where = None,
    only: Annotated[
        str, typer.Option(help="Which samples: all, kept or dropped.", metavar="WHICH")
    ] = "all",
    limit: Annotated[int, typer.Option(help="How many rows at most.", min=1)] = 10,
    json_: Json = False,
) -> None:
    """Show a run, or samples with their scores and the newest choice, or failures."""
    from flows import present
    from warehouse.errors import PlanError

    wanted = {"all": "true", "kept": "kept", "dropped": "NOT kept"}
    if only not in wanted:
        raise PlanError(f"--only is one of {', '.join(wanted)}, not '{only}'")
    queries = {"samples": f"samples_with_scores WHERE {wanted[only]}", "failures": "failures"}
    if what in queries:
        rows = _store(warehouse).query(f"SELECT * FROM {queries[what]} LIMIT {limit}").to_dicts()
    else:
        found = _run(what, warehouse)
        rows = [{**present.run_row(found), "summary": found.summary, "plan": found.plan}]
    if json_:
        present.print_json(rows)
        return
    for row in rows:
        for key, value in row.items():
            text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
            shown = text if len(text) < 400 else text[:400] + " ..."
            print(f"{key:<16} {present.visible(shown)}")
        print()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the warehouse's tables and views.")],
    warehouse: Where = None,
    json_: Json = False,
) -> None:
    """Read the warehouse with SQL, read-only."""
    from flows import present

    table = _store(warehouse).query(query)
    if json_:
        present.print_json(table.to_dicts())
    else:
        import polars as pl

        with pl.Config(tbl_rows=100, fmt_str_lengths=60, tbl_hide_dataframe_shape=True):
            print(table)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="teacher, recipe, scorer, ...")] = None,
    name: Annotated[
        str | None, typer.Argument(help="One part: its options, each with what it means.")
    ] = None,
) -> None:
    """List the parts that a plan can name, each with what it does."""
    from warehouse import catalog
    from warehouse.errors import PlanError

    if kind is not None and kind not in catalog.KINDS:
        hint = catalog.did_you_mean(kind, sorted(catalog.KINDS))
        raise PlanError(f"unknown kind of part '{kind}' ({hint})")
    if kind and name:
        print(catalog.summary(kind, name))
        for option, default, meaning in catalog.options(kind, name):
            print(f"  {option} = {default}\n      {meaning}")
        labels = getattr(catalog.part_class(kind, name), "labels", ())
        if labels:
            print(f"  labels that a gate may bound, as {name}.<label>_min: {', '.join(labels)}")
        return
    for one in [kind] if kind else catalog.KINDS:
        print(one)
        for name in catalog.names(one):
            print(f"  {name:<14} {catalog.summary(one, name)}")
            print(f"  {'':<14} options: {', '.join(catalog.option_names(one, name)) or 'none'}")


@app.command()
def assets(
    fetch: Annotated[str | None, typer.Option(help="Fetch this asset now.", metavar="NAME")] = None,
) -> None:
    """List the models and data sets known by name, and whether they are on hand."""
    from warehouse import assets as known

    if fetch:
        print(known.path(fetch))
        return
    for name in known.names():
        entry = known.entry(name)
        state = "on hand" if known.is_cached(name) else "to be fetched"
        print(f"{name:<24} {entry.kind:<6} {entry.licence:<14} {state}")
    print(f"cache: {known.cache_dir()}")


@app.command()
def cancel(plan: PlanFile, set_: Set = None) -> None:
    """Cancel what a plan's batch teacher has in progress; the next run takes what was done."""
    from distill.plan import load_plan
    from warehouse.catalog import name_of
    from warehouse.errors import PlanError

    teacher = load_plan(plan, set_ or ()).teacher
    if not hasattr(teacher, "cancel"):
        raise PlanError(
            f"teacher '{name_of(teacher)}' leaves nothing in progress when it is stopped; "
            "only openai_batch can be cancelled"
        )
    ids = teacher.cancel()
    for batch_id in ids:
        print(f"cancelling {batch_id}")
    print(f"{len(ids)} batches; `distill generate {plan}` takes what they had done")


@app.command()
def serve(
    plan: PlanFile,
    cron: Annotated[str, typer.Option(help='When to run, e.g. "0 3 * * *".')],
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Run a plan on a schedule with Prefect, until stopped."""
    from distill.plan import load_plan

    loaded = load_plan(plan, set_ or ())
    os.environ["PREFECT_LOGGING_LEVEL"] = "INFO" if verbose else "WARNING"
    from flows import deployments

    home = Path(loaded.warehouse).resolve().parent
    deployments.serve(plan.resolve(), list(set_ or ()), loaded.name, home, cron)


def _who(plan: Path | None, student: str | None) -> tuple[str | None, str | None]:
    """Plan and student; the folder of a student may stand in the plan's place."""
    if plan is not None and student is None and plan.is_dir():
        return None, str(plan)
    return (str(plan) if plan else None), student


def _store(where: str | None) -> Any:
    from warehouse.store import Store

    path = Path(where or "stillhouse.duckdb")
    if path.suffix == ".toml":
        from distill.plan import load_plan

        path = Path(load_plan(path).warehouse)
    return Store(path.resolve())


def _runs(where: str | None) -> list[Any]:
    """The runs of a warehouse, newest first."""
    from warehouse.records import Run

    return sorted(_store(where).read(Run), key=lambda run: run.started_at, reverse=True)


def _run(run_id: str, where: str | None) -> Any:
    from warehouse.errors import StageError

    found = [run for run in _runs(where) if run.run_id.startswith(run_id)]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise StageError(f"{what} '{run_id}' in {_store(where).path}; `distill runs` lists them")
    return found[0]


if __name__ == "__main__":
    main()
