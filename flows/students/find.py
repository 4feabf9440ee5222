"""Find the student that a command is about: the plan's own, or one named by its id or folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.contestants.contestant import find_student_by_id
from distill.plan.plan import Plan, load_plan
from distill.plan.project import open_store
from train.methods.tuner import Tuner
from train.model.student import TUNER_FILE, tuner_of
from warehouse.catalog import code_of
from warehouse.db.store import Store
from warehouse.errors import NotFoundError, UsageError
from warehouse.part_sources import file_identity, is_file
from warehouse.records import Run, Student


@dataclass(frozen=True)
class FoundStudent:
    """A student, and what is known of it. A folder that no warehouse knows has no record."""

    path: Path
    base: str
    tuner: Tuner
    plan: Plan | None
    store: Store
    record: Student | None
    run: Run | None

    @property
    def name(self) -> str:
        """What it is called: the plan's name, and the start of its id."""
        if self.record is None:
            return self.path.resolve().name
        plan_name = self.run.plan_name if self.run else "student"
        return f"{plan_name}-{self.record.student_id[:8]}"


def find_student(
    plan_path: str | None,
    overrides: Sequence[str] = (),
    student: str | None = None,
    warehouse: str | None = None,
) -> FoundStudent:
    """Find a student; asks nothing, runs nothing, writes nothing.

    Args:
        plan_path: A plan; without `student` its own student is meant, the one `evaluate` takes.
        overrides: The plan's overrides.
        student: The start of a student's id, or the folder of a student.
        warehouse: A warehouse or a plan; left out, the plan's own, else stillhouse.duckdb.

    Raises:
        NotFoundError: there is no such student, or several.
        UsageError: nothing was named, or a folder brings code that nothing vouches for.
    """
    if plan_path is None and student is None:
        raise UsageError("which student? name a plan, or give --student ID_OR_FOLDER")
    plan = load_plan(plan_path, overrides) if plan_path else None
    store = _store(plan, warehouse)
    if student is None:
        assert plan is not None
        plan.require("train")
        return _recorded(plan, store, _planned(plan, store, str(plan_path)))
    if Path(student).is_dir():
        return _in_folder(plan, store, Path(student))
    return _recorded(plan, store, find_student_by_id(store, student))


def _store(plan: Plan | None, named: str | None) -> Store:
    if named is not None and named.endswith(".toml"):
        plan, named = load_plan(named), None
    if named is None and plan is not None:
        return open_store(plan)
    return Store(Path(named or "stillhouse.duckdb").expanduser().resolve())


def _planned(plan: Plan, store: Store, plan_path: str) -> Student:
    """The student that the last run of this plan trained or reused.

    Runs of older versions did not record it: then the student of the samples that the gate
    keeps now.
    """
    runs = store.read(
        Run, "plan_hash = ? ORDER BY coalesce(finished_at, started_at) DESC", [plan.plan_hash]
    )
    recorded = [run.summary["student_id"] for run in runs if "student_id" in run.summary]
    if not recorded:
        from flows.stages.recorded import load_kept_samples
        from flows.stages.training_records import student_id_of

        recorded = [student_id_of(plan.training, load_kept_samples(plan, store))]
    for student in store.by_ids(Student, "student_id", recorded[:1]):
        return student
    raise NotFoundError(f"no student of this plan yet; run `distill train {plan_path}` first")


def _recorded(plan: Plan | None, store: Store, student: Student) -> FoundStudent:
    path = student.folder_in(store.home)
    if not path.is_dir():
        raise NotFoundError(f"the files of student {student.student_id[:8]} are gone from {path}")
    _refuse_unknown_code(path, plan, student)
    runs = store.read(Run, "run_id = ?", [student.run_id])
    run = runs[0] if runs else None
    return FoundStudent(
        path, student.base_in(store.home), tuner_of(path), plan, store, student, run
    )


def _in_folder(plan: Plan | None, store: Store, folder: Path) -> FoundStudent:
    for student in store.read(Student):
        if student.folder_in(store.home).resolve() == folder.resolve():
            return _recorded(plan, store, student)
    _refuse_unknown_code(folder, plan, None)
    tuner = tuner_of(folder)
    base = json.loads((folder / TUNER_FILE).read_text())["base"]
    return FoundStudent(folder, base, tuner, plan, store, None, None)


def _refuse_unknown_code(folder: Path, plan: Plan | None, student: Student | None) -> None:
    """See that no code is run that only the student's folder vouches for.

    A tuner from a file leaves a copy of the file in the folder of its student. It is run if the
    warehouse recorded this very file with the student, or if the plan's tuner is this very file.

    Raises:
        UsageError: neither is so; the file was not run.
    """
    described = folder / TUNER_FILE
    use = json.loads(described.read_text())["tuner"].get("use") if described.is_file() else None
    if not isinstance(use, str) or not is_file(use):
        return
    known = {student.tuner.get("origin")} if student is not None else set()
    if plan is not None and plan.train is not None:
        known.add(code_of(plan.train.tuner).get("origin"))
    if file_identity(use, folder) not in known - {None}:
        raise UsageError(
            f"{folder} brings code of its own ({use}, its tuner), which was not run: no warehouse "
            "knows this file; if you trust it, name a plan with train.tuner = { use = '...' } of "
            "the same file, and give the folder with --student"
        )
