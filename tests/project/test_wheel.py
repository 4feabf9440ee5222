"""The wheel holds the whole product, and works where the sources are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "distill", "datagen", "train", "quality", "warehouse")
SHIPPED = {".py", ".toml", ".css", ".j2", ".js", ".json", ".txt"}


def _run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from the sources; its output is what a failure shows."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _sources() -> set[str]:
    return {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in SHIPPED and "__pycache__" not in file.parts
    }


@dataclass(frozen=True)
class Installed:
    """A wheel, and a venv that has it and nothing of this checkout."""

    wheel: Path
    bin: Path
    site: Path
    cwd: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build from a copy, since setuptools leaves folders where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in _sources() | {"pyproject.toml", "README.md", "LICENSE"}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    _run(sys.executable, *build, cwd=folder)
    (wheel,) = folder.glob("*.whl")

    home = folder / "venv"
    venv.create(home, with_pip=False)
    layout = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=layout))
    binaries = Path(sysconfig.get_path("scripts", scheme="venv", vars=layout))
    # A line of a .pth file is one more folder to import from; the .pth files inside that
    # folder, and with them an editable install, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", binaries / "python")
    _run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return Installed(wheel, binaries, site, folder)


def test_wheel_holds_every_source_and_nothing_else(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == _sources()
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_packages_come_from_the_new_venv(installed: Installed) -> None:
    script = f"import {', '.join(PACKAGES)}\nfor p in ({', '.join(PACKAGES)}): print(p.__file__)"
    found = _run(installed.bin / "python", "-P", "-c", script, cwd=installed.cwd).splitlines()
    assert found == [str(installed.site / package / "__init__.py") for package in PACKAGES]


def test_command_knows_its_verbs_and_parts(installed: Installed) -> None:
    shown = _run(installed.bin / "distill", "--help", cwd=installed.cwd)
    assert all(verb in shown for verb in ("init", "check", "run", "serve"))
    parts = _run(installed.bin / "distill", "list", "scorer", cwd=installed.cwd)
    assert "toxicity" in parts
    assert "grounded" in parts


def test_package_data_is_found_where_it_was_installed(installed: Installed) -> None:
    _run(installed.bin / "distill", "init", "plan.toml", cwd=installed.cwd)
    shipped = ROOT / "distill" / "plans" / "subjects.toml"
    assert (installed.cwd / "plan.toml").read_bytes() == shipped.read_bytes()

    known = _run(installed.bin / "distill", "assets", cwd=installed.cwd)
    assets = tomllib.loads(
        (ROOT / "warehouse" / "inputs" / "assets.toml").read_text(encoding="utf-8")
    )
    assert assets
    assert all(name in known for name in assets)

    script = (
        "from distill.report import __file__ as f\nfrom pathlib import Path\n"
        "print(*sorted(p.name for p in (Path(f).parent / 'templates').iterdir()), sep='\\n')"
    )
    templates = _run(installed.bin / "python", "-P", "-c", script, cwd=installed.cwd).splitlines()
    assert templates == sorted(
        file.name for file in (ROOT / "distill" / "report" / "templates").iterdir()
    )
