"""A value that may be of several types is told once what it may be, and what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse import catalog
from warehouse.errors import PlanError


@pytest.mark.parametrize(
    ("recipe", "options", "faults"),
    [
        ("persona", {"topics": 3}, ["topics: Input should be a list of texts or a table of numbers or a text, not 3"]),
        ("persona", {"topics": ["a", 2]}, ["topics.1: Input should be a valid string, not 2"]),
        ("persona", {"topics": {"a": "b"}}, ["topics.a: Input should be a valid number"]),
        ("persona", {"topics": 3, "personas": True}, [
            "topics: Input should be a list of texts or a table of numbers or a text, not 3",
            "personas: Input should be a list of texts or a table of numbers or a text, not True",
        ]),
        ("classify", {"labels": [1, "b"]}, ["labels.0: Input should be a valid string, not 1"]),
        ("grounded_qa", {"book": "opened"}, ["book: Input should be 'open' or 'closed', not 'opened'"]),
        ("grounded_qa", {"limit": "many"}, ["limit: Input should be a valid integer"]),
    ],
)  # fmt: skip
def test_each_wrong_option_is_one_fault_without_names_of_branches(recipe, options, faults):
    given = {"classify": {"prompts": "p.jsonl"}, "persona": {"number": 1}}.get(recipe, {})
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": recipe, **given, **options}, Path())
    assert list(error.value.faults) == faults


def test_a_text_that_may_be_a_secret_is_not_repeated():
    with pytest.raises(PlanError) as error:
        catalog.build("teacher", {"use": "openai_chat", "model": "m", "base_url": "http://x", "max_in_flight": "sk-1"}, Path())  # fmt: skip
    assert "sk-1" not in " ".join(error.value.faults)
