"""`distill check` and `generate` tell what keeps a recipe from making any sample, before a call."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import distill
from warehouse.db.store import Store
from warehouse.records import Call

PLAN = """
name = "checked"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "Answer: 4"
[datagen]
sampling = {{ temperature = 0.7 }}
[[datagen.recipe]]
{recipe}
"""
NONE = "none of its 2 seeds can be asked: 2 x "


def write(folder, recipe: str) -> None:
    (folder / "plan.toml").write_text(PLAN.format(recipe=recipe))
    rows = [
        {"prompt": "What is 2 + 2?", "reference": "four or so"},
        {"prompt": "What is 1 + 3?", "reference": "four", "choices": ["3", "5"]},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "bare.jsonl").write_text('{"prompt": "Why?"}\n{"prompt": "Who?"}')
    (folder / "results.jsonl").write_text('{"name": "ad", "arguments": {}, "result": 1}')
    add = {
        "name": "add",
        "description": "A sum.",
        "parameters": {"type": "object", "properties": {}},
    }
    (folder / "tools.json").write_text(json.dumps([{"type": "function", "function": add}]))
    passages = [{"prompt": q, "passage": "A long text. " * 40} for q in ("Why?", "Who?")]
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, passages)))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (
            'use = "reasoning"\nprompts = "bare.jsonl"\ncheck = "choice"',
            f"recipe 'reasoning': {NONE}the row has no choices to check against; correct its data, "
            "`columns` or options",
        ),
        (
            'use = "reasoning"\nprompts = "bare.jsonl"\nk = 1',
            f"{NONE}the row has no reference to check against",
        ),
        (
            'use = "reasoning"\nprompts = "rows.jsonl"\ncheck = "choice"',
            "none of its 2 seeds can be asked: 1 x the row has no choices to check against, 1 x no "
            "reference of the row is among its choices",
        ),
        (
            'use = "classify"\nprompts = "rows.jsonl"\nlabels = ["a", "b"]\ntext = "passage"',
            "none of its 1 seed can be asked: 1 x the row has no passage to label",
        ),
        (
            'use = "pearl"\nprompts = "long.jsonl"\nmax_document_tokens = 50',
            f"{NONE}the document has about 134 tokens, more than max_document_tokens = 50",
        ),
        (
            'use = "classify"\nprompts = "rows.jsonl"\nlabels = ["a", "b"]\nk = 3\nmax_calls = 2',
            "recipe 'classify': max_calls = 2 is less than one seed takes (3 calls); raise it",
        ),
        (
            'use = "imported"\nfile = "bare.jsonl"\nteacher = "x"',
            "recipe 'imported': bare.jsonl has no usable conversation: bare.jsonl line 1 is in no form",
        ),
        (
            'use = "tools"\ntools = "tools.json"\nresults = "results.jsonl"\nsimulate = false',
            "results.jsonl has no result of any tool (add), and with simulate = false no other call has "
            "one; correct the names, or leave simulate out",
        ),
        (
            'use = "self_chat"\nprompts = "bare.jsonl"\nopens = false\nmax_calls = 1',
            "recipe 'self_chat': max_calls = 1 is less than one seed takes (2 calls); raise it",
        ),
        (
            'use = "pearl"\nprompts = "long.jsonl"\ntemplate = "my.j2"',
            "template my.j2, line 1: recipe 'pearl' has no block 'verdikt'; rename it to one of "
            "actions, answer, facts, mine, not_right, plan, step, trace, verdict",
        ),
    ],
)
def test_a_recipe_that_can_make_nothing_is_told_by_check_and_asks_nothing(tmp_path, recipe, said):
    write(tmp_path, recipe)
    (tmp_path / "my.j2").write_text('{% extends "pearl.en.j2" %}{% block verdikt %}?{% endblock %}')
    for verb in ("check", "generate"):
        done = distill(tmp_path, verb, "plan.toml")
        assert done.returncode == 2 and done.stderr.count(said) == 1, done.stderr
        assert "ok        no request was sent" not in done.stdout
    assert not Store(tmp_path / "w.duckdb").read(Call)


def test_check_counts_the_seeds_that_are_not_asked_where_others_are(tmp_path):
    write(tmp_path, 'use = "reasoning"\nprompts = "some.jsonl"\ncheck = "numeric"\nk = 1')
    rows = [
        {"prompt": f"What is {n} + 1?", "reference": str(n + 1) if n else "some"} for n in (0, 1)
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = distill(tmp_path, "check", "plan.toml")
    assert done.returncode == 0, done.stderr
    assert (
        "note      recipe 'reasoning': 1 of 2 seeds cannot be asked: 1 x the row's reference holds no "
        "number" in done.stdout
    )


def test_check_notes_blocks_that_a_template_of_the_user_s_lacks(tmp_path):
    write(tmp_path, 'use = "reasoning"\nprompts = "rows.jsonl"\ntemplate = "my.j2"')
    (tmp_path / "my.j2").write_text("{% block system %}Think. {{ marker }}{% endblock %}")
    done = distill(tmp_path, "check", "plan.toml")
    assert (
        done.returncode == 2 and "has no block 'marker'" in done.stderr
    )  # the first call needs it
    write(tmp_path, 'use = "critique"\nprompts = "rows.jsonl"\nconstitution = ["Be brief."]\ntemplate = "own.j2"')  # fmt: skip
    (tmp_path / "own.j2").write_text("{% block critique %}Well?{% endblock %}")
    done = distill(tmp_path, "check", "plan.toml")
    assert done.returncode == 0, done.stderr
    assert "note      recipe 'critique': its template lacks the blocks revise;" in done.stdout
