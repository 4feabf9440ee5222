"""Held-out items with small edits are found, and rows of the same subject are not."""

import pytest

from tests.bench.held_out import held_out_items, measure
from warehouse.errors import AssetError
from warehouse.inputs import assets


@pytest.fixture(scope="module")
def measured():
    try:
        for name in ("sciq", "boolq"):
            assets.path(name)
    except AssetError as error:
        pytest.skip(str(error))
    return {kind: (rows, matched) for kind, rows, matched in measure(held_out_items())}


def test_edited_items_are_found(measured):
    for kind, (rows, matched) in measured.items():
        if kind != "unrelated":
            assert rows >= 120 and matched >= 0.9 * rows, kind


def test_what_is_of_the_same_subject_is_not(measured):
    rows, matched = measured["unrelated"]
    assert rows >= 1000
    assert matched <= 7  # read one by one, each repeats a held-out item
