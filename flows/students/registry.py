"""Promote students, go back to an earlier one, and keep `students/current` at the promoted one."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from pathlib import Path

from flows.runtime.progress import say
from warehouse.db.store import Store
from warehouse.errors import NotFoundError, UsageError, WarehouseError
from warehouse.records import Promotion, Student, make_id, now

CURRENT = "current"
"""The link in `students/` that points to the student promoted last."""
HOOK_S = 600.0
"""Longest that `on_promote` may take."""


def promotions_of(store: Store, plan_name: str) -> list[Promotion]:
    """The promotions of a plan, the newest last."""
    found: list[Promotion] = store.read(Promotion, "plan_name = ? ORDER BY created_at", [plan_name])
    return found


def promote(store: Store, plan_name: str, student: Student, how: str, run_id: str | None) -> Path:
    """Let a student be the current one of a plan; returns the link `students/current`.

    Raises:
        NotFoundError: its files are gone.
        WarehouseError: the link cannot be written.
    """
    folder = student.folder_in(store.home)
    if not folder.is_dir():
        raise NotFoundError(f"the files of student {student.student_id[:8]} are gone from {folder}")
    before = promotions_of(store, plan_name)
    link = _point_to(store.home / "students" / CURRENT, folder)
    store.insert(
        [
            Promotion(
                promotion_id=make_id(
                    "promotion", plan_name, student.student_id, secrets.token_hex(8)
                ),
                plan_name=plan_name,
                student_id=student.student_id,
                before=before[-1].student_id if before else None,
                how=how,
                run_id=run_id,
                created_at=now(),
            )
        ]
    )
    return link


def roll_back(store: Store, plan_name: str, start: str | None = None) -> Student:
    """Go back to the student that was promoted before, or to another one that once was.

    Args:
        store: The warehouse.
        plan_name: The plan.
        start: The start of the student's id; left out, the one before.

    Raises:
        NotFoundError: there is none.
        UsageError: it is the current one, or the start of several ids.
    """
    promoted = promotions_of(store, plan_name)
    if not promoted:
        raise NotFoundError(f"no student of plan '{plan_name}' was ever promoted")
    current = promoted[-1].student_id
    earlier = list(dict.fromkeys(p.student_id for p in reversed(promoted)))[1:]
    if start is not None:
        earlier = [each for each in (current, *earlier) if each.startswith(start)]
        if len(earlier) > 1:
            raise UsageError(
                f"'{start}' is the start of {len(earlier)} students; give more of the id"
            )
    if not earlier:
        which = f" '{start}'" if start else ""
        raise NotFoundError(
            f"no earlier student{which} of plan '{plan_name}' was promoted; "
            "`distill students PLAN` lists them"
        )
    if earlier[0] == current:
        raise UsageError(f"student {current[:8]} is the current one")
    [student] = store.by_ids(Student, "student_id", earlier[:1])
    promote(store, plan_name, student, "rollback", None)
    return student


def _point_to(link: Path, folder: Path) -> Path:
    """Let a link point to a folder; readers find the old one or the new one, never none."""
    if link.exists() and not link.is_symlink():
        raise WarehouseError(f"{link} is no link; move it away, so that it can point to a student")
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)
        os.replace(fresh, link)
    except OSError as error:
        raise WarehouseError(f"{link} cannot be written: {error.strerror}") from None
    return link


def run_hook(command: str, student: Student, home: Path) -> str | None:
    """Run `[schedule] on_promote`, without a shell; returns why it failed, or None.

    Its environment has STILLHOUSE_STUDENT (the folder) and STILLHOUSE_STUDENT_ID.
    """
    environment = {
        **os.environ,
        "STILLHOUSE_STUDENT": str(student.folder_in(home)),
        "STILLHOUSE_STUDENT_ID": student.student_id,
    }
    say(f"on_promote: {command}")
    try:
        done = subprocess.run(
            shlex.split(command), cwd=home, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=HOOK_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"on_promote took more than {HOOK_S:.0f} s"
    except (OSError, ValueError) as error:
        return f"on_promote cannot be run: {error}"
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return f"on_promote ended with {done.returncode}" + (f": {last[0]}" if last else "")
    return None
