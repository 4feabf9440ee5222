"""The project as a whole: the wheel, the arrow of imports, the docs, the shipped plans."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from distill.plan import load_plan
from warehouse import catalog

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "distill", "datagen", "train", "quality", "warehouse")


def test_the_wheel_installs_in_a_clean_environment_and_holds_every_room(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "clean"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    (site,) = (home / "lib").glob("python*/site-packages")
    # The dependencies are this environment's; its editable install of the project is not seen.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = (
        f"import {', '.join(ROOMS)}\n"
        f"for room in ({', '.join(ROOMS)}):\n    print(room.__file__)\n"
        "from distill.report import render_html\n"
        "from warehouse import assets\n"
        "assert assets.names()\n"
    )
    done = subprocess.run(
        [python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(site)) for line in done.stdout.splitlines())
    assert list(site.glob("distill/plans/*.toml"))
    assert list(site.glob("distill/templates/*.j2"))
    helped = subprocess.run(
        [home / "bin" / "distill", "--help"], capture_output=True, text=True, timeout=60
    )
    assert helped.returncode == 0
    assert "Usage" in helped.stdout


@pytest.mark.parametrize("plan", sorted((ROOT / "distill" / "plans").glob("*.toml")), ids=str)
def test_every_shipped_plan_loads(plan):
    assert load_plan(plan).plan_hash


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_part_is_built_like_the_others_and_documented(kind):
    docs = (ROOT / "docs" / "architecture.md").read_text()
    for name in catalog.names(kind):
        assert f"`{name}`" in docs
        assert catalog.summary(kind, name)
        part = catalog.part_class(kind, name)
        source = Path(sys.modules[part.__module__].__file__).read_text()
        for option in catalog.option_names(kind, name):
            after = source.partition(f"\n    {option}:")[2]
            assert '"""' in after.partition("\n    def ")[0], f"{name}.{option} has no docstring"


def test_every_verb_is_in_the_readme():
    from flows.cli import app

    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"`{name}`" in readme or f"distill {name}" in readme


def test_no_part_of_the_floor_below_is_imported_upwards():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
