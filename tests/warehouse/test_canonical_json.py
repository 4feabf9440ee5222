"""Canonical JSON is the text of the standard library's encoder, whatever the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.canonical_json import canonical, canonical_bytes
from warehouse.records import make_id

TEXTS = st.text(st.characters(codec="utf-8"))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner) | st.tuples(inner, inner)
)


def standard(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@given(VALUES)
def test_the_text_is_the_standard_one(value: Any) -> None:
    assert canonical(value) == standard(value)


@given(st.floats(allow_nan=False))
def test_numbers_are_written_as_ever(number: float) -> None:
    assert canonical([number]) == standard([number])


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [1e-5, 1e16, 1e15, 123456789012345680.0, -0.0, float("nan"), float("-inf")]},
        {"z": {"é": 1, "e": 2, "\U0001f600": 3, "￿": 4}},
        {1: "a number as key", 2: None},
        [2**64, -(2**70), 2**63],
        "\x00\x1f\x7f\u2028</script>",
    ],
)
def test_what_encoders_write_otherwise(value: Any) -> None:
    assert canonical(value) == standard(value)


def test_deep_values() -> None:
    value: list[Any] = []
    for _ in range(400):
        value = [value]
    assert canonical(value) == standard(value)


def test_half_a_character_is_told() -> None:
    assert canonical(["\ud800"]) == standard(["\ud800"])
    with pytest.raises(UnicodeEncodeError):
        canonical_bytes(["\ud800"])
    with pytest.raises(UnicodeEncodeError):
        make_id("\ud800")


def test_ids_are_those_of_paid_calls() -> None:
    drawn = {"temperature": 0.7, "top_p": 1.0, "seed": None}
    messages = [{"role": "user", "content": "Grüße, 世界"}]
    assert make_id("call", "teacher", messages, drawn) == "f19c691da4adb451232d8103824be19d"
