"""An error raised by the code of a part from elsewhere is one line that names part, file and line."""

from __future__ import annotations

import json

import pytest

from flows.cli.parts import render_part
from tests.support.cli import distill
from tests.support.own_parts import write_own_parts, write_own_plan
from tests.support.tiny import make_tiny
from warehouse.db.store import Store
from warehouse.part_origins import part_error
from warehouse.records import Call, Failure


@pytest.fixture
def folder(tmp_path):
    write_own_plan(tmp_path)
    return write_own_parts(tmp_path, 3)


def broken(folder, kind, method):
    """Let a method of a part raise; the number of the line that does."""
    file = folder / f"own_{kind}.py"
    lines = file.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if f"def {method}(" in line)
    lines.insert(at + 1, '        raise KeyError("colour")')
    file.write_text("\n".join(lines) + "\n")
    return at + 2


def one_line(done, kind, line):
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"distill: {kind} 'own_{kind}' failed in own_{kind}.py, line {line}: KeyError: 'colour'; "
        "`distill --debug VERB ...` shows the traceback"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "kind", "method"),
    [
        ("check", "recipe", "seeds"),
        ("generate", "recipe", "seeds"),
        ("check", "benchmark", "items"),
    ],
)
def test_a_part_s_error_is_one_line_in_each_verb(folder, verb, kind, method):
    line = broken(folder, kind, method)
    one_line(distill(folder, verb, "plan.toml"), kind, line)


def test_what_a_recipe_fails_on_names_the_line_and_keeps_what_was_paid(folder):
    text = (folder / "own_recipe.py").read_text()
    (folder / "own_recipe.py").write_text(
        text.replace("status, reason = status_of(reply)", 'status, reason = {}["colour"]')
    )
    done = distill(folder, "generate", "plan.toml")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "distill: the recipe failed on all of its 3 seeds: 3 x own_recipe.py, line "
    )
    assert last.endswith("KeyError: 'colour'")
    store = Store(folder / "stillhouse.duckdb")
    assert len(store.read(Call)) == 3 and len(store.read(Failure)) == 3


@pytest.mark.trains
def test_a_tuner_s_error_is_one_line(folder):
    make_tiny(folder / "tiny")
    assert distill(folder, "generate", "plan.toml").returncode == 0
    assert distill(folder, "curate", "plan.toml").returncode == 0
    line = broken(folder, "tuner", "attach")
    one_line(distill(folder, "train", "plan.toml"), "tuner", line)


def test_what_a_scorer_fails_on_names_the_line_and_debug_shows_the_traceback(folder):
    assert distill(folder, "generate", "plan.toml").returncode == 0
    line = broken(folder, "scorer", "score_batch")
    assert distill(folder, "curate", "plan.toml").returncode == 0
    (error,) = {failure.error for failure in Store(folder / "stillhouse.duckdb").read(Failure)}
    assert error == f"own_scorer: own_scorer.py, line {line}: KeyError: 'colour'"
    broken(folder, "recipe", "seeds")
    done = distill(folder, "--debug", "generate", "plan.toml")
    assert done.returncode == 2
    assert "Traceback" in done.stderr and 'raise KeyError("colour")' in done.stderr


def test_a_part_of_a_package_is_named_with_its_version_and_file(folder, install_package):
    code = render_part("scorer", "brief").replace(
        "    def score_batch",
        "    def check(self) -> None:\n        helper()\n\n    def score_batch",
    )
    install_package("loud-parts", "1.0", code + "\n\ndef helper() -> None:\n    {}['a']\n")
    write_own_plan(folder, "loud-parts/brief")
    done = distill(folder, "check", "plan.toml")
    assert done.returncode == 2
    assert "scorer 'loud-parts/brief' (loud-parts 1.0) failed in " in done.stderr
    assert "loud_parts_1_0.py, line " in done.stderr and "KeyError: 'a'" in done.stderr


def test_a_bug_of_this_package_keeps_its_traceback(folder, monkeypatch):
    def broken_here(*_):
        json.loads("{")

    monkeypatch.setattr("distill.plan.plan.load_plan", broken_here)
    with pytest.raises(json.JSONDecodeError) as caught:
        distill(folder, "check", "plan.toml")
    assert part_error(caught.value) is None


def test_a_worker_process_passes_a_part_s_error_on_in_one_line(folder, monkeypatch):
    from distill.learning import multiprocess
    from warehouse import catalog

    line = broken(folder, "recipe", "seeds")

    def work(job, first):
        table = {"use": "./own_recipe.py", "prompts": "prompts.jsonl"}
        next(catalog.build("recipe", table, folder).seeds(folder, {}))

    monkeypatch.setattr(multiprocess, "_run_job", work)
    with pytest.raises(KeyError):
        multiprocess.main(folder / "job.json")
    told = (folder / "error.0").read_text()
    assert told == f"recipe 'own_recipe' failed in own_recipe.py, line {line}: KeyError: 'colour'"
