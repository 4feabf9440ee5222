"""What the project says of itself holds: its arrow of imports, its documents, its plans."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.plan.plan import load_plan

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "distill", "datagen", "quality", "train", "warehouse")
PLANS = sorted((ROOT / "distill" / "plans").glob("*.toml"))


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_contracts_are_kept() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "wrong", "contract"),
    [
        ("datagen/generate.py", "import quality.text.claims", "One arrow, four floors"),
        ("warehouse/inputs/rows.py", "import train.methods.tuner", "One arrow, four floors"),
        ("distill/plan/plan.py", "import flows.runtime.progress", "One arrow, four floors"),
        ("quality/gate/choose.py", "import duckdb", "Only warehouse talks to DuckDB"),
        ("train/loop/sft.py", "import prefect", "Only flows talks to Prefect"),
        (
            "flows/stages/train.py",
            "import trl",
            "Only train and the objectives talk to TRL and PEFT",
        ),
        (
            "distill/learning/objective.py",
            "import peft",
            "Only train and the objectives talk to TRL",
        ),
        ("train/methods/tuner.py", "import train.loop.sft", "No circles between folders or files"),
        ("distill/evaluation/verdict.py", "import distill.report.page", "Evaluation never imports"),
        ("flows/stages/curate.py", "import flows.cli.output", "Nobody imports the command line"),
    ],
)
def test_contracts_are_broken_by_a_wrong_import(
    file: str, wrong: str, contract: str, tmp_path: Path
) -> None:
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    with (tmp_path / file).open("a", encoding="utf-8") as source:
        source.write(f"\n\ndef _late() -> None:\n    {wrong}\n")

    done = _lint_imports(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"{re.escape(contract)}.*BROKEN", done.stdout), done.stdout


def test_objectives_may_use_trl_and_peft(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    new = tmp_path / "distill" / "objectives" / "another.py"
    new.write_text('"""Another objective."""\n\nimport peft\nimport trl\n', encoding="utf-8")

    done = _lint_imports(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_every_shipped_plan_loads(file: Path) -> None:
    plan = load_plan(file)
    plan.require("run")


def test_there_is_a_shipped_plan() -> None:
    assert PLANS


def test_child_processes_import_nothing_from_the_working_directory() -> None:
    """`python -m` and `-c` put the working directory first, where a user may have a `train.py`."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    started = [
        (file.name, option)
        for file in files
        for option in re.findall(r"sys\.executable,\s*(\S+?),", file.read_text(encoding="utf-8"))
    ]
    assert len(started) >= 5
    assert {option for _, option in started} == {'"-P"'}, started


def test_no_class_name_stands_for_two_things():
    named: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    named.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in named.items() if len(files) > 1} == {}
