"""Log training curves to TensorBoard or trackio, on this machine.

Both read their folder from an environment variable only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from warehouse.errors import MissingExtraError

FOLDER = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "trackio": "TRACKIO_DIR"}


def require_tracker(track: str) -> None:
    """Check that a tracker is installed, before anything is spent.

    Raises:
        MissingExtraError: it is not installed.
    """
    if track != "none" and find_spec(track) is None:
        raise MissingExtraError(
            f"train.track = '{track}' needs {track}, which is not installed; "
            "pip install 'stillhouse[monitor]', or set train.track = 'none'"
        )


def folder_of(track: str, out: Path) -> Path:
    """The tracker's folder: runs/<tracker> beside the folder of students.

    TensorBoard takes a folder for each student, trackio one for all.
    """
    folder = out.parent.parent / "runs" / track
    return folder / out.name if track == "tensorboard" else folder


@contextmanager
def track_run(track: str, out: Path, anew: bool) -> Iterator[dict[str, Any]]:
    """Point the tracker at its folder; yields the trainer's arguments.

    `anew`: training does not resume, so old curves of the same student in TensorBoard's folder
    are removed.
    """
    if track == "none":
        yield {}
        return
    require_tracker(track)
    folder = folder_of(track, out)
    if anew and track == "tensorboard" and os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    before = os.environ.get(FOLDER[track])
    os.environ[FOLDER[track]] = str(folder)
    try:
        yield {"report_to": track, "run_name": out.name, "project": "stillhouse"}
    finally:
        if before is None:
            del os.environ[FOLDER[track]]
        else:
            os.environ[FOLDER[track]] = before
