"""The pages on writing parts: their code is what `distill new` writes, and does what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distill.plan.plan import load_plan
from flows.cli import app
from flows.cli.parts import render_part, render_test
from warehouse import catalog
from warehouse.db.store import Store
from warehouse.records import Sample, Score

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = {"scorer": "brevity", "recipe": "one_sentence", "tuner": "norms", "benchmark": "sums"}
BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=NAMES)
def page(request, tmp_path, monkeypatch):
    """A page's kind and text, with its files written into the working directory."""
    text = (DOCS / f"write-a-{request.param}.md").read_text()
    for name, content in BLOCK.findall(text):
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return request.param, text


def test_the_files_of_a_page_are_those_that_new_writes_in_under_40_lines(page, tmp_path):
    kind, _ = page
    name = NAMES[kind]
    part = (tmp_path / f"{name}.py").read_text()
    assert part == render_part(kind, name)
    assert (tmp_path / f"test_{name}.py").read_text() == render_test(kind, name)
    assert len(part.splitlines()) < 40


def test_the_test_of_a_page_passes(page, tmp_path):
    name = NAMES[page[0]]
    scope = {"__file__": str(tmp_path / f"test_{name}.py")}
    exec((tmp_path / f"test_{name}.py").read_text(), scope)
    folder = tmp_path / "given"
    folder.mkdir()
    scope[f"test_{name}"](folder)


def test_the_commands_of_a_page_print_what_it_shows(page):
    """All of it, or the lines that a `grep` after the command lets through."""
    commands = "".join(CONSOLE.findall(page[1])).split("$ distill ")[1:]
    assert len(commands) >= 2
    for command in commands:
        words, *lines = command.strip().splitlines()
        words, _, pattern = words.partition(" | grep ")
        if not words.startswith("new "):  # its files are here
            done = CliRunner().invoke(app, words.split())
            assert done.exit_code == 0, done.output
            assert lines == [one for one in done.stdout.splitlines() if pattern in one]


def test_the_plan_of_a_page_runs_with_its_part(page, tmp_path):
    kind, _ = page
    name = NAMES[kind]
    plan = load_plan(tmp_path / "plan.toml")
    if kind == "tuner":
        assert catalog.name_of(plan.training.tuner) == name
        return
    if kind == "benchmark":
        (benchmark,) = plan.evaluate.benchmarks
        items = list(benchmark.items(plan.folder))
        assert len(items) == 20 and benchmark.label == name
        assert benchmark.grade(items[3], f"It is {items[3].row.reference[0]}.").values == {
            "numeric": 1.0
        }
        return
    from flows.stages.generate import generate

    assert generate("plan.toml", [])["calls_made"] == 2
    store = Store(plan.warehouse_path)
    if kind == "recipe":
        samples = {one.completion: one for one in store.read(Sample)}
        assert set(samples) == {"The sky is blue.", "Grass is green."}
        assert {one.recipe for one in samples.values()} == {name}
        return
    from flows.stages.curate import curate

    assert curate("plan.toml", [])["reasons"] == {"kept": 1, "brevity below 0.8": 1}
    assert {one.scorer for one in store.read(Score)} == {name}


def test_a_page_names_the_groups_of_its_entry_points(page):
    assert f'[project.entry-points."stillhouse.{page[0]}"]' in page[1]
