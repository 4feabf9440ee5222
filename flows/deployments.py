"""Schedules: a plan served with Prefect, deployed by dotted path."""

from __future__ import annotations

from pathlib import Path

from flows.end_to_end import end_to_end
from flows.progress import say


def serve(plan: Path, overrides: list[str], name: str, cron: str) -> None:
    """Serve the whole flow on a cron schedule; blocks until stopped.

    Where no server is configured, a temporary one runs as long as this process does.
    """
    say(f"serving '{name}' at '{cron}'; stop with Ctrl-C")
    end_to_end.serve(
        name=name,
        cron=cron,
        parameters={"plan_path": str(plan), "overrides": overrides},
        print_starting_message=False,
    )
