"""Mistyped command lines, folders in a plan's place, and packages that are not installed."""

from __future__ import annotations

import pytest

from tests.support.cli import distill
from tests.support.plans import IMITATION
from warehouse import extras
from warehouse.errors import MissingExtraError


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("generat",), "unknown command 'generat' of `distill` (did you mean 'generate'?)"),
        (
            ("generate", "plan.toml", "--jsn"),
            "unknown option '--jsn' of `distill generate` (did you mean '--json'?)",
        ),
        (
            ("study", "scalng"),
            "unknown command 'scalng' of `distill study` (did you mean 'scaling'?)",
        ),
        (
            ("runs", "-x"),
            "unknown option '-x' of `distill runs` (allowed: --warehouse, --cost, --json)",
        ),
        (("generate",), "Missing argument 'PLAN'; see `distill generate --help`"),
        (("show", "samples", "--only", "kepd"), "unknown --only 'kepd' (did you mean 'kept'?)"),
    ],
)
def test_a_mistyped_command_line_is_one_line_with_the_nearest_name(tmp_path, words, line):
    done = distill(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"distill: {line}\n"


def test_a_command_without_arguments_prints_its_help_and_no_error(tmp_path):
    done = distill(tmp_path, "study")
    assert done.returncode == 2
    assert "scaling" in done.stdout
    assert done.stderr == ""


def test_a_folder_in_the_place_of_a_plan_lists_the_plans_in_it(tmp_path):
    folder = tmp_path / "plans"
    folder.mkdir()
    for name in ("b.toml", "a.toml"):
        (folder / name).write_text("")
    done = distill(tmp_path, "check", "plans")
    assert done.returncode == 2
    assert done.stderr == (
        "distill: plans is a folder; name a plan file (plans in it: plans/a.toml, plans/b.toml)\n"
    )
    (tmp_path / "empty").mkdir()
    assert "(no .toml file is in it)" in distill(tmp_path, "check", "empty").stderr


REQUIREMENTS = ["duckdb>=1.5", 'torch>=2 ; extra == "dev"', 'torch>=2 ; extra == "train"']


@pytest.fixture
def without_torch(monkeypatch):
    """A small installation, with torch in the extra `train`."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else name)
    monkeypatch.setattr(extras.metadata, "requires", lambda name: REQUIREMENTS)


PLAN = f"""
name = "p"
[teacher]
use = "scripted"
default = "blue"
{IMITATION}[train]
base = "base"
[evaluate]
benchmarks = ["sciq"]
"""


@pytest.mark.parametrize(
    "words",
    [
        ("run", "plan.toml"),
        ("train", "plan.toml"),
        ("train", "plan.toml", "--audit"),
        ("evaluate", "plan.toml"),
        ("bakeoff", "plan.toml", "--tuners", "lora,ia3"),
        ("study", "scaling", "plan.toml"),
        ("export", "plan.toml"),
        ("chat", "plan.toml"),
    ],
)
def test_a_verb_without_its_packages_names_the_extra_first(tmp_path, without_torch, words):
    (tmp_path / "plan.toml").write_text(PLAN)
    done = distill(tmp_path, *words)
    assert done.returncode == 2
    assert "needs torch, which is not installed; pip install 'stillhouse[train]'" in done.stderr
    assert "generate" not in done.stderr


def test_a_missing_dependency_is_told_with_what_brings_it(without_torch):
    error = extras.missing_module_error(ModuleNotFoundError("no", name="torch"))
    assert str(error) == "torch is not installed; pip install 'stillhouse[train]'"
    assert extras.missing_module_error(ModuleNotFoundError("no", name="torch.gone")) is None
    assert "pip install --upgrade stillhouse" in extras.install_advice("duckdb")
    assert extras.missing_module_error(ModuleNotFoundError("no", name="no_dependency")) is None
    assert extras.missing_module_error(ValueError("no")) is None


def test_each_extra_of_this_package_is_found_by_its_modules():
    for module, extra in (("presidio_analyzer", "pii"), ("bitsandbytes", "qlora")):
        assert extras.install_advice(module) == f"pip install 'stillhouse[{extra}]'"
    with pytest.raises(MissingExtraError, match="^it needs lm_evil, which is not installed"):
        extras.require_modules("it", "json", "lm_evil")


@pytest.mark.parametrize("key", ["warehouse", "prompts"])
def test_a_path_that_the_file_system_refuses_is_one_line(tmp_path, key):
    paths = {"warehouse": "w.duckdb", "prompts": "prompts.jsonl"} | {key: "n" * 300 + ".jsonl"}
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who?"}\n')
    (tmp_path / "plan.toml").write_text(
        f'name = "long"\nwarehouse = "{paths["warehouse"]}"\nteacher = {{ use = "scripted" }}\n'
        f'[[datagen.recipe]]\nuse = "imitation"\nprompts = "{paths["prompts"]}"\n'
    )
    done = distill(tmp_path, "generate", "plan.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.count("\n") == 1 and "File name too long" in done.stderr


@pytest.mark.parametrize(
    ("bound", "needed"), [("grounded_min = 1.0", "passage"), ("reference_min = 0.5", "reference")]
)
def test_a_bound_without_the_data_it_needs_is_refused_before_anything_is_paid(
    tmp_path, bound, needed
):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who?"}\n{"prompt": "Where?"}\n')
    (tmp_path / "plan.toml").write_text(
        'name = "bound"\nteacher = { use = "scripted" }\n'
        '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
        f'[quality]\nscorers = ["grounded", "reference"]\ngate = {{ {bound} }}\n'
    )
    abstained = ("--set", "quality.gate.keep_abstained=true")
    assert distill(tmp_path, "check", "plan.toml", *abstained).returncode == 0
    for verb in ("check", "generate"):
        done = distill(tmp_path, verb, "plan.toml")
        assert done.returncode == 2
        assert f"none of the first 2 prompts of recipe 'imitation' has a {needed}" in done.stderr


def test_show_says_where_there_is_nothing(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who?"}\n')
    (tmp_path / "plan.toml").write_text(
        'name = "quiet"\nteacher = { use = "scripted", default = "me" }\n'
        '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
    )
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    assert distill(tmp_path, "show", "failures").stdout == "no failures\n"
