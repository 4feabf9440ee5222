"""Held-out items with small edits are found, and rows of the same subject are not, as docs/quality.md says."""

import pytest

from tests.bench.held_out import held_out_items, measure, other_items
from tests.support.doc_tables import read_table
from warehouse.errors import AssetError
from warehouse.inputs import assets


@pytest.mark.parametrize(
    ("items", "seed", "column"),
    [
        pytest.param(held_out_items, 0, 1, id="136 items"),
        pytest.param(other_items, 7, 3, id="301 others", marks=pytest.mark.slow),
    ],
)
def test_the_figures_are_those_of_the_documentation(items, seed, column):
    try:
        for name in ("sciq", "boolq"):
            assets.path(name)
    except AssetError as error:
        pytest.skip(str(error))
    claimed = {name: row[column] for name, row in read_table("quality.md", "edit").items()}
    measured = {
        kind: f"{matched} of {rows:,}" if kind.startswith("unrelated") else f"{matched / rows:.3f}"
        for kind, rows, matched in measure(items(), seed)
    }
    assert measured == claimed
