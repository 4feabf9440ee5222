"""Define the verbs that take a plan, from `check` to schedules. Heavy imports inside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import (
    Json,
    PlanFile,
    Set,
    Verbose,
    app,
    refuse_shipped_plan,
    staged,
)
from warehouse.errors import Stopped
from warehouse.extras import TRAINING, require_modules
from warehouse.wording import format_count

if TYPE_CHECKING:
    from distill.plan.plan import Plan
    from distill.plan.sections import TrainSection


@app.command()
def init(
    path: Annotated[
        Path, typer.Argument(help="Where to write the plan: a .toml file, or a folder for it.")
    ] = Path("plan.toml"),
) -> None:
    """Write a plan to start from (the default plan)."""
    from warehouse.errors import PlanError

    path = path if path.suffix == ".toml" else path / "plan.toml"
    if path.exists():
        raise PlanError(f"{path} already exists; choose another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_default_plan(), path)
    print(f"wrote {path}; next: distill check {path}")


def _default_plan() -> Path:
    import distill

    return Path(distill.__file__).parent / "plans" / "subjects.toml"


@app.command()
def check(plan: PlanFile, set_: Set = None) -> None:
    """Resolve every name, asset and key of a plan before anything is spent."""
    from distill.plan.base_check import check_base
    from distill.plan.plan import load_plan
    from distill.plan.preflight import (
        check_evaluation,
        check_sampling,
        note_seeds_not_asked,
        refuse_bounds_without_data,
        refuse_recipes_without_samples,
        ship_lines,
        summarize_documents,
    )
    from distill.plan.project import open_store
    from flows.stages.estimate import estimate_of, held_out_requests
    from flows.stages.held_out import prompts_held_out
    from flows.stages.known_prompts import (
        is_counted_ahead,
        prompts_of,
        refuse_prompts_as_benchmark,
    )
    from flows.stages.later_calls import Later
    from flows.stages.likelihood import BaseLikelihood
    from flows.stages.outgoing import outgoing_lines
    from flows.stages.training_estimate import training_line
    from quality.scoring.scorer import ScorerContext
    from warehouse.catalog import name_of
    from warehouse.errors import TeacherUnusable
    from warehouse.inputs import assets

    loaded = load_plan(plan, set_ or ())
    print(f"plan      {loaded.name} ({loaded.plan_hash[:12]})")
    for line in outgoing_lines(loaded):
        print(line)
    fault: TeacherUnusable | None = None
    try:
        for line in loaded.teacher.check():
            print(f"teacher   {line}")
    except TeacherUnusable as error:  # raised at the end: the estimate does not need the teacher
        fault = error
    loaded.require("generate")
    refuse_recipes_without_samples(loaded)
    store = open_store(loaded)
    prompts = 0
    for recipe in loaded.prompt_recipes:
        number = sum(1 for _ in recipe.ask_all(loaded.folder))
        if is_counted_ahead(recipe):
            print(f"recipe    {name_of(recipe)}: {format_count(number, 'prompt')}")
        prompts += number
    later = Later.of([loaded], store)
    for line in later.lines:
        print(f"recipe    {line}")
    prompts += later.seeds
    for line in _source_lines(loaded):
        print(line)
    for documents in summarize_documents(loaded):
        for line in documents.lines():
            print(f"documents {line}")
    refuse_bounds_without_data(loaded)
    for line in note_seeds_not_asked(loaded):
        print(f"note      {line}")
    for line in check_sampling(loaded):
        print(f"note      {line}")
    base = BaseLikelihood(loaded.training.base) if loaded.train else None
    context = ScorerContext(likelihood=base, folder=loaded.folder)
    for scorer in loaded.quality.scorers:
        scorer.with_tools(context).check()
        asks = ""
        if scorer.asks:
            model = (loaded.judge if scorer.asks == "judge" else loaded.teacher).identity
            least = prompts * scorer.calls_per_sample()
            calls = format_count(least, "call")
            asks = f": {calls} of {model} or more in all, not in the estimate, in the budget"
        print(f"scorer    {name_of(scorer)}{asks}")
    counts = check_evaluation(loaded, store)
    refuse_prompts_as_benchmark(loaded)
    for benchmark in loaded.evaluate.every_benchmark:
        off_task = " off task" if benchmark in loaded.evaluate.off_task else ""
        repeated = format_count(benchmark.repeated, "repeated row")
        repeated = f"; {repeated} left out" if benchmark.repeated else ""
        print(
            f"benchmark {benchmark.label}: "
            f"{format_count(counts[benchmark.label], 'held-out item')}{off_task}{repeated}"
        )
    for line in _contestant_lines(loaded, counts):
        print(line)
    for kind, line in ship_lines(loaded, counts):
        print(f"{kind:9} {line}")
    for name, endpoint in loaded.evaluate.endpoints.items():
        number = sum(1 for _ in held_out_requests(loaded, name, endpoint))
        for line in endpoint.check():
            calls = format_count(number, "call")
            print(f"endpoint  {name}: {line}; {calls}, not in the estimate, in the budget")
    if loaded.train is None:
        print("train     no [train] section: only `distill generate` and `curate` can run")
    elif loaded.train.base in assets.names("model"):
        state = "on hand" if assets.is_cached(loaded.train.base) else "will be fetched"
        print(f"train     base {loaded.train.base} ({state})")
    else:
        folder = Path(loaded.training.base).is_dir()
        print(f"train     base {loaded.train.base} ({'local folder' if folder else 'hub id'})")
    if loaded.train is not None:
        loaded.train.tuner.ready()
        for line in check_base(loaded, (prompt for _, prompt in prompts_of(loaded)), ask_hub=True):
            print(f"note      {line}")
        print(f"train     {training_line(loaded, store, prompts)}")
        for line in _not_here(loaded.train):
            print(f"note      {line}")
    for line in prompts_held_out(loaded):
        print(f"held out  {line}")
    for line in estimate_of(loaded, store, "run" if loaded.train else "generate").lines():
        print(f"estimate  {line}")
    if fault is not None:
        raise fault
    print("ok        no request was sent and nothing was spent")


def _contestant_lines(plan: Plan, counts: Mapping[str, int]) -> list[str]:
    """Who answers how many held-out items, each once; the contestants without a model last."""
    from distill.contestants.contestant import is_control
    from distill.contestants.controls import has_classes

    settings = plan.evaluate
    on_task = sum(counts[benchmark.label] for benchmark in settings.benchmarks)
    every = sum(counts.values())
    models = [name for name in settings.every_contestant if not is_control(name)]
    nothing_to_copy = all(has_classes(benchmark) for benchmark in settings.benchmarks)
    scripts = [
        name
        for name in settings.every_contestant
        if is_control(name) and not (name == "control:copy" and nothing_to_copy)
    ]
    lines = []
    for names, how in ((models, ""), (scripts, ", without a model, at no cost")):
        answers = sum(on_task if name in settings.added_controls else every for name in names)
        if "control:copy" in names:
            answers -= sum(counts[b.label] for b in settings.benchmarks if has_classes(b))
        seeds = plan.train.seeds if plan.train and "student" in names else 1
        answers += every * (seeds - 1)
        names = [f"student ({seeds} seeds)" if seeds > 1 and name == "student" else name
                 for name in names]  # fmt: skip
        if counts and names:
            lines.append(f"evaluate  {format_count(answers, 'answer')} of {', '.join(names)}{how}")
    return lines


def _source_lines(plan: Plan) -> list[str]:
    """What is in each file of rows, the columns that nobody reads, and what looks like a mistake."""
    from distill.plan.base_check import TokenCounter
    from distill.plan.preflight import summarize_sources

    counter = TokenCounter.of(plan)
    longest = plan.train.max_length if plan.train else None
    lines = []
    for summary in summarize_sources(plan, lambda row: counter.is_longer(row, longest)):
        counts = [format_count(summary.rows, "row")]
        for number, what in (
            (summary.references, "reference"),
            (summary.passages, "passage"),
            (summary.choices, "choices"),
        ):
            counts.append(f"{number:,} with {what}")
        for number, fault in (
            (summary.duplicates, "repeated"),
            (summary.blank, "blank and left out"),
            (summary.long, f"over max_length = {longest} tokens{counter.how}"),
        ):
            if number:
                counts.append(f"{number:,} {fault}")
        forms = [form for form in summary.forms if form not in ("prompt", "messages")]
        form = f" ({', '.join(forms)})" if forms else ""
        lines.append(f"rows      {summary.source}{form}: {', '.join(counts)}")
        if summary.unread:
            unread = ", ".join(summary.unread[:12]) + (", ..." if len(summary.unread) > 12 else "")
            lines.append(
                f"rows      {summary.source}: kept with the rows, read by nobody: {unread}"
            )
        lines += [f"note      {note}" for note in summary.notes]
    return lines


def _not_here(section: TrainSection) -> list[str]:
    """What training needs and this machine lacks; a plan may be checked on another machine."""
    from importlib.util import find_spec

    from train.loop import tracking
    from warehouse.errors import MissingExtraError
    from warehouse.extras import TRAINING, require_modules

    notes = []
    if section.packing and find_spec("flash_attn") is None:
        notes.append(
            "train.packing = true needs a GPU and FlashAttention (package flash-attn), which is "
            "not installed here; `distill train` would refuse it on this machine"
        )
    try:
        tracking.require_tracker(section.track)
        require_modules("`distill train`", *TRAINING)
    except MissingExtraError as error:
        notes.append(str(error))
    return notes


@app.command()
def run(plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False) -> None:
    """Run the whole plan: generate, curate, train, evaluate, report."""
    staged("run", "flows.stages.end_to_end:end_to_end", plan, set_, json_, verbose)


@app.command()
def generate(
    plan: PlanFile, set_: Set = None, json_: Json = False, verbose: Verbose = False
) -> None:
    """Request the teacher's replies to prompts that have none yet."""
    staged("generate", "flows.stages.generate:generate", plan, set_, json_, verbose)


@app.command()
def curate(
    plan: PlanFile,
    set_: Set = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            help="Show what another gate would keep, without writing anything.",
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
    """Score recorded samples and choose which to keep."""
    from flows.cli import output
    from warehouse.errors import UsageError

    if paid and not audit:
        raise UsageError("--paid needs --audit: it also measures scorers that send paid requests")
    if what_if and audit:
        raise UsageError("--what-if and --audit cannot be combined; give one of them")
    if what_if:
        from flows.studies.what_if import what_if as compared

        comparison = compared(str(plan), set_ or (), what_if)
        output.print_json(comparison) if json_ else output.print_what_if(comparison)
    elif audit:
        from flows.stages.scorer_audit import audit_scorers, print_audit

        rows = audit_scorers(str(plan), set_ or (), paid=paid)
        output.print_json(rows) if json_ else print_audit(rows)
    else:
        staged("curate", "flows.stages.curate:curate", plan, set_, json_, verbose)


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
    from flows.review.server import review as reviewed

    refuse_shipped_plan(plan)

    reviewed(str(plan), set_ or (), only=only, limit=limit, port=port, open_page=open_)


@app.command()
def train(
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
    """Train the student on the samples that the gate keeps."""
    overrides = [*(set_ or ()), *([f"train.processes={processes}"] if processes else [])]
    if audit:
        _train_audit(plan, overrides, json_, verbose)
    else:
        staged("train", "flows.stages.train:train", plan, overrides, json_, verbose)


def _train_audit(plan: Path, overrides: Sequence[str], as_json: bool, verbose: bool) -> None:
    from warehouse.errors import TrainingError

    def show(figures: dict[str, Any]) -> None:
        from rich.console import Console

        from flows.runtime.training_monitor import print_audit

        print_audit(figures, Console())

    result = staged(
        "train", "flows.stages.train:audit", plan, overrides, as_json, verbose, show=show
    )
    if result["refused"]:
        raise TrainingError(result["refused"])


@app.command()
def join(
    rendezvous: Annotated[
        str,
        typer.Argument(
            help="train.rendezvous of the plan that another machine runs.", metavar="HOST:PORT"
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Leave after one training.")] = False,
) -> None:
    """Train together with another machine, which runs a plan with train.nodes, until Ctrl-C."""
    require_modules("`distill join`", *TRAINING)
    from distill.learning.nodes import join as join_trainings
    from flows.runtime.progress import say

    try:
        join_trainings(rendezvous, once=once, say=say)
    except KeyboardInterrupt:
        raise Stopped("this node has left", f"distill join {rendezvous}") from None


@app.command()
def cancel(plan: PlanFile, set_: Set = None) -> None:
    """Cancel the open batches of a plan's batch teacher; the next run collects finished replies."""
    from distill.plan.plan import load_plan
    from warehouse.catalog import name_of
    from warehouse.errors import PlanError

    teacher = load_plan(plan, set_ or ()).teacher
    if not hasattr(teacher, "cancel"):
        raise PlanError(
            f"teacher '{name_of(teacher)}' has nothing to cancel: its requests end with the command; "
            "only openai_batch has requests that go on"
        )
    ids = teacher.cancel()
    for batch_id in ids:
        print(f"cancelling {batch_id}")
    print(
        f"{format_count(len(ids), 'batch')}; `distill generate {plan}` collects the replies they had finished"
    )
