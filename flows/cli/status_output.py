"""Print how a scheduled plan stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_status(found: dict[str, Any]) -> None:
    """Next tick, spend, promoted student, what waits, and the last ticks."""
    console = Console()
    lines = [("plan", found["plan"])]
    lines.append(("next tick", found["next_tick"] or "no [schedule] cron in the plan"))
    for spend in found["spend"]:
        cap = "no cap" if spend["cap"] is None else f"of {spend['cap']:g}, until {spend['until']}"
        lines.append((f"this {spend['period']}", f"{spend['usd']:.4f} USD ({cap})"))
    current = next((row for row in found["students"] if row["current"]), None)
    lines.append(("promoted", _student(current) if current else "no student yet"))
    lines.append(("waits", found["waits"] or "nothing"))
    for name, value in lines:
        console.print(f"{name:<11} {escape(value)}", highlight=False, soft_wrap=True)
    if not found["ticks"]:
        console.print("no tick yet: `distill tick PLAN`, or `distill serve PLAN --cron ...`")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("started (UTC)", "s", "state", "calls", "kept", "reason"):
        table.add_column(name, justify="right" if name in ("s", "calls", "kept") else "left",
                         no_wrap=name != "reason")  # fmt: skip
    for tick in found["ticks"]:
        idle = f" ({tick['idle'] + 1} in a row)" if tick["idle"] else ""
        table.add_row(
            tick["at"], _number(tick["seconds"]), escape(tick["state"]), str(tick["calls"]),
            _number(tick["kept"]), escape(tick["reason"] + idle),
        )  # fmt: skip
    console.print()
    console.print(table)


def print_students(students: Sequence[dict[str, Any]]) -> None:
    """A line for each student, the newest first."""
    if not students:
        print("no student of this plan yet; `distill run PLAN` or `distill tick PLAN` trains one")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("", "student", "trained (UTC)", "tuner", "kept", "scores", "[ship]", "promoted"):
        table.add_column(escape(name), no_wrap=name not in ("scores", "promoted"))
    for row in students:
        ships = {None: "-", True: "met", False: "not met"}[row["ships"]]
        table.add_row(
            "*" if row["current"] else "",
            row["student_id"][:8] + ("" if row["is_there"] else " (files gone)"),
            row["trained_at"], escape(row["tuner"]), _number(row["kept"]), escape(_scores(row)),
            ships, ", ".join(row["promoted"]),
        )  # fmt: skip
    Console().print(table)


def _student(row: dict[str, Any]) -> str:
    return f"{row['student_id'][:8]} ({_scores(row) or 'not evaluated'}), {row['promoted'][-1]}"


def _scores(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in row["scores"].items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
