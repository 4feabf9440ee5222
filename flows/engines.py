"""Where Prefect keeps its own book. Called before Prefect is imported, since it reads its
settings once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path


def prepare(home: Path) -> None:
    """Give the temporary server a database beside the warehouse, unless the user has a server.

    Runs on one warehouse follow each other, so its database is never fought over; the
    default one of the user's home would be, by any two runs at once.
    """
    if has_own_server():
        return
    folder = home / "runs" / ".prefect"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    )


def has_own_server() -> bool:
    """Whether PREFECT_API_URL is set, in the environment or in the active Prefect profile."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))
