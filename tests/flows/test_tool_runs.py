"""Tool calls from `distill generate` to what the trainer is given."""

from __future__ import annotations

import json

import pytest

from tests.datagen.test_recipe_tools import OSLO, TOOLS, Teacher, turn
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai
from tests.support.tiny import CHAT_TEMPLATE, HERMES, make_tiny
from warehouse.db.store import Store
from warehouse.records import Sample

PLAN = """
name = "tools"
warehouse = "w.duckdb"
[teacher]
use = "openai_chat"
model = "m"
base_url = "{url}"
input_usd_per_million = 0.0
output_usd_per_million = 0.0
[[datagen.recipe]]
use = "tools"
tools = "tools.json"
tasks = 3
no_tool = 0.0
[train]
base = "base"
max_length = 2048
"""


@pytest.mark.parametrize(("template", "is_refused"), [(HERMES, False), (CHAT_TEMPLATE, True)])
def test_from_the_teacher_to_the_audit(tmp_path, template, is_refused):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    make_tiny(tmp_path / "base", chat_template=template)
    with FakeOpenai(Teacher(turn(OSLO), answer="Rain.")) as server:
        (tmp_path / "plan.toml").write_text(PLAN.format(url=server.base_url))
        done = distill(tmp_path, "generate", "plan.toml", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["samples"] == 6
        again = distill(tmp_path, "generate", "plan.toml", "--json")
        assert json.loads(again.stdout)["calls_made"] == 0
    samples = Store(tmp_path / "w.duckdb").read(Sample)
    assert {sample.status for sample in samples} == {"ok"}
    assert all(sample.facts["tools"] == TOOLS for sample in samples)
    assert distill(tmp_path, "curate", "plan.toml").returncode == 0
    audit = distill(tmp_path, "train", "plan.toml", "--audit", "--json")
    if is_refused:
        assert audit.returncode == 2
        assert "the base's chat template leaves out the tools, and " in audit.stderr
        return
    assert audit.returncode == 0, audit.stderr
    figures = json.loads(audit.stdout)
    assert (figures["rows_kept"], figures["refused"], figures["missing_end"]) == (6, None, 0)
    supervised = {example["supervised"] for example in figures["examples"]}
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    assert supervised <= {f"{call}<|im_end|>\n", "Rain.<|im_end|>\n"}


@pytest.mark.parametrize(("template", "knows_tools"), [(HERMES, True), (CHAT_TEMPLATE, False)])
def test_a_chat_is_given_the_tools_of_the_plan_or_of_a_file(tmp_path, template, knows_tools):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    make_tiny(tmp_path / "base", chat_template=template)
    (tmp_path / "plan.toml").write_text(PLAN.format(url="http://127.0.0.1:9/v1"))

    def chat(*words):
        words = ("chat", "plan.toml", "--base", "--max-new-tokens", "4", *words)
        return distill(tmp_path, *words, input="/help\nWater?\n")

    given, none = chat(), chat("--no-tools")
    assert given.returncode == none.returncode == 0, given.stderr
    assert ("/result TEXT" in given.stderr) == knows_tools
    assert "/result" not in none.stderr and "tools are given" not in none.stderr
    other = chat("--tools", "tools.json")
    if knows_tools:
        assert "the plan's tools are given (weather, clock); --no-tools" in given.stderr
        assert given.stdout != none.stdout  # the model saw another text
        assert other.stdout == given.stdout and "are given" not in other.stderr
    else:
        assert "no tools are given, since the chat template leaves out the tools" in given.stderr
        assert other.returncode == 2 and "leaves out the tools; use a base that" in other.stderr
    missing = chat("--tools", "none.json")
    assert missing.returncode == 2 and "no data file 'none.json'" in missing.stderr
    both = chat("--tools", "tools.json", "--no-tools")
    assert both.returncode == 2 and "exclude each other" in both.stderr
