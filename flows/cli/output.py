"""Print results, runs and the ledger as tables or as JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warehouse.records import Run
from warehouse.wording import format_count

if TYPE_CHECKING:
    from distill.report.diff import TwoRuns

_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode categories of control and format characters, which a terminal would act on."""

SET_SHOWN = 60
"""Characters that are shown of a run's `--set` (`--json` has all) and of a plan's value (the page has)."""

PIPE_WIDTH = 1000
"""Columns of a table that is not printed to a terminal, so that names are whole for `grep`."""

LEDGER_WIDTH = 160
"""Columns below which each word of the ledger's headers and figures has a line of its own."""

WHAT_IF_SHOWN = 5
"""Samples gained and lost that a what-if shows."""


def _console() -> Console:
    """A console as wide as the terminal; a file or a pipe gets each row of a table on one line."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def print_json(value: Any) -> None:
    """JSON on stdout; dates as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def visible(text: str) -> str:
    """A text for the terminal: control and direction characters stand as their code points."""
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in _INVISIBLE
        else f"\\u{ord(char):04x}"
        for char in text
    )


def print_result(result: dict[str, Any]) -> None:
    """A stage's result: a table of contestants for each benchmark, then the other figures."""
    console = Console()
    if result.get("contestants"):
        for benchmark, contestants in result["benchmarks"].items():
            table = Table(title=f"{benchmark}: held-out items, same grader for all")
            metrics = [key for key in next(iter(contestants.values())) if key != "n"]
            for column in ("contestant", "n", *(m.replace("_", " ") for m in metrics)):
                table.add_column(column, justify="left" if column == "contestant" else "right")
            for name, values in contestants.items():
                shown = (_percent(values[metric]) for metric in metrics)
                table.add_row(name, str(values["n"]), *shown)
            console.print(table)
    for reason, number in result.get("reasons", {}).items():
        console.print(f"{number:>8} x {visible(reason)}", markup=False, highlight=False)
    for key, value in result.items():
        if key not in ("contestants", "benchmarks", "report_path", "recipes") and not isinstance(
            value, dict
        ):
            console.print(f"{key.replace('_', ' '):<14} {value}", markup=False, highlight=False)
    for question, answer in result.get("opening", {}).items():
        print(visible(f"{question} {answer}"))
    for benchmark, outcome in result.get("learned", {}).items():
        print(visible(f"{benchmark}: {outcome}. {result['sentences'][benchmark]}"))
    for benchmark, found in result.get("controls", {}).items():
        for sentence in found["sentences"]:
            print(visible(f"{benchmark}: {sentence}"))
    if rule := result.get("ship", {}).get("rule"):
        print(visible(rule))
    for row in result.get("ship", {}).get("conditions", ()):
        state = {True: "met", False: "not met", None: "not measured"}[row["met"]]
        print(visible(f"{state:<14} {row['condition']}: {row['measured']}"))
    if chance := result.get("ship", {}).get("chance_sentence"):
        print(visible(chance))
    if "report_path" in result:
        print(f"report         {result['report_path']}")


def print_export(result: dict[str, Any]) -> None:
    """Print the path and size of each form, then the serving check."""
    for form in result["forms"]:
        where = "/".join(filter(None, (form["folder"], form["file"])))
        print(f"{form['form']:<8} {form['bytes'] / 1e6:>9.1f} MB  {where}")
    if not result["checks"]:
        print("the serving check was skipped")
        return
    first = result["checks"][0]
    table = Table(
        title=f"{format_count(first['n'], 'held-out item')}, against the adapter",
        title_justify="left",
    )
    columns = ("form", "same answer", "required", "identical", first["metric"], "difference")
    for name in (*columns, "prompts that differ"):
        justify: Any = "left" if name == "form" else "right"
        table.add_column(name.replace("_", " "), justify=justify, no_wrap=True)
    for row in result["checks"]:
        points = row["score_difference"]
        table.add_row(
            *(row["form"], _percent(row["agreement"]), _percent(row["least"])),
            *(str(row["identical"]), _percent(row["score"])),
            *("-" if points is None else f"{100 * points:+.1f}", str(row["prompts_differ"])),
        )
    Console(width=max(Console().width, 120)).print(table)


def print_two_runs(runs: TwoRuns, page: Path) -> None:
    """Print the findings on two runs, the plan's keys that differ with both values, and the page."""
    for sentence in runs.sentences:
        print(visible(sentence))
    if runs.plan:
        number = len(runs.plan)
        differ = "differs" if number == 1 else "differ"
        print(f"plan           {format_count(number, 'key')} {differ}, A -> B:")
    for change in runs.plan:
        print(visible(f"  {change.key}: {_clip(change.a)} -> {_clip(change.b)}"))
    print(f"report         {page}")


def _clip(text: str) -> str:
    """A text that fits a line of a table."""
    return text if len(text) <= SET_SHOWN else f"{text[: SET_SHOWN - 1]}…"


def print_data_export(result: dict[str, Any]) -> None:
    """Print where a data set was written, how many rows it has, and what it leaves out."""
    rows = ", ".join(f"{number:,} {name}" for name, number in result["rows"].items())
    if result["form"] != "datasets":
        rows = f"{sum(result['rows'].values()):,}"
    print(visible(f"wrote          {result['path']}"))
    print(f"rows           {rows}, of {format_count(result['samples'], 'sample')}")
    if result["not_scored"] and result["only"] != "all":
        print(
            f"not scored     {format_count(result['not_scored'], 'sample')}, so not kept; "
            f"run `{result['curate']}` to score them first"
        )
    if result["left_out"]:
        print(
            f"left out       {format_count(result['left_out'], 'sample')} that the form "
            f"'{result['form']}' cannot hold (tool calls, or turns that do not alternate)"
        )
    if result["dataset_info"]:
        print(visible(f"LLaMA-Factory  {result['dataset_info']}"))
        if result["not_alternating"]:
            print(
                f"note           {format_count(result['not_alternating'], 'row')} that LLaMA-Factory "
                "skips: user and assistant do not take turns"
            )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def run_row(run: Run) -> dict[str, Any]:
    """One run as a row of `distill runs`."""
    counts = run.summary.get("counts", {})
    return {
        "run_id": run.run_id,
        "verb": run.summary.get("verb"),
        "state": run.state,
        "started_at": f"{run.started_at:%Y-%m-%d %H:%M}",
        "calls_made": counts.get("calls_made", 0),
        "calls_reused": counts.get("calls_reused", 0),
        "kept": counts.get("kept"),
        "plan_name": run.plan_name,
        "plan_hash": run.plan_hash,
        "report_path": run.summary.get("report_path"),
        "tuner": _tuner(run),
        "overrides": run.summary.get("overrides", []),
    }


def _tuner(run: Run) -> str | None:
    """The tuner of a run that fits one student."""
    if (run.summary.get("verb") or "").split(" ")[0] not in ("run", "train", "evaluate"):
        return None
    use: str | None = ((run.plan.get("train") or {}).get("tuner") or {}).get("use")
    return use


def print_runs(runs: Sequence[Run]) -> None:
    """Print a row for each run."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in (
        "run",
        "verb",
        "state",
        "started",
        "calls made",
        "reused",
        "kept",
        "tuner",
        "--set",
    ):
        table.add_column(column, overflow="fold")
    for run in runs:
        row = run_row(run)
        shown = [*list(row.values())[:7], row["tuner"]]
        changed = _clip(visible(" ".join(row["overrides"])))
        table.add_row(*("-" if value is None else str(value) for value in shown), Text(changed))
    _console().print(table)


def print_students(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each student; without any, the command that trains one."""
    if not rows:
        print("no student yet; `distill train PLAN` trains one")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("student", "tuner", "rows", "epochs", "final loss", "held-out loss", "memory",
                 "time", "made", "path"):  # fmt: skip
        justify: Any = "left" if name in ("student", "tuner", "made", "path") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        memory = "-" if row["memory"] is None else f"{row['memory'] / 1e9:.2f} GB"
        losses = ("-" if row[key] is None else f"{row[key]:.4f}"
                  for key in ("final_loss", "held_out_loss"))  # fmt: skip
        table.add_row(
            *(row["student_id"][:12], row["tuner"], str(row["rows"]), str(row["epochs"])),
            *(*losses, memory, f"{row['seconds']:.0f} s", f"{row['created_at']:%Y-%m-%d %H:%M}"),
            Text(row["path"]),
        )
    Console(width=max(Console().width, 120 + max(len(row["path"]) for row in rows))).print(table)


def print_what_if(comparison: dict[str, Any]) -> None:
    """Print how many samples are kept now and with the changes, the reasons, and some samples."""
    now, then = comparison["kept_now"], comparison["kept_then"]
    print(f"{', '.join(comparison['changes'])}: {then} of {comparison['samples']} kept, {now} now")
    table = Table(box=None, pad_edge=False)
    for name in ("first reason", "now", "then"):
        table.add_column(name, justify="left" if name == "first reason" else "right")
    before, after = comparison["reasons_now"], comparison["reasons_then"]
    for reason in dict.fromkeys([*before, *after]):
        table.add_row(Text(reason), str(before.get(reason, 0)), str(after.get(reason, 0)))
    Console().print(table)
    for name in ("gained", "lost"):
        for row in comparison[name][:WHAT_IF_SHOWN]:
            line = f"{name:<7} {row['question']} -> {row['completion']} ({row['reason']})"
            print(visible(" ".join(line.split())[:200]))
        if len(comparison[name]) > WHAT_IF_SHOWN:
            print(
                f"{name:<7} and {len(comparison[name]) - WHAT_IF_SHOWN} more; --json has them all"
            )
    print("nothing was run and nothing was written")


def print_bakeoff(result: dict[str, Any]) -> None:
    """Print a row per benchmark and tuner, the best first, with time, memory and size."""
    for benchmark, text in result["verdicts"].items():
        rows = [row for row in result["rows"] if row["benchmark"] == benchmark]
        metric = next(key for key in rows[0] if isinstance(rows[0][key], list))
        table = Table(
            title=f"{benchmark}: {format_count(rows[0]['n'], 'held-out item')}, 95 % intervals",
            box=None,
        )
        for name in ("tuner", metric.replace("_", " "), "minus base", "minus best", "p",
                     "parameters", "time", "memory", "size", "latency"):  # fmt: skip
            table.add_column(name, justify="left" if name == "tuner" else "right", no_wrap=True)
        for row in rows:
            p = "-" if row["p_best"] is None else f"{row['p_best']:.3f}"
            spans = (_span(row[key]) for key in (metric, "against_base", "against_best"))
            table.add_row(Text(row["tuner"]), *spans, p, *_costs(row))
        Console(width=max(Console().width, 150)).print(table)
        print(text)
    print(f"report         {result['report_path']}")


def print_study(result: dict[str, Any]) -> None:
    """Print the findings of a study, benchmark by benchmark."""
    tokens = result.get("supervised_tokens", {})
    for name, rows in result["rows"].items():
        of = (
            f", {format_count(tokens[name], 'supervised token')} an epoch" if name in tokens else ""
        )
        print(f"{name:<18} {format_count(rows, 'row')}{of}")
    if result.get("caveat"):
        print(f"note: {result['caveat']}")
    findings = result.get("findings") or {
        benchmark: [text] for benchmark, text in result["sentences"].items()
    }
    for benchmark, lines in findings.items():
        for line in lines:
            print(f"{benchmark}: {line}")
    print(f"report         {result['report_path']}")


def _span(interval: list[float] | None) -> str:
    if interval is None:
        return "-"
    value, low, high = (100 * x for x in interval)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _costs(row: dict[str, Any]) -> list[str]:
    latency = "-" if row["latency_s"] is None else f"{row['latency_s']:.3f} s"
    if "seconds" not in row:
        return ["-", "-", "-", "-", latency]
    memory = "-" if row["memory"] is None else f"{row['memory'] / 1e9:.2f} GB"
    sizes = [f"{row['trainable_parameters']:,}", f"{row['seconds']:.0f} s", memory]
    return [*sizes, f"{row['size'] / 1e6:.1f} MB", latency]


def print_ledger(rows: Sequence[dict[str, Any]], runs: Sequence[Run]) -> None:
    """Print calls, tokens, cost and latency of each run, teacher and recipe, and the total cost.

    On a narrow terminal the names are folded, never the figures.
    """
    console = _console()
    fold = _word_per_line if console.width < LEDGER_WIDTH else str
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("run", "teacher", "recipe"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "tokens in", "out", "USD", "retries", "cut off", "p50 / p95 / p99 s"):
        table.add_column(fold(name), no_wrap=True, justify="right")
    for row in rows:
        usd = "unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.4f}"
        if row["calls_without_price"] and row["cost_usd"] is not None:
            usd += f" +{row['calls_without_price']:,} unpriced"
        keys = ("calls", "prompt_tokens", "completion_tokens")
        latency = " / ".join(f"{row[f'latency_p{p}_s']:.2f}" for p in (50, 95, 99))
        table.add_row(
            *(Text(row[key]) for key in ("run_id", "teacher", "recipe")),
            *(f"{row[key]:,}" for key in keys),
            fold(usd),
            *(f"{row[key]:,}" for key in ("retries", "cut_off")),
            fold(latency),
        )
    console.print(table)
    print(f"in all: {_usd_in_all(rows, runs)}")


def _word_per_line(text: str) -> str:
    return text.replace(" /", "/").replace(" ", "\n")


def _usd_in_all(rows: Sequence[dict[str, Any]], runs: Sequence[Run]) -> str:
    known = sum(row["cost_usd"] or 0.0 for row in rows)
    unpriced = sum(row["calls_without_price"] for row in rows)
    usd, tokens = _besides(runs, "lost")
    text = f"{known:.4f} USD" + (
        f" and {format_count(unpriced, 'call')} of unknown price" if unpriced else ""
    )
    if tokens:
        text += (
            f"; besides at most {usd:.4f} USD, {format_count(tokens, 'token')}, for requests that were sent "
            "and whose reply never came"
        )
    usd, tokens = _besides(runs, "unmetered")
    if tokens:
        text += (
            f"; budgets count {usd:.4f} USD, {format_count(tokens, 'token')}, more for replies whose "
            "usage the server did not report credibly"
        )
    return text


def _besides(runs: Sequence[Run], name: str) -> tuple[float, int]:
    """USD and tokens of runs that no call records."""
    amounts = [run.summary.get(name, {}) for run in runs]
    return sum(a.get("usd", 0.0) for a in amounts), sum(a.get("tokens", 0) for a in amounts)
