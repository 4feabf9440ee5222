"""What the project says of itself holds: its arrow of imports, its documents, its plans."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from distill.plan.plan import Plan, load_plan
from distill.plan.sections import ShipSection, TrainSection
from flows.cli import app
from warehouse import catalog

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "distill", "datagen", "quality", "train", "warehouse")
PLANS = sorted((ROOT / "distill" / "plans").glob("*.toml"))


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _words(text: str) -> set[str]:
    """What stands in backticks within a line, alone or in a list."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    codes = re.findall(r"`([^`\n]+)`", prose)
    return {word for code in codes for word in re.split(r"[\s,]+", code)}


def test_contracts_are_kept() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "wrong", "contract"),
    [
        ("datagen/generate.py", "import quality.text.normalize", "One arrow, four floors"),
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


@pytest.mark.parametrize("kind", sorted(catalog.KINDS))
def test_every_part_is_documented(kind: str) -> None:
    texts = [ROOT / "README.md", ROOT / "docs" / "architecture.md"]
    mentioned = set().union(*(_words(text.read_text(encoding="utf-8")) for text in texts))
    assert catalog.names(kind)
    assert set(catalog.names(kind)) <= mentioned


def test_every_verb_is_in_the_readme() -> None:
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Verbs")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(verbs) == _words(rows)


def test_every_key_of_a_plan_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## The plan, key by key")[2].partition("\n## ")[0]
    sections = {"datagen", "quality", "train", "evaluate", "ship"}
    wanted = set(Plan.model_fields) - sections | set(TrainSection.model_fields)
    wanted |= set(ShipSection.model_fields)
    for name in sections - {"train", "ship"}:
        wanted |= set(Plan.model_fields[name].annotation.model_fields)  # type: ignore[union-attr]
    assert wanted - _words(table) == set()


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
