"""Publish what a tick did as an artifact of its Prefect flow run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.report.report import as_cell
from flows.runtime.artifacts import Artifacts

_LINES = {
    "samples_new": "new samples", "samples_gone": "samples gone", "kept_new": "more kept",
    "kept_gone": "no longer kept",
}  # fmt: skip


def publish_tick(plan_name: str, result: dict[str, Any]) -> None:
    """Publish a table of numbers, and the report's place."""
    Artifacts(plan_name).page("tick", render_tick(result))


def render_tick(result: dict[str, Any]) -> str:
    """A tick as Markdown."""
    rows = [("state", result["state"]), ("reason", result["reason"])]
    rows += [(name.replace("_", " "), result[name]) for name in
             ("calls_made", "calls_reused", "samples", "kept", "failures") if name in result]  # fmt: skip
    changes = result.get("changes", {})
    rows += [(label, changes[name]) for name, label in _LINES.items() if changes.get(name)]
    rows += [(name, result[name]) for name in ("trained", "promoted") if result.get(name)]
    lines = ["| | |", "|---|---|", *(f"| {name} | {as_cell(str(value))} |" for name, value in rows)]
    if drift := result.get("drift", {}).get("compared"):
        lines += ["", "| drift of | size |", "|---|---|"]
        lines += [f"| {as_cell(name)} | {size:.3f} |" for name, size in drift.items()]
    if path := result.get("report_path"):
        lines += ["", f"[Report]({Path(path).as_uri()})"]
    return "\n".join(lines) + "\n"
