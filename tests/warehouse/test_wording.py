"""Counts agree with their nouns, wherever a sentence has one."""

import re
from pathlib import Path

import pytest

from warehouse.wording import format_count

ROOT = Path(__file__).parents[2]
NOUNS = "prompts|samples|rows|items|runs|calls|batches|replies|requests|held-out items"
BARE = re.compile(rf"\{{[^{{}}\"]*[^A-Z_{{}}\"](?::,)?\}} (?:{NOUNS})\b")
"""A count in an f-string with a noun that is always in the plural."""


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "prompt", "1 prompt"),
        (0, "prompt", "0 prompts"),
        (1234, "held-out item", "1,234 held-out items"),
        (2, "reply", "2 replies"),
        (2, "batch", "2 batches"),
        (2, "key", "2 keys"),
    ],
)
def test_a_count_agrees_with_its_noun(number, noun, text):
    assert format_count(number, noun) == text


def test_no_message_of_the_flows_counts_in_the_plural_alone():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "flows").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if BARE.search(line)
    ]
    assert found == []
